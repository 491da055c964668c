"""Where the messages of a run come from: random bytes, a template, or the records of a file."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import accumulate, chain, count, cycle, repeat
from typing import cast

from eventbus.errors import ConfigError
from eventbus.load.message import LoadMessage, Messages
from eventbus.load.plan import LoadPlan
from eventbus.load.replay import TIME_FIELD, Records, read_records, replay_lines
from eventbus.load.template import Template

__all__ = ["Payloads", "open_messages", "open_payloads", "random_payloads", "replay_lines"]

POOL_BYTES = 32 * 1024 * 1024
"""Messages made before the run, where their payloads together are no larger."""

_DISTINCT = 4096
_CHUNK = 1024
_LISTED_KEYS = 65_536
"""Up to here keys are made before the run; beyond, each costs 0.5 us more."""


@dataclass(frozen=True, slots=True)
class Payloads:
    """Where payloads come from; the fields are those of Messages."""

    source: Iterator[bytes]
    total: int | None = None
    times: Iterator[float] | None = None
    uniform: bool = False


def open_messages(plan: LoadPlan, *, wall_s: Callable[[], float] = time.time) -> Messages:
    """The messages of ``plan``, or of its share of them; a replay file is read and checked as a whole, and a template's
    values are made up. Blocks. Raises ConfigError.

    wall_s: the time that templates tell, in seconds since the epoch.
    A message costs some 0.01 us where all are random bytes of one size for one topic, since 4,096 of them are made
    before and repeated; 0.3 us more with sizes, keys, or several topics (CPython 3.11).
    """
    payloads = open_payloads(plan, wall_s=wall_s)
    single = len(plan.topic_names) == 1 and plan.keys is None
    if payloads.uniform and single and plan.payload_size * _DISTINCT <= POOL_BYTES:
        headers = plan.headers or None
        pool = [LoadMessage(plan.topic, next(payloads.source), None, headers) for _ in range(_DISTINCT)]
        source: Iterator[LoadMessage] = cycle(pool)
    else:
        source = _messages(plan, payloads.source)
    return Messages(source, payloads.total, payloads.times)


def open_payloads(plan: LoadPlan, *, wall_s: Callable[[], float] = time.time) -> Payloads:
    """The payloads alone; see ``open_messages``."""
    index, of = plan.share
    if plan.replay is not None:
        recorded = plan.replay_at == "recorded"
        time_field = (plan.replay_time or TIME_FIELD) if recorded else None
        return _replayed(plan, read_records(plan.replay, time_field, first=index, step=of))
    if plan.template is not None:
        template = Template(plan.template)
        return Payloads(template.payloads(seed=plan.seed, wall_s=wall_s, first=index, step=of))
    if plan.payload_size_max is not None:
        return Payloads(random_sizes(plan.payload_size, plan.payload_size_max, plan.seed))
    return Payloads(random_payloads(plan.payload_size, plan.seed), uniform=True)


def random_payloads(size: int, seed: int | None = None) -> Iterator[bytes]:
    """Random payloads of ``size`` bytes without end: slices of one random block, 4,096 different ones in turn.

    A slice costs 0.1 us; fresh random bytes would cost more than the publish. Equal seeds give equal payloads.
    """
    block = random.Random(seed).randbytes(size + _DISTINCT)
    while True:
        for start in range(_DISTINCT):
            yield block[start : start + size]


def random_sizes(least: int, most: int, seed: int | None = None) -> Iterator[bytes]:
    """The same with sizes from ``least`` to ``most``, each as likely as the others."""
    chance = random.Random(seed)
    block = chance.randbytes(most + _DISTINCT)
    fraction, sizes = chance.random, most - least + 1
    while True:
        for start in range(_DISTINCT):
            yield block[start : start + least + int(fraction() * sizes)]


def _replayed(plan: LoadPlan, records: Records) -> Payloads:
    times = None if records.times is None else _times(records, plan.replay_speed, loop=plan.loop)
    if times is not None and plan.loop and not records.period_s:
        raise ConfigError(f"{plan.replay}: all records have the same time; in a loop they would have no pace")
    if plan.loop:
        return Payloads(cycle(records.payloads), None, times)
    return Payloads(iter(records.payloads), len(records.payloads), times)


def _times(records: Records, speed: float, *, loop: bool) -> Iterator[float]:
    times = records.times or ()
    for begin_s in (turn * records.period_s for turn in count()) if loop and times else (0.0,):
        for time_s in times:
            yield (begin_s + time_s) / speed


def _messages(plan: LoadPlan, payloads: Iterator[bytes]) -> Iterator[LoadMessage]:
    # One source of chance each: with keys the topics are the same as without.
    seeds = random.Random(plan.seed)
    topics = _topics(plan, random.Random(seeds.getrandbits(64)))
    keys = repeat(None) if plan.keys is None else _keys(plan.keys, random.Random(seeds.getrandbits(64)))
    # tuple.__new__ alone is what LoadMessage(...) does beside naming its arguments: 0.1 instead of 0.3 us.
    make = cast("Callable[[object], LoadMessage]", partial(tuple.__new__, LoadMessage))
    return map(make, zip(topics, payloads, keys, repeat(plan.headers or None), strict=False))


def _topics(plan: LoadPlan, chance: random.Random) -> Iterator[str]:
    if len(plan.topic_names) == 1:
        return repeat(plan.topic)
    names = plan.topic_names
    weights = list(accumulate(topic.weight for topic in plan.topics))
    return chain.from_iterable(chance.choices(names, cum_weights=weights, k=_CHUNK) for _ in repeat(None))


def _keys(number: int, chance: random.Random) -> Iterator[str]:
    if number <= _LISTED_KEYS:
        keys = [f"key-{n}" for n in range(number)]
        return chain.from_iterable(chance.choices(keys, k=_CHUNK) for _ in repeat(None))
    fraction = chance.random
    return (f"key-{int(fraction() * number)}" for _ in repeat(None))
