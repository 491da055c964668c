"""NatsCluster: three nats-servers on loopback that are one JetStream cluster, each of which a test can break by name.

Each node is an EmbeddedNats, so that none outlives the tests however they end (embedded/supervisor.py). Made for
one test each: a cluster that was broken is not handed on.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import socket
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path

import nats.errors

from eventbus.embedded.nats import EmbeddedNats
from eventbus.errors import ConnectFailed
from tests.nats_tools import admin

NAMES = ("a", "b", "c")
ELECTION_S = 30.0
"""Longest wait for a leader: an election takes 4 to 9 s where the old leader is gone, and both cores may be busy."""


class NatsCluster:
    """The nodes by name. ``directory``: the stores, and after the end the logs, as ``a.log`` and so on."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        ports = _free_ports(len(NAMES))
        routes = ", ".join(f"nats-route://127.0.0.1:{port}" for port in ports)
        self._nodes = {
            name: EmbeddedNats(
                directory / name,
                extra_config=(
                    f"server_name: {name}\n"
                    f'cluster {{ name: loopback, listen: "127.0.0.1:{port}", routes: [{routes}] }}\n'
                ),
            )
            for name, port in zip(NAMES, ports, strict=True)
        }

    async def start(self) -> None:
        """Start all nodes at once; returns when JetStream answers, which it does once it has a leader."""
        await asyncio.gather(*(asyncio.to_thread(node.start) for node in self._nodes.values()))
        await self._until_answered()

    async def stop(self) -> None:
        """End all nodes and keep their logs."""
        for name, node in self._nodes.items():
            with contextlib.suppress(ConnectFailed, OSError):  # a node that never started has no log
                (self._directory / f"{name}.log").write_bytes(node.log_path.read_bytes())
        await asyncio.gather(*(asyncio.to_thread(node.stop) for node in self._nodes.values()))

    @property
    def url(self) -> str:
        """All nodes, by comma."""
        return ",".join(node.url for node in self._nodes.values())

    def url_of(self, name: str) -> str:
        return self._nodes[name].url

    def others(self, name: str) -> list[str]:
        """The nodes besides that one."""
        return [other for other in NAMES if other != name]

    async def kill(self, name: str) -> None:
        await asyncio.to_thread(self._nodes[name].kill)

    async def pause(self, name: str) -> None:
        await asyncio.to_thread(self._nodes[name].pause)

    async def resume(self, name: str) -> None:
        await asyncio.to_thread(self._nodes[name].resume)

    async def restart(self, name: str) -> None:
        await asyncio.to_thread(self._nodes[name].restart)

    async def leader_of(self, stream: str, asking: Iterable[str] = NAMES, besides: str | None = None) -> str:
        """The node that leads a stream, as the nodes in ``asking`` tell; waits until it is not ``besides``."""
        deadline = time.monotonic() + ELECTION_S
        while True:
            for name in asking:
                with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
                    async with admin(self.url_of(name)) as client:
                        cluster = (await client.jetstream(timeout=1).stream_info(stream)).cluster
                    if cluster is not None and cluster.leader and cluster.leader != besides:
                        return cluster.leader
            assert time.monotonic() < deadline, f"no leader of {stream} besides {besides} in {ELECTION_S} s"
            await asyncio.sleep(0.05)

    async def lead(self, stream: str, name: str) -> None:
        """Make that node lead a stream."""
        request = json.dumps({"placement": {"preferred": name}}).encode()
        deadline = time.monotonic() + ELECTION_S
        while (leader := await self.leader_of(stream)) != name:
            assert time.monotonic() < deadline, f"{name} does not lead {stream} after {ELECTION_S} s, but {leader}"
            async with admin(self.url_of(leader)) as client:
                await client.request(f"$JS.API.STREAM.LEADER.STEPDOWN.{stream}", request, timeout=5)

    async def until_current(self, stream: str) -> None:
        """Wait until every replica of a stream has all of it."""
        asking = await self.leader_of(stream)
        deadline = time.monotonic() + ELECTION_S
        while True:
            with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
                async with admin(self.url_of(asking)) as client:
                    cluster = (await client.jetstream(timeout=1).stream_info(stream)).cluster
                if cluster is not None and cluster.leader:
                    replicas = cluster.replicas or []
                    if len(replicas) == len(NAMES) - 1 and all(r.current and not r.offline for r in replicas):
                        return
            assert time.monotonic() < deadline, f"{stream} has not all its replicas after {ELECTION_S} s"
            await asyncio.sleep(0.05)

    async def _until_answered(self) -> None:
        deadline = time.monotonic() + ELECTION_S
        while True:
            with contextlib.suppress(nats.errors.Error, TimeoutError, OSError):
                async with admin(self.url_of(NAMES[0])) as client:
                    jetstream = client.jetstream(timeout=1)
                    # Only a stream on all nodes shows that the leader has heard of each of them.
                    await jetstream.add_stream(name="READY", subjects=["ready.probe"], num_replicas=len(NAMES))
                    await jetstream.delete_stream("READY")
                return
            assert time.monotonic() < deadline, f"the cluster has no leader after {ELECTION_S} s"
            await asyncio.sleep(0.05)


@contextlib.asynccontextmanager
async def running_cluster(directory: Path) -> AsyncIterator[NatsCluster]:
    """A cluster from before its first message to after its last."""
    cluster = NatsCluster(directory)
    try:
        await cluster.start()
        yield cluster
    finally:
        await cluster.stop()


def _free_ports(number: int) -> list[int]:
    """Ports that nobody listens on. Each node must know the others' before it starts.

    Not the system's choice: its range is also that of clients' sockets, one of which could take the port of a node
    while that is dead.
    """
    found: list[int] = []
    for port in random.sample(range(20_000, 32_000), 100):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == number:
            return found
    raise AssertionError("no free ports between 20,000 and 32,000")
