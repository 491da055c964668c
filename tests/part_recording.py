"""A part of a load that writes every single latency to a file: ``python part_recording.py FOLDER``, instead of the
module that a part is otherwise."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from eventbus import AckOutcome, BusEvent, DeliveryReport, EventBus, LatencyHistogram, part_command
from eventbus.latency import LatencyCounter
from eventbus.load import scheduled_latency
from eventbus.load.plan import LoadPlan
from eventbus.load_bus import connect_plan
from eventbus.ports import Observer, Witness

acked_ns: list[int] = []
scheduled_ns: list[int] = []
first_wall_s: list[float] = []


class EveryReport:
    """Implements ports.Observer."""

    every_outcome = True

    def settled(self, reports: Sequence[DeliveryReport]) -> None:
        first_wall_s[1:] = []
        first_wall_s.append(time.time())
        acked_ns.extend(
            round(report.ack_latency_s * 1e9)
            for report in reports
            if report.outcome is AckOutcome.ACKED and report.ack_latency_s is not None
        )

    def happened(self, event: BusEvent) -> None:
        """Not recorded."""


class RecordedCounter(LatencyCounter):
    def add(self, latencies_ns: Sequence[int]) -> None:
        scheduled_ns.extend(latencies_ns)
        super().add(latencies_ns)


async def connect_recorded(plan: LoadPlan, *, observers: Sequence[Observer], witness: Witness | None) -> EventBus:
    return await connect_plan(plan, observers=(*observers, EveryReport()), witness=witness)


def recorded(folder: Path, name: str) -> LatencyHistogram:
    """Of all the latencies that the parts wrote there."""
    parts = [json.loads(path.read_text()) for path in folder.glob("*.json")]
    return LatencyHistogram.of(ns for part in parts for ns in part[name])


def begins(folder: Path) -> list[float]:
    """When each part heard of its first outcome."""
    return [json.loads(path.read_text())["begin"][0] for path in folder.glob("*.json")]


def main(folder: Path) -> None:
    scheduled_latency.LatencyCounter = RecordedCounter  # type: ignore[attr-defined]
    part_command.connect_plan = connect_recorded  # type: ignore[attr-defined]
    try:
        part_command.part.main([], standalone_mode=False)
    finally:
        told = {"acked": acked_ns, "scheduled": scheduled_ns, "begin": first_wall_s}
        (folder / f"{os.getpid()}.json").write_text(json.dumps(told))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
