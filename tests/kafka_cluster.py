"""KafkaCluster: three real Kafkas on loopback that are one cluster, each of which a test can break by name.

Three nodes take 7 s to start, so the tests of one file that break them share a cluster, which is made whole after each
(``mend``). Tests that break nothing share one node, or the cluster that the environment names: the fixture ``kafka``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from tests.kafka_artifacts import missing
from tests.kafka_node import KafkaNode, Place, free_ports
from tests.kafka_tools import until_brokers, until_leader

NAMES = ("a", "b", "c")
IDS = {name: number for number, name in enumerate(NAMES, 1)}
"""Node ids, as Kafka's answers have them."""
GIVEN = "ACKSCOPE_TEST_KAFKA"
"""Names the bootstrap servers of a cluster to use instead of a node of our own, where a test breaks nothing."""


def skip_without_kafka() -> None:
    """Skip the test, with the reason, where no Kafka can be started. In CI that fails the run (conftest.py)."""
    if (reason := missing()) is not None:
        pytest.skip(f"needs a real Kafka: {reason}")


@contextlib.contextmanager
def shared_kafka(directory: Path) -> Iterator[str]:
    """Bootstrap servers of a Kafka for a whole test run: the one that is named, else a node; skips without either."""
    if given := os.environ.get(GIVEN):
        yield given
        return
    skip_without_kafka()
    with KafkaNode(directory / "kafka") as node:
        yield node.bootstrap


@contextlib.asynccontextmanager
async def running_node(node: KafkaNode) -> AsyncIterator[KafkaNode]:
    """A node for one test that may break it, from before its first message to after its last."""
    try:
        await asyncio.to_thread(node.start)
        yield node
    finally:
        await asyncio.to_thread(node.stop)


class KafkaCluster:
    """The nodes by name. ``directory``: after the end their logs are there, as ``a/kafka.log`` and so on.

    settings: of each node's server.properties.
    """

    def __init__(self, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        controllers = dict(zip(IDS.values(), free_ports(len(NAMES)), strict=True))
        self._nodes = {
            name: KafkaNode(directory / name, settings=settings, place=Place(IDS[name], controllers)) for name in NAMES
        }
        self._broken: set[str] = set()

    async def start(self) -> None:
        """Start all nodes at once; returns when each knows of all."""
        await self._each(*NAMES, do=KafkaNode.start)
        await self._until_all_known()

    async def stop(self) -> None:
        """End all nodes; their logs stay."""
        await self._each(*NAMES, do=KafkaNode.stop)

    @property
    def bootstrap(self) -> str:
        """All nodes, by comma."""
        return self.bootstrap_of(NAMES)

    @property
    def url(self) -> str:
        """The same as a URL of this project."""
        return f"kafka://{self.bootstrap}"

    def bootstrap_of(self, names: Iterable[str]) -> str:
        """Some of the nodes."""
        return ",".join(self._nodes[name].bootstrap for name in names)

    def node(self, name: str) -> KafkaNode:
        return self._nodes[name]

    def others(self, name: str) -> list[str]:
        """The nodes besides that one."""
        return [other for other in NAMES if other != name]

    @property
    def sound(self) -> list[str]:
        """The nodes that are neither killed nor paused."""
        return [name for name in NAMES if name not in self._broken]

    async def kill(self, name: str) -> None:
        """SIGKILL."""
        self._broken.add(name)
        await self._each(name, do=KafkaNode.kill)

    async def terminate(self, name: str) -> None:
        """SIGTERM: it hands leadership over before it ends."""
        self._broken.add(name)
        await self._each(name, do=KafkaNode.terminate)

    async def pause(self, name: str) -> None:
        """SIGSTOP."""
        self._broken.add(name)
        await self._each(name, do=KafkaNode.pause)

    async def resume(self, name: str) -> None:
        await self._each(name, do=KafkaNode.resume)
        self._broken.discard(name)

    async def restart(self, name: str) -> None:
        """End it in good order if it runs, and start it; returns when it serves clients."""
        self._broken.add(name)
        await self._each(name, do=KafkaNode.restart)
        self._broken.discard(name)

    async def mend(self) -> None:
        """Undo what a test did and, where it failed, did not undo; returns when each node knows of all."""
        for name in NAMES:
            if self._nodes[name].is_running():
                await self.resume(name)
            else:
                await self.restart(name)
        await self._until_all_known()

    async def leader_of(self, topic: str, partition: int = 0, *, besides: str | None = None) -> str:
        """The node that leads a partition, as the sound nodes tell; waits until it is not ``besides``."""
        unwanted = None if besides is None else IDS[besides]
        leader = await until_leader(self.bootstrap_of(self.sound), topic, partition, besides=unwanted)
        return NAMES[leader - 1]

    async def _until_all_known(self) -> None:
        await asyncio.gather(*(until_brokers(node.bootstrap, len(NAMES)) for node in self._nodes.values()))

    async def _each(self, *names: str, do: Callable[[KafkaNode], None]) -> None:
        """Call it for all of them at once, and wait for all of them also where one fails."""
        done = await asyncio.gather(*(asyncio.to_thread(do, self._nodes[n]) for n in names), return_exceptions=True)
        for result in done:
            if result is not None:
                raise result


@contextlib.asynccontextmanager
async def running_cluster(directory: Path, settings: Mapping[str, str] | None = None) -> AsyncIterator[KafkaCluster]:
    """A cluster from before its first message to after its last; skips the test where it cannot be started."""
    skip_without_kafka()
    cluster = KafkaCluster(directory, settings)
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.stop()
