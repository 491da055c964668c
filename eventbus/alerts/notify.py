"""Notifier: tells people of alerts, each sink at its own pace. It never waits, and no sink can hold up another."""

from __future__ import annotations

import asyncio
import random as chance
from collections import OrderedDict
from collections.abc import Sequence

from eventbus.alerts.sinks.announcer import Announcer
from eventbus.alerts.sinks.notification import Notification
from eventbus.alerts.sinks.outbox import DeliveryPolicy, Outbox, Sleep
from eventbus.alerts.sinks.sink import DeliveryError, Sink, SinkStatus
from eventbus.errors import ConfigError
from eventbus.ports import Clock, Random

__all__ = [
    "Announcer",
    "DeliveryError",
    "DeliveryPolicy",
    "Notification",
    "Notifier",
    "Sink",
    "SinkStatus",
    "try_sinks",
]

_FOR_PEOPLE = ("firing", "")
"""States that people are told of, besides an end. Changes from before alerts had states have an empty one."""
_REMEMBERED = 1_000
"""Alerts that people were told of and that have not ended. More rules than that nobody writes."""


class Notifier:
    """Gives each notification to the sinks that want it; what becomes of it there is told by ``status``.

    People are told when an alert begins to fire, when it still fires after its repeat interval, and when it is over;
    not of what is muted, and not of an end whose beginning they were not told of. An end is told even when it is muted
    by then: whoever heard of the alert would wait for it.

    clock, sleep, random: injected. Everything runs on the loop that ``notify`` is called on.
    Raises ConfigError where two sinks have one name.
    """

    def __init__(
        self,
        sinks: Sequence[Sink],
        *,
        clock: Clock,
        sleep: Sleep = asyncio.sleep,
        random: Random = chance,
        policy: DeliveryPolicy | None = None,
    ) -> None:
        names = [sink.name for sink in sinks]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(f"more than one sink is named {twice[0]!r}; give each a name of its own")
        policy = policy or DeliveryPolicy()
        self._outboxes = tuple(Outbox(sink, policy, clock, sleep, random) for sink in sinks)
        self._told: OrderedDict[tuple[str, str], None] = OrderedDict()

    def notify(self, notification: Notification) -> None:
        """Pass it on. Never waits; needs a running event loop. After ``close`` it is counted as dropped."""
        for_people = self._is_for_people(notification)
        for outbox in self._outboxes:
            if for_people or outbox.sink.takes_all:
                outbox.put(notification)

    def status(self) -> tuple[SinkStatus, ...]:
        """What became of the notifications so far, for each sink in the order given."""
        return tuple(outbox.status() for outbox in self._outboxes)

    async def close(self, timeout_s: float) -> None:
        """Take nothing more and wait up to ``timeout_s`` for what is under way; then the rest is dropped and counted.

        Ends at most about a second later. A second call returns at once.
        """
        await asyncio.gather(*(outbox.close(timeout_s) for outbox in self._outboxes))

    def _is_for_people(self, notification: Notification) -> bool:
        if notification.test:
            return True
        alert = (notification.run_id, notification.fingerprint)
        if notification.is_over:
            told = alert in self._told
            self._told.pop(alert, None)
            return told
        if notification.change.muted or notification.change.state not in _FOR_PEOPLE:
            return False
        if alert in self._told and not notification.repeat:
            return False  # it was recovering or without data, and fires again
        self._told[alert] = None
        if len(self._told) > _REMEMBERED:
            self._told.popitem(last=False)
        return True


async def try_sinks(
    sinks: Sequence[Sink], *, clock: Clock, severity: str = "warning", timeout_s: float = 15.0
) -> tuple[SinkStatus, ...]:
    """Send one test notification to each sink, once, all at the same time, and tell what became of it.

    Takes at most about ``timeout_s``. Raises ConfigError as Notifier does.
    """
    notifier = Notifier(sinks, clock=clock, policy=DeliveryPolicy(attempts=1, timeout_s=timeout_s))
    notifier.notify(Notification.for_test(clock.wall_s(), severity=severity))
    await notifier.close(timeout_s + 1.0)
    return notifier.status()
