"""Sink: where notifications go. DeliveryError: why one did not arrive. SinkStatus: what became of them all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any, Protocol

from eventbus.alerts.sinks.notification import Notification
from eventbus.errors import EventBusError


class DeliveryError(EventBusError):
    """A delivery failed. The text holds nothing secret.

    retry: whether trying again can help. after_s: the receiver asked to be left alone for so long; None: it did not.
    """

    def __init__(self, text: str, retry: bool, after_s: float | None = None) -> None:
        super().__init__(text)
        self.retry = retry
        self.after_s = after_s


class Sink(Protocol):
    """One place that is told of alerts. It holds no queue and never retries: the Notifier does both."""

    @property
    def name(self) -> str:
        """Unique among the sinks of a Notifier."""

    @property
    def where(self) -> str:
        """A place that people recognise, without anything secret."""

    @property
    def takes_all(self) -> bool:
        """Whether it also gets what nobody is told of: muted changes, and alerts that are only about to fire."""

    async def deliver(self, notifications: Sequence[Notification]) -> None:
        """All of these, at least one, oldest first. Raises DeliveryError where not all arrived; may be cancelled."""


@dataclass(frozen=True, slots=True)
class SinkStatus:
    """What became of a sink's notifications so far. Times are seconds since the epoch; None where it never happened.

    delivered, failed: given to the sink for good, or given up. dropped: never tried, because the queue was full or the
    notifier closed. waiting: in the queue or being tried now. last_error: why the last attempt that failed did, at
    most 300 characters. last_duration_s: how long the last attempt took.
    """

    name: str
    delivered: int = 0
    failed: int = 0
    dropped: int = 0
    waiting: int = 0
    last_success_s: float | None = None
    last_error: str | None = None
    last_failure_s: float | None = None
    last_duration_s: float | None = None
    where: str = ""

    @property
    def failing(self) -> bool:
        """True if the last attempt failed."""
        return self.last_failure_s is not None and self.last_failure_s >= (self.last_success_s or 0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SinkStatus:
        """The inverse of ``to_dict``; names that it does not know are left out."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in known})
