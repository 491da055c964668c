"""Race: who takes part against one kind of broker, in the order in which they run and stand in the table."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from benchmarks.producer import Make

Kind = Literal["nats", "kafka"]
KINDS: tuple[Kind, ...] = ("nats", "kafka")


def never_missing() -> None:
    """For contestants that can always take part."""


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to publish.

    name: for the command line. label: for people. message_ids: whether its messages carry ids.
    acknowledged: whether it hears of acks; one that does not may lose messages without noticing.
    share: of the messages of a full run; the slow ones publish fewer. paced: whether it can keep a given rate.
    keeps: whether it keeps something of a pending message, so that its memory can be measured.
    missing: why it cannot take part on this machine, or None if it can.
    """

    name: str
    label: str
    make: Make
    message_ids: bool = True
    acknowledged: bool = True
    share: float = 1.0
    paced: bool = False
    keeps: bool = False
    missing: Callable[[], str | None] = never_missing


@dataclass(frozen=True, slots=True)
class Reference:
    """A contestant that the others are compared with.

    key: of the ratios in the JSON. twin: whether there is a second one without ids, for those that have none.
    """

    key: str
    name: str
    twin: bool = False

    def of(self, contestant: Contestant) -> str:
        """The name of the one of the same kind, with or without ids."""
        return f"{self.name}-no-ids" if self.twin and not contestant.message_ids else self.name


@dataclass(frozen=True, slots=True)
class Comparison:
    """A column that shows a figure as a multiple of the reference's. heading, long_heading: terminal and README."""

    reference: Reference
    heading: str
    long_heading: str
    form: str


@dataclass(frozen=True, slots=True)
class Race:
    """What is run by ``python -m benchmarks KIND``, and how it is told.

    rates, cpus: the comparisons of msg/s and of CPU per message. memory: the figures of memory in the JSON, each with
    its two headings. traced: memory is Python's own, by tracemalloc; else the process's resident memory.
    has_ids: whether messages with and without ids take part, so that it has to be said.
    """

    kind: Kind
    title: str
    contestants: tuple[Contestant, ...]
    rates: tuple[Comparison, ...]
    cpus: tuple[Comparison, ...]
    memory: tuple[tuple[str, str, str], ...]
    traced: bool
    has_ids: bool

    @property
    def by_name(self) -> dict[str, Contestant]:
        """The contestants by their names."""
        return {contestant.name: contestant for contestant in self.contestants}

    @property
    def references(self) -> set[Reference]:
        """With whom is compared."""
        return {comparison.reference for comparison in (*self.rates, *self.cpus)}


def find_race(kind: Kind) -> Race:
    """The race of that kind. Loads the clients of that broker alone, so a contestant's process has no others."""
    if kind == "nats":
        from benchmarks.nats_race import NATS

        return NATS
    from benchmarks.kafka_race import KAFKA

    return KAFKA


def has_uvloop() -> bool:
    """Whether uvloop is installed."""
    return importlib.util.find_spec("uvloop") is not None
