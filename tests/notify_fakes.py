"""What tests put in the place of alerts that change and of sinks that are told."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from eventbus.alerts.notify import Notification
from eventbus.observe.run import AlertChange


def news(
    state: str = "firing",
    previous: str = "inactive",
    *,
    rule: str = "pending",
    muted: str = "",
    wall_s: float = 100.0,
    severity: str = "warning",
    run_id: str = "run-1",
) -> Notification:
    """What the engine's change from one state to another becomes."""
    change = AlertChange(
        wall_s=wall_s,
        rule=rule,
        firing=state in ("firing", "recovering"),
        value=6_000.0,
        threshold=5_000.0,
        text="Too many messages wait",
        state=state,
        previous=previous,
        severity=severity,
        muted=muted,
        labels={"team": "orders"},
    )
    return Notification.of(change, fingerprint=f"of-{rule}", starts_at_s=90.0, run_id=run_id, url="nats://broker:4222")


class Told:
    """Implements Sink: keeps what it gets, after doing what the test says."""

    where = "a list"

    def __init__(
        self, name: str = "told", first: Callable[[], Awaitable[None]] | None = None, *, takes_all: bool = False
    ) -> None:
        self.name = name
        self.takes_all = takes_all
        self.batches: list[list[Notification]] = []
        self.attempts = 0
        self._first = first

    async def deliver(self, notifications: Sequence[Notification]) -> None:
        self.attempts += 1
        if self._first is not None:
            await self._first()
        self.batches.append(list(notifications))

    @property
    def changes(self) -> list[str]:
        return [f"{n.change.rule} {n.change.state}" for batch in self.batches for n in batch]


class Sleeper:
    """In the place of asyncio.sleep: notes how long, and lets others run."""

    def __init__(self) -> None:
        self.slept_s: list[float] = []

    async def __call__(self, seconds: float) -> None:
        self.slept_s.append(seconds)
        await asyncio.sleep(0)
