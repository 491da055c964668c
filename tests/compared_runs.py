"""A store with a comparison of the four strategies under a fault, for tests of what compares runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dashboard.comparison import STRATEGY_NAMES
from dashboard.stored_count import note_of
from eventbus import AckStrategy, BusEvent, EventKind, LatencyHistogram
from eventbus.observe import RunEditor, RunStatus, Sample, StoreWriter
from tests.dashboard_fakes import START_S
from tests.stored_runs import course

WHEN = "2026-01-02 03:04:05"
SECONDS = 15


def blind(sample: Sample) -> Sample:
    """The same of a run without acks."""
    now = sample.snapshot
    unseen = replace(now, accepted=0, acked=0, pending=0, unacknowledged=now.accepted, latency=LatencyHistogram())
    return replace(sample, snapshot=unseen, scheduled=LatencyHistogram())


def measured(
    path: Path,
    *,
    stored: Sequence[int | None] = (3_000, 3_000, 1_200, 2_900),
    memory_mib: Sequence[float | None] = (4, 20, 1, 1),
    rate_of_waiting: int = 80,
    status: RunStatus | None = RunStatus.FINISHED,
) -> Path:
    """The store: 18 messages stay unknown in each of the first two runs, in an outage from the 10th to the 13th second.

    stored: what the broker counted of each. memory_mib: by how much memory grew. Both None where it is not known.
    status: None for runs that were interrupted.
    """
    writer = StoreWriter(path)
    ids = []
    for place, (strategy, label) in enumerate(STRATEGY_NAMES.items()):
        start_s, waits = START_S + 100 * place, strategy is AckStrategy.WAIT_EACH
        run_id = writer.begin_run(
            url="nats://127.0.0.1:4222", topic="t", name=f"{label}, {WHEN}", started_wall_s=start_s, pid=0,
            settings={"strategy": str(strategy), "embedded": "nats", "workers": 2 if waits else None},
        )  # fmt: skip
        ids.append(run_id)
        rate = rate_of_waiting if waits else 200
        for sample in course(seconds=SECONDS, rate=rate, outage=place < 2, start_s=start_s):
            told = replace(sample, resident_bytes=_resident(memory_mib[place], sample.elapsed_s))
            writer.sample(run_id, blind(told) if strategy is AckStrategy.IGNORE else told)
        writer.event(run_id, BusEvent(start_s + 10.0, EventKind.FAULT_BEGAN, "Freeze the broker: begun, for 3 s"))
        healed = BusEvent(start_s + 13.0 + place / 10, EventKind.FAULT_ENDED, "Freeze the broker: undone after 3.0 s")
        writer.event(run_id, healed)
        if status is not None:
            report = _report(strategy, rate * SECONDS, failed=18 if place < 2 else 0)
            writer.end_run(run_id, status=status, ended_wall_s=start_s + SECONDS, report=report)
    assert writer.close(30)
    for run_id, count in zip(ids, stored, strict=True):
        if count is not None:
            RunEditor(path).note(run_id, note_of(count))
    return path


def _resident(grows_mib: float | None, elapsed_s: float) -> int | None:
    if grows_mib is None:
        return None
    return 50 * 2**20 + (0 if elapsed_s < 10 else round(grows_mib * 2**20))


def _report(strategy: AckStrategy, sent: int, failed: int) -> dict[str, int]:
    if strategy is AckStrategy.IGNORE:
        return {"acked": 0, "unknown": 0, "unacknowledged": sent}
    return {"acked": sent - failed, "unknown": failed, "unacknowledged": 0}
