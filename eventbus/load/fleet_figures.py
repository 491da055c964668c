"""FleetFigures: the figures of all parts as those of one run, from the newest sample of each."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce

from eventbus.latency import LatencyHistogram
from eventbus.load.fleet_part import FleetPart
from eventbus.observe import Sample
from eventbus.ports import Clock
from eventbus.report import CloseReport
from eventbus.snapshot import BusSnapshot


class FleetFigures:
    """parts: at least one. Counts and histograms are added, exactly; parts are up to 0.25 s apart while they run."""

    def __init__(self, parts: Sequence[FleetPart], clock: Clock) -> None:
        self._parts = parts
        self._clock = clock
        self._id = secrets.token_hex(6)
        self._lags_s = (0.0, 0.0)
        self.most_lag_s = 0.0
        """The longest that a message was sent after its time, after the warm-up."""

    def snapshot(self) -> BusSnapshot:
        """Of all buses together, now by this clock."""
        merged = reduce(BusSnapshot.merged, (part.snapshot for part in self._parts))
        now_s = self._clock.monotonic_ns() / 1e9
        return replace(merged, bus_id=self._id, monotonic_s=now_s, wall_s=self._clock.wall_s())

    def load(self) -> tuple[int, float | None]:
        """Messages offered so far, and the target rate; None where a part has no limit."""
        rates = [part.target_rate for part in self._parts]
        limited = [rate for rate in rates if rate is not None]
        rate = sum(limited) if len(limited) == len(rates) else None
        return sum(part.newest.offered for part in self._parts if part.newest is not None), rate

    def take_loop_lag(self) -> float:
        """The largest lag of a part's event loop since the last call, in seconds."""
        lags = [part.take_lags() for part in self._parts]
        self._lags_s = max(loop_s for loop_s, _ in lags), max(schedule_s for _, schedule_s in lags)
        return self._lags_s[0]

    def whole(self, sample: Sample) -> Sample:
        """With what a sampler does not know: the schedule, and the processes of all parts but lost ones. After
        ``take_loop_lag``, as the sampler has it."""
        warming_up = any(part.warming_up for part in self._parts)
        lag_s = self._lags_s[1]
        if not warming_up:
            self.most_lag_s = max(self.most_lag_s, lag_s)
        told = [part.newest for part in self._parts if part.newest is not None and part.lost is None]
        memory = [one.resident_bytes for one in told if one.resident_bytes is not None]
        return replace(
            sample,
            schedule_lag_s=lag_s,
            scheduled=self.scheduled(),
            warming_up=warming_up,
            resident_bytes=sum(memory) if memory else None,
            store_delay_s=max((one.store_delay_s for one in told if one.store_delay_s is not None), default=None),
            round_trip_s=max((one.round_trip_s for one in told if one.round_trip_s is not None), default=None),
        )

    def scheduled(self) -> LatencyHistogram:
        """Latency from the scheduled times."""
        told = (part.newest.scheduled for part in self._parts if part.newest is not None)
        return reduce(LatencyHistogram.merged, told, LatencyHistogram())

    def report(self) -> CloseReport:
        """What all buses left; how long the slowest took to close."""
        reports = [part.report for part in self._parts]
        return CloseReport(
            accepted=sum(report.accepted for report in reports),
            acked=sum(report.acked for report in reports),
            duplicates=sum(report.duplicates for report in reports),
            late_acks=sum(report.late_acks for report in reports),
            rejected=sum(report.rejected for report in reports),
            unknown=sum(report.unknown for report in reports),
            unacknowledged=sum(report.unacknowledged for report in reports),
            left_unknown=sum(report.left_unknown for report in reports),
            left_unsent=sum(report.left_unsent for report in reports),
            duration_s=max(report.duration_s for report in reports),
            timed_out=any(report.timed_out for report in reports),
        )
