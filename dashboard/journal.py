"""What happened in a run, told for people: its events in order, the alerts that fire now, failures in groups. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dashboard import style
from dashboard.rates import Edit
from eventbus import BusEvent, EventKind
from eventbus.observe.run import AlertChange, FailedMessage, RunInfo, RunStatus

_MARKS = {
    EventKind.CONNECTED: "✓",
    EventKind.DISCONNECTED: "✗",
    EventKind.DENIED: "✗",
    EventKind.PRODUCER_REPLACED: "⚠",
    EventKind.TOPIC_FAILED: "✗",
    EventKind.TOPIC_WARNING: "⚠",
    EventKind.PAUSED: "‖",
    EventKind.RESUMED: "▶",
}
_ENDS = {
    RunStatus.FINISHED: ("✓", "Finished", "the run came to its end as planned"),
    RunStatus.STOPPED: ("■", "Stopped", "ended by hand"),
    RunStatus.FAILED: ("✗", "Failed", "ended by an error"),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the journal: when, a sign and a word for what it is, and a sentence."""

    wall_s: float
    sign: str
    word: str
    text: str


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Messages that failed alike. sample_id: the id of the newest."""

    outcome: str
    kind: str
    text: str
    count: int
    first_wall_s: float
    last_wall_s: float
    most_attempts: int
    sample_id: str


def entries(
    run: RunInfo, events: Sequence[BusEvent], alerts: Sequence[AlertChange], edits: Sequence[Edit]
) -> list[Entry]:
    """Everything that happened in a run, newest first."""
    told = [Entry(run.started_wall_s, "▶", "Start", f"{run.topic} on {run.url}")]
    told += [
        Entry(event.wall_s, _MARKS.get(event.kind, "•"), style.words(str(event.kind)).capitalize(), event.text)
        for event in events
    ]
    told += [
        Entry(
            edit.wall_s,
            "✎",
            "Rate",
            "as fast as the window lets" if edit.rate is None else f"{style.rate(edit.rate)} from now on",
        )
        for edit in edits
    ]
    told += [
        Entry(alert.wall_s, "⚠", "Alert", alert.text or alert.rule)
        if alert.firing
        else Entry(alert.wall_s, "✓", "Alert over", style.words(alert.rule).capitalize())
        for alert in alerts
    ]
    if run.ended_wall_s is not None and run.status in _ENDS:
        sign, word, text = _ENDS[run.status]
        told.append(Entry(run.ended_wall_s, sign, word, run.error or text))
    return sorted(told, key=lambda entry: entry.wall_s, reverse=True)


def headline(alert: AlertChange) -> str:
    """An alert in a few words: ``Pending above 5,000``."""
    return f"{style.words(alert.rule).capitalize()} above {style.level(alert.threshold)}"


def firing(alerts: Sequence[AlertChange]) -> list[AlertChange]:
    """Those whose last change was to fire, in the order of their beginning."""
    last = {alert.rule: alert for alert in alerts}
    return sorted((alert for alert in last.values() if alert.firing), key=lambda alert: alert.wall_s)


def failure_groups(failed: Sequence[FailedMessage]) -> list[FailureGroup]:
    """Failed messages (newest first) by outcome, kind and text; the largest group first.

    A message that was unknown and then acked late is told twice by its bus, and counts as acked late.
    """
    late = {message.message_id for message in failed if message.late}
    groups: dict[tuple[str, str, str], list[FailedMessage]] = {}
    for message in failed:
        if message.message_id in late and not message.late:
            continue
        outcome = "acked late" if message.late else message.outcome
        key = (outcome, style.words(message.error_kind or "none"), message.error_text or "")
        groups.setdefault(key, []).append(message)
    told = [
        FailureGroup(
            outcome=outcome,
            kind=kind,
            text=text,
            count=len(messages),
            first_wall_s=min(m.wall_s for m in messages),
            last_wall_s=max(m.wall_s for m in messages),
            most_attempts=max(m.attempts for m in messages),
            sample_id=messages[0].message_id,
        )
        for (outcome, kind, text), messages in groups.items()
    ]
    return sorted(told, key=lambda group: (-group.count, -group.last_wall_s))
