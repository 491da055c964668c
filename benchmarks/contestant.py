"""``python -m benchmarks.contestant KIND NAME ...``: one contestant, one round, in a process of its own.

Prints one line of JSON. With ``--memory`` it asks its parent, a line each on standard output, to ``freeze`` and to
``thaw`` the server, and goes on at a line on standard input: the server is frozen, or has taken all messages.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from collections.abc import Callable
from typing import Any

import click

from benchmarks.catalog import KINDS, Contestant, Kind, Race, find_race
from benchmarks.measurement import (
    WARM_UP,
    as_dict,
    measure_latency,
    measure_python_memory,
    measure_resident_memory,
    measure_throughput,
)
from benchmarks.producer import SUBJECT, Settings


async def race(contestant: Contestant, settings: Settings, messages: int, paced: int, rate: float) -> dict[str, Any]:
    """Throughput, then latency if ``paced`` messages are asked for."""
    producer = contestant.make(settings)
    await producer.open()
    try:
        throughput = await measure_throughput(producer, messages)
        latency = await measure_latency(producer, paced, rate) if paced else None
    finally:
        await producer.close()
    return {
        "published": WARM_UP + messages + paced,
        "throughput": as_dict(throughput),
        "paced": None if latency is None else as_dict(latency),
    }


async def weigh(found: Race, contestant: Contestant, settings: Settings, messages: int) -> dict[str, Any]:
    """Memory of ``messages`` pending ones."""
    producer = contestant.make(settings)
    measure = measure_python_memory if found.traced else measure_resident_memory
    await producer.open()
    try:
        return {"pending": as_dict(await measure(producer, messages, _freeze, _thaw))}
    finally:
        await producer.close()


async def _freeze() -> None:
    await _ask_parent("freeze")


async def _thaw() -> None:
    await _ask_parent("thaw")


async def _ask_parent(word: str) -> None:
    print(word, flush=True)
    await asyncio.to_thread(sys.stdin.readline)  # the loop goes on: what is unsent leaves meanwhile


def loop_factory(name: str) -> Callable[[], asyncio.AbstractEventLoop]:
    """How to make an event loop of that kind."""
    if name == "uvloop":
        make: Callable[[], asyncio.AbstractEventLoop] = importlib.import_module("uvloop").new_event_loop
        return make
    return asyncio.new_event_loop


@click.command()
@click.argument("kind", type=click.Choice(KINDS))
@click.argument("name")
@click.option("--url", required=True)
@click.option("--topic", default=SUBJECT)
@click.option("--window", type=int, default=10_000)
@click.option("--messages", type=int, default=0)
@click.option("--paced", type=int, default=0)
@click.option("--rate", type=float, default=10_000.0)
@click.option("--memory", type=int, default=0)
@click.option("--loop", "loop_name", default="asyncio")
def main(
    kind: Kind, name: str, url: str, topic: str, window: int, messages: int, paced: int, rate: float, memory: int,
    loop_name: str,
) -> None:  # fmt: skip
    """Run contestant NAME of a race once against the server at --url."""
    found = find_race(kind)
    contestant = found.by_name[name]
    settings = Settings(url, window, contestant.message_ids, unanswered=memory > 0, topic=topic)
    job = weigh(found, contestant, settings, memory) if memory else race(contestant, settings, messages, paced, rate)
    with asyncio.Runner(loop_factory=loop_factory(loop_name)) as runner:
        print(json.dumps(runner.run(job)), flush=True)


if __name__ == "__main__":
    main()
