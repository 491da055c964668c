"""LogSink: alerts as lines of the log, on the logger ``eventbus.alerts``."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from eventbus.alerts.sinks.notification import Notification
from eventbus.alerts.sinks.wording import sentence

_log = logging.getLogger("eventbus.alerts")
_LEVELS = {"info": logging.INFO, "warning": logging.WARNING, "critical": logging.CRITICAL}


class LogSink:
    """One line each: what fires at the level of its severity, an end at INFO."""

    takes_all = False
    where = "the log"

    def __init__(self, name: str = "log") -> None:
        self.name = name

    async def deliver(self, notifications: Sequence[Notification]) -> None:
        """Log them. Never fails."""
        for notification in notifications:
            level = _LEVELS.get(notification.change.severity, logging.WARNING)
            _log.log(logging.INFO if notification.is_over else level, "%s", sentence(notification))
