"""A run source, a control and samples in memory, for the dashboard's tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from dashboard.broker import NAMES, SYSTEMS, BrokerState, BrokerStatus
from dashboard.control import LoadSettings, LoadStatus, Phase
from dashboard.process import LoadRefused
from eventbus import BusEvent, BusSnapshot, ConnectionState, LatencyHistogram
from eventbus.observe import AlertChange, FailedMessage, FailureGroup, RunInfo, RunStatus, Sample, StoreError

START_S = 1_700_000_000.0
MAX_PENDING = 10_000


def sample(elapsed_s: float, *, rate: float = 1000.0, target_rate: float | None = 1000.0, **counts: Any) -> Sample:
    """A sample of a steady run: ``rate`` acks a second, each after 1 ms; ``counts`` change single figures."""
    acked = round(elapsed_s * rate)
    figures = {"accepted": acked, "acked": acked, "max_pending": MAX_PENDING} | counts
    return Sample(
        wall_s=START_S + elapsed_s,
        elapsed_s=elapsed_s,
        offered=acked,
        target_rate=target_rate,
        snapshot=BusSnapshot(
            bus_id="bus",
            monotonic_s=elapsed_s,
            wall_s=START_S + elapsed_s,
            connection=ConnectionState.CONNECTED,
            latency=LatencyHistogram.of([1_000_000] * acked),
            **figures,
        ),
    )


def steady(seconds: float, **changes: Any) -> list[Sample]:
    """Four samples a second from 0 to ``seconds``."""
    return [sample(quarter / 4, **changes) for quarter in range(round(seconds * 4) + 1)]


def run_info(status: RunStatus = RunStatus.RUNNING, **changes: Any) -> RunInfo:
    values: dict[str, Any] = {
        "run_id": "run-1",
        "started_wall_s": START_S,
        "ended_wall_s": START_S + 10 if status.is_over and status is not RunStatus.INTERRUPTED else None,
        "status": status,
        "url": "nats://127.0.0.1:4222",
        "topic": "demo.events",
        "settings": {"ack_timeout_s": 5.0, "payload_size": 128, "replay": None},
        "pid": 1,
    }
    return RunInfo(**values | changes)


class MemorySource:
    """A RunSource that holds one run, or none, or cannot be read."""

    def __init__(
        self,
        run: RunInfo | None = None,
        samples: Sequence[Sample] = (),
        *,
        events: Sequence[BusEvent] = (),
        failed: Sequence[FailedMessage] = (),
        alerts: Sequence[AlertChange] = (),
        trouble: str | None = None,
        groups: Sequence[FailureGroup] = (),
    ) -> None:
        self.run = run
        self.groups = groups
        self.kept = list(samples)
        self.told_events, self.told_failed, self.told_alerts = events, failed, alerts
        self.trouble = trouble
        self.asked: list[tuple[float | None, int]] = []

    def runs(self, limit: int = 50) -> Sequence[RunInfo]:
        if self.trouble is not None:
            raise StoreError(self.trouble)
        return [] if self.run is None else [self.run]

    def samples(self, run_id: str, since_wall_s: float | None = None, limit: int = 5000) -> Sequence[Sample]:
        self.asked.append((since_wall_s, limit))
        return [one for one in self.kept if since_wall_s is None or one.wall_s > since_wall_s][-limit:]

    def coarse_samples(self, run_id: str, most: int = 360, until_wall_s: float | None = None) -> Sequence[Sample]:
        found = [one for one in self.kept if until_wall_s is None or one.wall_s <= until_wall_s][::40]
        return found[:: max(1, -(-len(found) // most))]

    def events(self, run_id: str, limit: int = 500) -> Sequence[BusEvent]:
        return self.told_events

    def failed(self, run_id: str, limit: int = 500) -> Sequence[FailedMessage]:
        return self.told_failed

    def alerts(self, run_id: str) -> Sequence[AlertChange]:
        return self.told_alerts

    def failure_groups(self, run_id: str) -> Sequence[FailureGroup]:
        return self.groups

    def each_sample(self, run_id: str, since_wall_s: float | None = None, limit: int | None = None) -> Iterator[Sample]:
        return iter([one for one in self.kept if since_wall_s is None or one.wall_s > since_wall_s][-(limit or 0) :])


class StubControl:
    """A control that notes what it was asked for, and who holds the controls; ``refusal`` makes a start fail."""

    def __init__(self, status: LoadStatus | None = None, *, refusal: str | None = None) -> None:
        self.now = status or LoadStatus()
        self.refusal = refusal
        self.started: list[LoadSettings] = []
        self.rates: list[float] = []
        self.stops = 0

    def status(self) -> LoadStatus:
        return self.now

    def broker_status(self, url: str) -> BrokerStatus | None:
        system = SYSTEMS.get(url)
        return None if system is None else BrokerStatus(BrokerState.READY, NAMES[system], f"{system}://127.0.0.1:4222")

    def start(self, settings: LoadSettings) -> str:
        if self.refusal is not None:
            self.now = LoadStatus(error=self.refusal)
            raise LoadRefused(self.refusal)
        self.started.append(settings)
        self.now = LoadStatus(Phase.RUNNING, "run-1", settings.rate)
        return "run-1"

    def take(self, by: str, by_name: str = "") -> None:
        self.now = replace(self.now, by=by, by_name=by_name)

    def set_rate(self, rate: float) -> None:
        self.rates.append(rate)
        self.now = LoadStatus(self.now.phase, self.now.run_id, rate)

    def stop(self) -> None:
        self.stops += 1
        self.now = LoadStatus(Phase.STOPPING, "run-1", self.now.rate)
