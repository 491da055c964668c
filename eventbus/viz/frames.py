"""Tidy frames of a run: one row an observation, times in UTC, units in the names, words as categories.

Rows are plain dicts, which CSV and JSON are written from; a pandas frame is made of them only where one is asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from eventbus.errors import ConfigError, ErrorKind
from eventbus.event import BusEvent, EventKind
from eventbus.latency import LatencyHistogram, bucket_bounds_ns
from eventbus.observe.run import AlertChange, FailedMessage, FailureGroup, Sample
from eventbus.snapshot import ConnectionState
from eventbus.viz.steps import BEGINNING, COUNTERS, Step, steps

if TYPE_CHECKING:
    import pandas as pd

Row = dict[str, Any]

PERCENTILES = (50, 95, 99, 99.9)
OUTCOMES = ("acked", "duplicate", "acked late", "rejected", "unknown")
"""In the order in which they are stacked. Each acked message is in one of the first three."""

_CATEGORIES: Mapping[str, Sequence[str]] = {
    "outcome": OUTCOMES,
    "connection": [str(state) for state in ConnectionState],
    "kind": list(dict.fromkeys(["", *map(str, ErrorKind), *map(str, EventKind)])),
    "severity": ("info", "warning", "critical"),
}
"""Columns of words, and their order; words that are not known come after."""


def series_rows(course: Iterable[Step]) -> list[Row]:
    """A row a step: counts of what came in it, rates, gauges, percentiles."""
    return [_series_row(step) for step in course]


def _series_row(step: Step) -> Row:
    row: Row = {
        "time": _utc(step.wall_s),
        "elapsed_s": step.end_s,
        "step_s": step.span_s,
        "warming_up": step.warming_up,
        "connection": str(step.connection),
        "target_rate_per_s": step.target_rate,
        "offered": step.offered,
        **{name: step.counts[name] for name in COUNTERS},
        "offered_per_s": step.per_second(step.offered),
        "sent_per_s": step.per_second(step.sent),
        "acked_per_s": step.per_second(step.counts["acked"]),
        "failed_ratio": step.failed_ratio,
        "pending": step.pending,
        "pending_max": step.pending_max,
        "pending_bytes": step.pending_bytes,
        "window_limit": step.max_pending,
        "waiting_publishers_max": step.waiting_publishers_max,
        "oldest_pending_age_max_s": step.oldest_pending_age_max_s,
        "stalled_s": step.stalled_s,
        "loop_lag_max_s": step.loop_lag_max_s,
        "schedule_lag_max_s": step.schedule_lag_max_s,
    }
    for name, histogram in (("ack", step.ack), ("scheduled", step.scheduled)):
        for percent in PERCENTILES:
            row[f"{name}_latency_p{percent:g}_s".replace(".", "")] = histogram.percentile_s(percent)
    return row


def outcome_rows(course: Iterable[Step]) -> list[Row]:
    """A row a step and outcome: messages that ended so."""
    rows = []
    for step in course:
        for outcome, messages in outcomes(step).items():
            rows.append(
                {
                    "time": _utc(step.wall_s),
                    "elapsed_s": step.end_s,
                    "outcome": outcome,
                    "messages": messages,
                    "messages_per_s": step.per_second(messages),
                }
            )
    return rows


def outcomes(step: Step) -> dict[str, int]:
    """Messages by OUTCOMES."""
    counts = step.counts
    plain = counts["acked"] - counts["duplicates"] - counts["late_acks"]
    values = (max(0, plain), counts["duplicates"], counts["late_acks"], counts["rejected"], counts["unknown"])
    return dict(zip(OUTCOMES, values, strict=True))


def error_rows(course: Iterable[Step]) -> list[Row]:
    """A row a step and kind of error that was seen in it: failed attempts, repeated ones included."""
    return [
        {
            "time": _utc(step.wall_s),
            "elapsed_s": step.end_s,
            "kind": kind,
            "attempts": count,
            "attempts_per_s": step.per_second(count),
        }
        for step in course
        for kind, count in step.errors.items()
    ]


def latency_rows(histogram: LatencyHistogram) -> list[Row]:
    """A row a bucket: its bounds, its messages, and the share of messages up to its end."""
    rows, seen = [], 0
    for index, count in histogram.counts.items():
        lower, upper = bucket_bounds_ns(index)
        seen += count
        rows.append(
            {
                "from_s": lower / 1e9,
                "below_s": upper / 1e9,
                "messages": count,
                "share": count / histogram.total,
                "cumulative_share": seen / histogram.total,
            }
        )
    return rows


def failed_rows(failed: Iterable[FailedMessage]) -> list[Row]:
    """A row a failed message that was kept."""
    rows = []
    for message in failed:
        values = asdict(message)
        kind = values.pop("error_kind")
        values["outcome"] = "acked late" if values.pop("late") else message.outcome
        rows.append({"time": _utc(values.pop("wall_s")), **values, "kind": kind or ""})
    return rows


def failure_rows(groups: Sequence[FailureGroup]) -> list[Row]:
    """A row a group of failures. share: of all failures."""
    total = sum(group.count for group in groups)
    return [
        {
            "kind": group.kind,
            "topic": group.topic,
            "outcome": group.outcome,
            "text": group.text,
            "messages": group.count,
            "share": group.count / total,
            "first": _utc(group.first_wall_s),
            "last": _utc(group.last_wall_s),
            "message_id": group.message_id,
            "trace_id": group.trace_id,
        }
        for group in groups
    ]


def event_rows(events: Iterable[BusEvent], started_wall_s: float) -> list[Row]:
    """A row an event."""
    return [
        {
            "time": _utc(event.wall_s),
            "elapsed_s": event.wall_s - started_wall_s,
            "kind": str(event.kind),
            "text": event.text,
        }
        for event in events
    ]


def alert_rows(alerts: Iterable[AlertChange], started_wall_s: float) -> list[Row]:
    """A row a change of an alert."""
    rows = []
    for change in alerts:
        values = asdict(change)
        wall_s, labels = values.pop("wall_s"), values.pop("labels")
        told = ", ".join(f"{name}={value}" for name, value in sorted(labels.items()))
        rows.append({"time": _utc(wall_s), "elapsed_s": wall_s - started_wall_s, **values, "labels": told})
    return rows


def frame(rows: Sequence[Row], like: Sequence[Row] = ()) -> pd.DataFrame:
    """Rows as a pandas frame. like: a row whose columns it has where there are no rows. ConfigError without pandas."""
    pandas = _pandas()
    made: pd.DataFrame = pandas.DataFrame(rows or like)
    for column, order in _CATEGORIES.items():
        if column in made:
            known = [word for word in order if word in set(made[column])]
            more = sorted(set(made[column]) - set(known))
            made[column] = pandas.Categorical(made[column], categories=[*known, *more])
    return made if rows else made.iloc[:0]


def specimen(what: str) -> Row:
    """A row of ``frames`` of that name, for its columns."""
    empty = LatencyHistogram.of([1])
    step = next(steps([Sample(0.0, 1.0, 0, None, replace(BEGINNING, errors={"timeout": 1}))], 1.0))
    match what:
        case "series":
            return series_rows([step])[0]
        case "outcomes":
            return outcome_rows([step])[0]
        case "errors":
            return error_rows([step])[0]
        case "latency" | "scheduled":
            return latency_rows(empty)[0]
        case "failures":
            return failure_rows([FailureGroup("", "", "", "", 1, 0.0, 0.0, "")])[0]
        case "failed":
            return failed_rows([FailedMessage(0.0, "", "", "", False, 0, "", "", "")])[0]
        case "events":
            return event_rows([BusEvent(0.0, EventKind.CLOSED, "")], 0.0)[0]
        case _:
            return alert_rows([AlertChange(0.0, "", False, 0.0, 0.0)], 0.0)[0]


def _pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ConfigError(f'a frame needs {error.name or error}; pip install "ackscope[runs]"') from None
    return pandas


def _utc(wall_s: float) -> datetime:
    return datetime.fromtimestamp(wall_s, UTC)
