"""The rounds of a race: every entry once in each, beginning with another one each time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from benchmarks.arena import Arena, ContestantFailed, Entry
from benchmarks.catalog import Race
from benchmarks.result import Record

Say = Callable[[str], AbstractContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Programme:
    """How much of what is run.

    messages: as fast as possible. paced: at ``rate`` a second. pending: for the measurement of memory; the window is
    opened that far for it.
    """

    messages: int
    rounds: int
    window: int
    paced: int
    rate: float
    pending: int

    @classmethod
    def of(cls, messages: int | None, rounds: int | None, *, quick: bool) -> Programme:
        """What was asked for, else the defaults: small ones if it has to be quick."""
        return cls(
            messages=messages or (5_000 if quick else 100_000),
            rounds=rounds or (1 if quick else 3),
            window=10_000,
            paced=2_000 if quick else 20_000,
            rate=10_000.0,
            pending=2_000 if quick else 20_000,
        )


async def run_rounds(
    race: Race, arena: Arena, programme: Programme, entries: Sequence[Entry], say: Say
) -> list[Record]:
    """Run them all. ``say``: shows what runs now, while it does."""
    records = [Record(entry) for entry in entries]
    for number in range(1, programme.rounds + 1):
        # Each round begins with somebody else, so that nobody always runs after the same one.
        first = len(records) * (number - 1) // programme.rounds
        for record in [*records[first:], *records[:first]]:
            if record.failure is None:
                with say(f"round {number} of {programme.rounds}: {record.entry.name} ({record.entry.loop})"):
                    await _round(race, arena, programme, record)
    await arena.clear()
    return records


async def _round(race: Race, arena: Arena, programme: Programme, record: Record) -> None:
    """One round of one entry; what goes wrong is written down, and the others go on."""
    contestant = race.by_name[record.entry.name]
    messages = max(100, int(programme.messages * contestant.share))
    try:
        found: dict[str, Any] = await arena.race(
            record.entry,
            messages,
            programme.window,
            paced=programme.paced if contestant.paced else 0,
            rate=programme.rate,
        )
        found["pending"] = None
        if contestant.keeps and arena.can_weigh:
            window = max(programme.window, programme.pending)
            found |= await arena.weigh(record.entry, programme.pending, window)
    except ContestantFailed as error:
        record.failure = str(error)
    else:
        record.rounds.append(found)
