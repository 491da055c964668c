"""A caller who gives up: wherever a connect or a flush is cancelled, nothing stays behind and nothing else suffers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

import eventbus
from eventbus import FlushTimeout, TopicConfig
from eventbus.embedded.nats import EmbeddedNats
from tests.nats_tools import eventually, tasks_besides

pytestmark = pytest.mark.integration


@pytest.fixture
def server() -> Iterator[EmbeddedNats]:
    with EmbeddedNats() as running:
        yield running


def open_sockets() -> int:
    return sum(1 for name in os.listdir("/proc/self/fd") if _is_socket(name))


def _is_socket(descriptor: str) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket:")
    except FileNotFoundError:  # the listing's own
        return False


@pytest.mark.parametrize("turns", range(40))
async def test_cancelled_connect_leaves_nothing(server: EmbeddedNats, turns: int) -> None:
    """Wherever the cancellation strikes, no task and no socket stays behind."""
    before, sockets = asyncio.all_tasks(), open_sockets()
    connecting = asyncio.ensure_future(_connect(server.url, topics=[TopicConfig("cut.>")]))
    for _ in range(turns):
        await asyncio.sleep(0)
    if connecting.cancel():
        with pytest.raises(asyncio.CancelledError):
            await connecting
    else:  # so few turns were enough, on a busy machine: then closing it must leave nothing
        await connecting.result().close()
    assert tasks_besides(before) == []
    await eventually(lambda: open_sockets() <= sockets, "its socket is closed")


async def _connect(url: str, topics: list[TopicConfig] | None = None) -> eventbus.EventBus:
    return await eventbus.connect(url, topics=topics or [])


async def test_flush_given_up_does_not_harm_the_connection() -> None:
    """A caller who stops waiting stops nothing else."""
    with EmbeddedNats() as server:
        heard: list[eventbus.BusEvent] = []

        class Listener:
            every_outcome = False

            def settled(self, reports: object) -> None: ...

            def happened(self, event: eventbus.BusEvent) -> None:
                heard.append(event)

        topics = [TopicConfig("beat.>", durable=False), TopicConfig("demo.>")]
        async with eventbus.connect(server.url, topics=topics, observers=[Listener()]) as bus:
            await asyncio.to_thread(server.pause)
            await bus.publish("beat.x")
            with pytest.raises(FlushTimeout):
                await bus.flush(timeout_s=0.1)
            receipt = await bus.publish("demo.x")
            await asyncio.to_thread(server.resume)
            report = await receipt
            assert report.attempts == 1, report
            await bus.flush(timeout_s=5)
            for _ in range(20):
                assert (await (await bus.publish("demo.x"))).attempts == 1
            assert "disconnected" not in [event.kind for event in heard]
