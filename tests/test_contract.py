"""The contract suite against each publisher; see contract.py."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import eventbus
from eventbus import ConnectionConfig, EventBus
from eventbus.embedded.nats import EmbeddedNats
from eventbus.publishers.memory import MemoryPublisher
from eventbus.publishers.nats.publisher import NatsPublisher
from tests.nats_tools import Stored, read_back, stream_names

pytest.register_assert_rewrite("tests.contract")
from tests.contract import Backend, PublisherContract  # noqa: E402  # after its assertions were made readable

STREAM = "DEMO"


class MemoryBackend:
    """``memory://``, broken by the switches of its publisher, which the bus has no public way to reach."""

    capabilities = MemoryPublisher.capabilities

    def __init__(self) -> None:
        self._publisher: MemoryPublisher | None = None

    @property
    def publisher(self) -> MemoryPublisher:
        assert self._publisher is not None, "connect first"
        return self._publisher

    async def connect(self, **settings: Any) -> EventBus:
        bus = await eventbus.connect("memory://", **settings)
        assert isinstance(bus._publisher, MemoryPublisher)
        self._publisher = bus._publisher
        return bus

    async def stored(self) -> list[Stored]:
        stream = self.publisher.streams.get(STREAM)
        return [
            Stored(offset, message.topic, message.message_id, message.payload, message.headers)
            for offset, message in enumerate(stream.messages if stream else [], 1)
        ]

    async def fall_silent(self) -> None:
        self.publisher.drop_acks = True

    async def speak_again(self) -> None:
        self.publisher.drop_acks = False

    async def disconnect(self) -> None:
        self.publisher.disconnect()

    async def reconnect(self) -> None:
        self.publisher.reconnect()


class NatsBackend:
    """A nats-server of its own, stopped (SIGSTOP) and killed."""

    capabilities = NatsPublisher.capabilities

    def __init__(self, server: EmbeddedNats) -> None:
        self._server = server
        self._killed = False

    async def connect(self, **settings: Any) -> EventBus:
        settings.setdefault("connection", ConnectionConfig(reconnect_delay_s=0.05))
        return await eventbus.connect(self._server.url, **settings)

    async def stored(self) -> list[Stored]:
        url = self._server.url
        return await read_back(url, STREAM) if STREAM in await stream_names(url) else []

    async def fall_silent(self) -> None:
        await asyncio.to_thread(self._server.pause)

    async def speak_again(self) -> None:
        if not self._killed:
            await asyncio.to_thread(self._server.resume)

    async def disconnect(self) -> None:
        self._killed = True
        await asyncio.to_thread(self._server.kill)

    async def reconnect(self) -> None:
        self._killed = False
        await asyncio.to_thread(self._server.restart)


class TestMemory(PublisherContract):
    @pytest.fixture
    def backend(self) -> Backend:
        return MemoryBackend()


@pytest.mark.integration
class TestNats(PublisherContract):
    @pytest.fixture
    def backend(self) -> Iterator[Backend]:
        with EmbeddedNats() as server:
            yield NatsBackend(server)
