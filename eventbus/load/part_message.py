"""What a part of a load and its coordinator say to each other, as plain values: one JSON object a line.

The coordinator says (part.py carries it out):

    {"cmd": "open", "plan": {...}}                     first of all: the share of the plan, by LoadPlan.to_dict
    {"cmd": "go", "at_wall_s": ...}                    once: begin to send at this time
    {"cmd": "set", "rate": ...} or {... "shape": ...}  go on with this part's share of another rate or shape
    {"cmd": "stop", "drain_s": ...}                    send nothing more

A part says (fleet_part.py hears it), at least once a second, or it counts as lost:

    {"event": "ready", "version": ...}                 the program is there
    {"event": "alive"}                                 while there is nothing else to say
    {"event": "opened", "url": ..., "broker": ...}     connected, and its topics are set up; or
    {"event": "refused", "error": {...}}               it cannot; nothing was sent, and the part ends
    {"event": "sample", "sample": {...}}               each 0.25 s, cumulative: a newer one replaces those before
    {"event": "happened", "event_of_bus": {...}}
    {"event": "failed", "messages": [...], "groups": [...]}   those since the last time; groups count all of them
    {"event": "draining"}
    {"event": "ended", "result": {...}, "sample": {...}}      the last line
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from eventbus.errors import ConfigError, ConnectFailed, ErrorClass, ErrorKind, EventBusError, TopicError
from eventbus.event import BusEvent, EventKind
from eventbus.latency import LatencyHistogram
from eventbus.load.run import RunResult
from eventbus.observe.run import FailedMessage, FailureGroup, RunStatus, Sample
from eventbus.report import CloseReport
from eventbus.snapshot import BusSnapshot

MAX_LINE_BYTES = 64 * 1024 * 1024
"""A plan may carry a template of 1 MiB and 10,000 topics; a line beyond this is none of ours."""

SPEAKS_EACH_S = 1.0
"""A part says something at least that often, from its first moment."""


@dataclass(frozen=True, slots=True)
class PartResult:
    """What became of one part; the names are those of RunResult."""

    status: RunStatus
    offered: int
    refused: int
    refusal: str | None
    sending_s: float
    schedule_lag_s: float
    report: CloseReport
    error: str | None

    @classmethod
    def of(cls, result: RunResult) -> PartResult:
        """What the coordinator needs beside the last sample."""
        return cls(
            status=result.status,
            offered=result.offered,
            refused=result.refused,
            refusal=result.refusal,
            sending_s=result.sending_s,
            schedule_lag_s=result.schedule_lag_s,
            report=result.report,
            error=result.error,
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "status": str(self.status)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> PartResult:
        """The inverse of ``to_dict``."""
        return cls(**{**data, "status": RunStatus(data["status"]), "report": CloseReport(**data["report"])})


def sample_to_dict(sample: Sample) -> dict[str, Any]:
    """Plain values for JSON."""
    return {
        "wall_s": sample.wall_s,
        "elapsed_s": sample.elapsed_s,
        "offered": sample.offered,
        "target_rate": sample.target_rate,
        "snapshot": sample.snapshot.to_dict(),
        "loop_lag_s": sample.loop_lag_s,
        "schedule_lag_s": sample.schedule_lag_s,
        "scheduled": sample.scheduled.to_dict(),
        "warming_up": sample.warming_up,
        "resident_bytes": sample.resident_bytes,
        "store_delay_s": sample.store_delay_s,
        "round_trip_s": sample.round_trip_s,
    }


def sample_from_dict(data: Mapping[str, Any]) -> Sample:
    """The inverse of ``sample_to_dict``."""
    return Sample(
        **{
            **data,
            "snapshot": BusSnapshot.from_dict(data["snapshot"]),
            "scheduled": LatencyHistogram.from_dict(data["scheduled"]),
        }
    )


def event_to_dict(event: BusEvent) -> dict[str, Any]:
    """Plain values for JSON."""
    return {"wall_s": event.wall_s, "kind": str(event.kind), "text": event.text}


def event_from_dict(data: Mapping[str, Any]) -> BusEvent:
    """The inverse of ``event_to_dict``."""
    return BusEvent(float(data["wall_s"]), EventKind(data["kind"]), str(data["text"]))


def failed_to_dict(messages: Iterable[FailedMessage], groups: Iterable[FailureGroup]) -> dict[str, Any]:
    """Plain values for JSON."""
    return {"messages": [asdict(message) for message in messages], "groups": [asdict(group) for group in groups]}


def failed_from_dict(data: Mapping[str, Any]) -> tuple[list[FailedMessage], list[FailureGroup]]:
    """The inverse of ``failed_to_dict``."""
    return [FailedMessage(**one) for one in data["messages"]], [FailureGroup(**one) for one in data["groups"]]


def error_to_dict(error: EventBusError) -> dict[str, Any]:
    """Plain values for JSON: what ``open`` raised."""
    text = " ".join(str(error).split())
    if isinstance(error, TopicError):
        return {"type": "topic", "text": text, "error_class": str(error.error_class), "kind": str(error.kind)}
    return {"type": "config" if isinstance(error, ConfigError) else "connect", "text": text}


def error_from_dict(data: Mapping[str, Any], where: str) -> EventBusError:
    """The error that a part had, saying where: ConfigError, TopicError, or else ConnectFailed."""
    text = f"{data['text']} (in {where})"
    if data["type"] == "topic":
        return TopicError(text, error_class=ErrorClass(data["error_class"]), kind=ErrorKind(data["kind"]))
    return ConfigError(text) if data["type"] == "config" else ConnectFailed(text)
