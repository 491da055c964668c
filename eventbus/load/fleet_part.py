"""FleetPart: one part of a load as its coordinator sees it: what it said last, how it ended, or that it is lost."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from eventbus.errors import EventBusError
from eventbus.event import BusEvent
from eventbus.load.part_message import (
    PartResult,
    error_from_dict,
    event_from_dict,
    failed_from_dict,
    sample_from_dict,
)
from eventbus.load.plan import LoadPlan
from eventbus.observe.run import FailedMessage, FailureGroup, Sample
from eventbus.report import CloseReport
from eventbus.snapshot import BusSnapshot, ConnectionState


@dataclass(frozen=True, slots=True)
class Listener:
    """Who is told of a part. changed: something that the fleet may wait for. All on the loop; they must not raise."""

    changed: Callable[[], None]
    happened: Callable[[BusEvent], None]
    failed: Callable[[Sequence[FailedMessage], Sequence[FailureGroup]], None]


class FleetPart:
    """share: of the plan. name: for people, as "process 2 of 4". version: of this program, which the part's must be.

    State: changed by ``hear`` and ``lose`` alone. A part that is over is never changed again.
    """

    def __init__(self, share: LoadPlan, name: str, version: str, listener: Listener, now_s: float) -> None:
        self.share = share
        self.name = name
        self._version = version
        self._listener = listener
        self.ready = self.draining = False
        self.url = self.broker = ""
        self.newest: Sample | None = None
        self.result: PartResult | None = None
        self.refused: EventBusError | None = None
        self.lost: str | None = None
        self.heard_s = now_s
        self._sampled_s = now_s
        self._old_s = 0.0
        self._loop_lag_s = self._schedule_lag_s = 0.0

    @property
    def opened(self) -> bool:
        """True once it is connected and could send."""
        return bool(self.url)

    @property
    def over(self) -> bool:
        """True once nothing more can come of it."""
        return self.result is not None or self.refused is not None or self.lost is not None

    def hear(self, line: bytes, now_s: float) -> None:
        """One line that it said. What is no JSON object is no line of it but something that a library printed."""
        if self.over:
            return
        try:
            message = json.loads(line)
            event = message["event"]
        except (ValueError, TypeError, KeyError):
            return
        self.heard_s = now_s
        try:
            self._understand(event, message, now_s)
        except (ValueError, TypeError, KeyError) as error:
            self.lose(f"said what cannot be understood ({type(error).__name__}: {error})", now_s)

    def lose(self, how: str, now_s: float) -> None:
        """It is gone, or counts as gone; how: in words that follow its name."""
        if not self.over:
            self.lost = " ".join(how.split())
            self._old_s = now_s - self._sampled_s
            self._listener.changed()

    def _understand(self, event: str, message: Mapping[str, Any], now_s: float) -> None:
        match event:
            case "ready":
                self.ready = True
                theirs = message["version"]
                if theirs != self._version:
                    self.lose(f"has version {theirs or '?'} of AckScope, and this is {self._version}", now_s)
            case "opened":
                self.url, self.broker = str(message["url"]), str(message["broker"])
            case "refused":
                self.refused = error_from_dict(message["error"], self.name)
            case "sample":
                self._sampled(sample_from_dict(message["sample"]), now_s)
                return
            case "happened":
                event_of_bus = event_from_dict(message["event_of_bus"])
                self._listener.happened(replace(event_of_bus, text=f"{self.name}: {event_of_bus.text}"))
                return
            case "failed":
                self._listener.failed(*failed_from_dict(message))
                return
            case "draining":
                self.draining = True
            case "ended":
                if message["sample"] is not None:
                    self._sampled(sample_from_dict(message["sample"]), now_s)
                self.result = PartResult.from_dict(message["result"])
            case _:
                return
        self._listener.changed()

    def _sampled(self, sample: Sample, now_s: float) -> None:
        self.newest = sample
        self._sampled_s = now_s
        self._old_s = 0.0
        self._loop_lag_s = max(self._loop_lag_s, sample.loop_lag_s)
        self._schedule_lag_s = max(self._schedule_lag_s, sample.schedule_lag_s)

    # ---- figures -----------------------------------------------------------------------------------------------

    @property
    def snapshot(self) -> BusSnapshot:
        """As it was told last. Where the part is lost, what was pending then counts as unknown: it may be stored."""
        if self.newest is None:
            state = ConnectionState.CONNECTED if self.opened else ConnectionState.CONNECTING
            state = ConnectionState.CLOSED if self.over else state
            return BusSnapshot("", 0.0, 0.0, state, max_pending=self.share.max_pending)
        snapshot = self.newest.snapshot
        if self.lost is None:
            return snapshot
        return replace(
            snapshot,
            connection=ConnectionState.CLOSED,
            unknown=snapshot.unknown + snapshot.pending,
            pending=0,
            pending_bytes=0,
            oldest_pending_age_s=0.0,
            waiting_publishers=0,
        )

    @property
    def target_rate(self) -> float | None:
        """Messages per second; None without limit. 0 where it is lost."""
        if self.lost is not None:
            return 0.0
        if self.newest is not None:
            return self.newest.target_rate
        return self.share.rate if self.share.shape is None else self.share.shape.rate_at(0.0)

    @property
    def warming_up(self) -> bool:
        """Whether what it counts is not judged yet."""
        if self.lost is not None or not self.share.warm_up_s:
            return False
        return self.newest is None or self.newest.warming_up

    def take_lags(self) -> tuple[float, float]:
        """The largest lag of its loop and of its schedule in seconds since the last call."""
        lags = self._loop_lag_s, self._schedule_lag_s
        self._loop_lag_s = self._schedule_lag_s = 0.0
        return lags

    @property
    def report(self) -> CloseReport:
        """What its bus left; of a lost one, as far as is known."""
        if self.result is not None:
            return self.result.report
        snapshot = self.snapshot
        return CloseReport(
            accepted=snapshot.accepted,
            acked=snapshot.acked,
            duplicates=snapshot.duplicates,
            late_acks=snapshot.late_acks,
            rejected=snapshot.rejected,
            unknown=snapshot.unknown,
            unacknowledged=snapshot.unacknowledged,
            left_unknown=0 if self.newest is None else self.newest.snapshot.pending,
            left_unsent=0,
            duration_s=0.0,
            timed_out=True,
        )

    @property
    def trouble(self) -> str | None:
        """Why the run cannot be called a success because of it; None where it can."""
        if self.refused is not None:
            return str(self.refused)
        if self.lost is None:
            return None if self.result is None or not self.result.error else f"{self.name}: {self.result.error}"
        if self.newest is None:
            return f"{self.name} {self.lost}, before it had told a figure; what it sent is not counted"
        left = self.newest.snapshot.pending
        return (
            f"{self.name} {self.lost}; its figures are {self._old_s:.1f} s old: the {left:,} messages that were "
            "pending then count as unknown, and what it did afterwards is not counted"
        )
