"""Fault: one way to break an embedded broker on purpose, and to heal it again. And what each needs of the broker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar, Protocol

from eventbus.errors import EventBusError


class FaultError(EventBusError):
    """A fault that could not be made or undone. The text says why and what to do."""


class Fault(ABC):
    """Breaks something, and heals it. Use ``TimedFault``, which never forgets to.

    ``apply`` and ``undo`` block, each within some seconds, so that a coroutine calls them by ``asyncio.to_thread``;
    they raise EventBusError. ``undo`` is idempotent, does nothing before ``apply``, and heals what an ``apply`` that
    raised had half done.

    name: an identifier. title: for people, in the imperative. breaks: what is broken. expect: what should be seen, one
    sentence. momentary: nothing of it lasts until ``undo``, so that a duration only says how long it is looked at.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    breaks: str
    expect: str
    momentary: ClassVar[bool] = False

    @abstractmethod
    def apply(self) -> None:
        """Break it."""

    @abstractmethod
    def undo(self) -> None:
        """Heal it."""


class Pausable(Protocol):
    """A broker whose process can stand still; EmbeddedNats and EmbeddedKafka are."""

    def pause(self) -> None:
        """SIGSTOP."""

    def resume(self) -> None:
        """SIGCONT."""


class Killable(Protocol):
    """A broker that can be killed and started again where it was; EmbeddedNats and EmbeddedKafka are."""

    def kill(self) -> None:
        """SIGKILL."""

    def start(self) -> None:
        """Again, on the same port; does nothing if it runs."""


class Reconfigurable(Protocol):
    """A server that reads its configuration again; EmbeddedNats is."""

    @property
    def extra_config(self) -> str:
        """What it was made with."""

    def reload(self, extra_config: str | None = None) -> None:
        """Take this instead; None: what it was made with."""


class NatsServer(Pausable, Killable, Reconfigurable, Protocol):
    """All that faults want of an embedded nats-server."""

    @property
    def url(self) -> str:
        """Where it listens itself, no proxy before it."""


class InjectsErrors(Protocol):
    """A mock of Kafka that answers what it is told; EmbeddedKafka is."""

    def push_request_errors(self, api_key: int, codes: Sequence[int]) -> None:
        """Answer the next requests of that kind with these codes."""

    def clear_request_errors(self, api_key: int) -> None:
        """Forget them."""


class TakesBrokersDown(Protocol):
    """A mock of Kafka whose brokers can be closed; EmbeddedKafka is."""

    def broker_down(self) -> None:
        """Close all connections, refuse new ones."""

    def broker_up(self) -> None:
        """Accept them again."""


class DelaysAnswers(Protocol):
    """A mock of Kafka that can answer late; EmbeddedKafka is."""

    def set_round_trip(self, broker: int, seconds: float) -> None:
        """Delay every answer of the broker (-1: of all)."""


class MockKafka(Pausable, Killable, InjectsErrors, TakesBrokersDown, DelaysAnswers, Protocol):
    """All that faults want of the embedded mock of Kafka."""
