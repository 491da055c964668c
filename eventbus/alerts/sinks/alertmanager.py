"""Notifications as the JSON that Alertmanager sends to webhooks, version 4: what receivers of alerts understand."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from eventbus.alerts.sinks.notification import Notification

_NEVER = "0001-01-01T00:00:00Z"
"""What Alertmanager, being written in Go, says for a time that has not come."""


def payload(receiver: str, notifications: Sequence[Notification]) -> dict[str, Any]:
    """The body of one request. Of an alert that changed more than once only the newest change is told, as there."""
    newest: dict[tuple[str, str], Notification] = {}
    for notification in notifications:
        key = (notification.run_id, notification.fingerprint)
        newest.pop(key, None)  # so that the order is that of the newest changes
        newest[key] = notification
    alerts = [_alert(notification) for notification in newest.values()]
    common = _common([alert["labels"] for alert in alerts])
    group = {name: common[name] for name in ("run_id",) if name in common}
    matchers = ", ".join(f"{name}={json.dumps(value)}" for name, value in group.items())
    return {
        "version": "4",
        "groupKey": f"{{}}:{{{matchers}}}",
        "truncatedAlerts": 0,
        "status": "firing" if any(alert["status"] == "firing" for alert in alerts) else "resolved",
        "receiver": receiver,
        "groupLabels": group,
        "commonLabels": common,
        "commonAnnotations": _common([alert["annotations"] for alert in alerts]),
        "externalURL": "",
        "alerts": alerts,
    }


def _alert(notification: Notification) -> dict[str, Any]:
    change = notification.change
    labels = {**notification.labels, "alertname": change.rule, "severity": change.severity}
    if notification.run_id:
        labels["run_id"] = notification.run_id
    if notification.url:
        labels["instance"] = notification.url
    annotations = {"summary": notification.summary, "description": notification.description}
    for name, figure in (("value", change.value), ("threshold", change.threshold)):
        if not math.isnan(figure):
            annotations[name] = f"{figure:g}"
    return {
        "status": "resolved" if notification.is_over else "firing",
        "labels": labels,
        "annotations": {name: text for name, text in annotations.items() if text},
        "startsAt": _time(notification.starts_at_s),
        "endsAt": _NEVER if notification.ends_at_s is None else _time(notification.ends_at_s),
        "generatorURL": "",
        "fingerprint": notification.fingerprint,
    }


def _common(tables: Sequence[Mapping[str, str]]) -> dict[str, str]:
    first, *others = tables
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in others)}


def _time(wall_s: float) -> str:
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
