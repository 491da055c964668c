"""What happened in a run, told for people: its events in order, the alerts that fire now. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dashboard import style
from dashboard.chart_frame import Mark
from eventbus import BusEvent, EventKind
from eventbus.observe.run import AlertChange, RunInfo, RunStatus

_MARKS = {
    EventKind.CONNECTED: "✓",
    EventKind.DISCONNECTED: "✗",
    EventKind.DENIED: "✗",
    EventKind.PRODUCER_REPLACED: "⚠",
    EventKind.TOPIC_FAILED: "✗",
    EventKind.TOPIC_WARNING: "⚠",
    EventKind.PAUSED: "‖",
    EventKind.RESUMED: "▶",
    EventKind.PROCESS_LOST: "✗",
    EventKind.RATE_CHANGED: "✎",
    EventKind.SHAPE_CHANGED: "✎",
    EventKind.FAULT_BEGAN: "⚡",
    EventKind.FAULT_ENDED: "✓",
}
_COLOURS = {
    EventKind.CONNECTED: style.LATE,
    EventKind.DISCONNECTED: style.UNKNOWN,
    EventKind.PROCESS_LOST: style.UNKNOWN,
    EventKind.RATE_CHANGED: style.ACKED,
    EventKind.SHAPE_CHANGED: style.ACKED,
    EventKind.FAULT_BEGAN: style.REJECTED,
    EventKind.FAULT_ENDED: style.LATE,
    EventKind.DENIED: style.UNKNOWN,
    EventKind.TOPIC_FAILED: style.UNKNOWN,
    EventKind.PRODUCER_REPLACED: style.DUPLICATE,
    EventKind.TOPIC_WARNING: style.DUPLICATE,
}
_ALERT_WORDS = {"info": "Notice", "warning": "Warning", "critical": "Critical"}
SEVERITIES = ("critical", "warning", "info")
"""The worst first."""
_ENDS = {
    RunStatus.FINISHED: ("✓", "Finished", "the run came to its end as planned"),
    RunStatus.STOPPED: ("■", "Stopped", "ended by hand"),
    RunStatus.FAILED: ("✗", "Failed", "ended by an error"),
}


@dataclass(frozen=True, slots=True)
class Entry:
    """One line of the journal: when, a sign and a word for what it is, a sentence. colour: of its line in charts."""

    wall_s: float
    sign: str
    word: str
    text: str
    colour: str = style.PENDING

    def mark(self) -> Mark:
        """The upright line of it in a chart."""
        return Mark(self.wall_s, self.word, self.sign, self.colour)


def entries(run: RunInfo, events: Sequence[BusEvent], alerts: Sequence[AlertChange]) -> list[Entry]:
    """Everything that happened in a run, newest first."""
    told = [Entry(run.started_wall_s, "▶", "Start", f"{run.topic} on {run.url}")]
    told += [
        Entry(
            event.wall_s,
            _MARKS.get(event.kind, "•"),
            style.words(str(event.kind)).capitalize(),
            event.text,
            _COLOURS.get(event.kind, style.PENDING),
        )
        for event in events
    ]
    told += [
        Entry(alert.wall_s, "⚠", _ALERT_WORDS.get(alert.severity, "Alert"), headline(alert), style.UNKNOWN)
        if alert.firing
        else Entry(alert.wall_s, "✓", "Alert over", style.words(alert.rule).capitalize(), style.LATE)
        for alert in alerts
        if alert.state in ("", "firing", "resolved") and (not alert.state or alert.state != alert.previous)
    ]
    if run.ended_wall_s is not None and run.status in _ENDS:
        sign, word, text = _ENDS[run.status]
        told.append(Entry(run.ended_wall_s, sign, word, run.error or text))
    return sorted(told, key=lambda entry: entry.wall_s, reverse=True)


def headline(alert: AlertChange) -> str:
    """An alert in a few words."""
    return alert.text or style.words(alert.rule).capitalize()


def firing(alerts: Sequence[AlertChange]) -> list[AlertChange]:
    """Those whose last change was to fire: the worst first, then in the order of their beginning.

    Each as it began, so that its time is since when it fires; muted as it is now.
    """
    begun: dict[str, AlertChange] = {}
    for alert in alerts:
        if not alert.firing:
            begun.pop(alert.rule, None)
        else:
            begun[alert.rule] = replace(begun.get(alert.rule, alert), muted=alert.muted)
    return sorted(begun.values(), key=lambda alert: (bool(alert.muted), _rank(alert.severity), alert.wall_s))


def waiting(alerts: Sequence[AlertChange]) -> list[AlertChange]:
    """Those whose expression holds, but not yet for long enough to fire."""
    last = {alert.rule: alert for alert in alerts}
    return [alert for alert in last.values() if alert.state == "pending"]


def _rank(severity: str) -> int:
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)
