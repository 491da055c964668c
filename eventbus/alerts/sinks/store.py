"""StoreSink: keeps every change of an alert with its run."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from eventbus.alerts.sinks.notification import Notification
from eventbus.observe.run import AlertChange


class StoreSink:
    """Passes changes to ``write`` with their run's id: StoreWriter.alert, or what else keeps them and never waits.

    Muted ones too: a run tells what happened, not what people were told. Repeats and tests are no changes.
    """

    takes_all = True
    where = "the store of runs"

    def __init__(self, write: Callable[[str, AlertChange], None], name: str = "store") -> None:
        self.name = name
        self._write = write

    async def deliver(self, notifications: Sequence[Notification]) -> None:
        """Keep them. Fails only if ``write`` raises."""
        for notification in notifications:
            if not (notification.repeat or notification.test):
                self._write(notification.run_id, notification.change)
