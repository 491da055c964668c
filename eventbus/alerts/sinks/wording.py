"""What a notification says, as text for people."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from eventbus.alerts.sinks.notification import Notification

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]+")
_LINE_CHARACTERS = 1_000


def one_line(text: str) -> str:
    """``text`` without line ends and control characters, at most 1,000 characters: it cannot forge a line of a log."""
    return _CONTROL.sub(" ", text).strip()[:_LINE_CHARACTERS]


def state_of(notification: Notification) -> str:
    """TEST, RESOLVED, NO DATA, STILL FIRING, or what else the state is."""
    if notification.test:
        return "TEST"
    if notification.is_over:
        return "RESOLVED"
    if notification.repeat:
        return "STILL FIRING"
    return (notification.change.state or "firing").replace("_", " ").upper()


def title(notifications: Sequence[Notification]) -> str:
    """Of one: its state, its rule and its severity. Of several: how many of each state."""
    if len(notifications) == 1:
        change = notifications[0].change
        return one_line(f"[{state_of(notifications[0])}] {change.rule} ({change.severity})")
    states = [state_of(notification) for notification in notifications]
    return "AckScope: " + ", ".join(f"{states.count(state)} {state.lower()}" for state in dict.fromkeys(states))


def sentence(notification: Notification) -> str:
    """One line that tells all."""
    change = notification.change
    parts = [f"[{state_of(notification)}] {change.rule} ({change.severity}): {notification.summary}"]
    if not math.isnan(change.value):
        parts.append(f"value {change.value:g}, threshold {change.threshold:g}")
    if notification.description:
        parts.append(notification.description)
    parts += [
        f"{name}={value}" for name, value in (("run", notification.run_id), ("broker", notification.url)) if value
    ]
    parts += [f"{name}={value}" for name, value in notification.labels.items()]
    if change.muted:
        parts.append(f"muted: {change.muted}")
    return one_line("; ".join(parts))
