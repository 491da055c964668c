"""KafkaAdmin: asks brokers, and waits for each answer, over a connection of its own that closes when nobody asks.

Not aiokafka's admin client: that one asks for all topics of a cluster with each refresh, takes missing topics for an
occasion to make them, leaves its first connection open when it is cancelled, and hides why a login was refused.

Invariant: a connection that is not in ``_connection`` is closed, however a call ends.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

from aiokafka import errors as kafka
from aiokafka.conn import AIOKafkaConnection, create_conn

STEP_TIMEOUT_S = 2.0
"""Each of connect, login and a request; a broker that stands still is left for the next after this."""
ASK_TIMEOUT_S = 6.0
"""A question as a whole, whichever brokers have to be tried."""
_IDLE_S = 10.0
"""A connection that is not asked for so long closes: topics are looked up when a bus begins, and then hardly ever. Who
asks for the round trip each 5 s keeps it open."""
_SERVERS_KNOWN = 16

UNREACHABLE = (kafka.KafkaConnectionError, kafka.NodeNotReadyError, kafka.CorrelationIdError, TimeoutError, OSError)
"""What another broker may do better."""


class KafkaAdmin:
    """options: KafkaLogin's, for each broker. One event loop; calls may run side by side, on one connection."""

    def __init__(self, options: Mapping[str, Any], client_id: str) -> None:
        self._login = {name: value for name, value in options.items() if name != "bootstrap_servers"}
        self._login |= {"client_id": client_id, "request_timeout_ms": round(STEP_TIMEOUT_S * 1e3)}
        self._given: tuple[str, ...] = tuple(options["bootstrap_servers"])
        self._servers = list(self._given)
        self._connection: AIOKafkaConnection | None = None
        self._opening = asyncio.Lock()
        self._closed = False

    def learn(self, servers: Iterable[str]) -> None:
        """Brokers that an answer named, ``host:port``: asked too where those that were given do not answer."""
        known = dict.fromkeys([*self._given, *servers][: len(self._given) + _SERVERS_KNOWN])
        kept = [server for server in self._servers if server in known]  # whoever answered last is asked first
        self._servers = kept + [server for server in known if server not in kept]

    async def ask(self, request: Any) -> dict[str, Any]:
        """The answer of some broker, as plain values. Tries each that is known, and waits for at most 6 s.

        May be carried out twice, where the first broker did not answer. Cancellation leaves nothing behind. Raises
        aiokafka's errors, OSError or TimeoutError (read_call_error knows them all): IncompatibleBrokerVersion where
        the broker does not know the request.
        """
        return (await self._ask(request))[0]

    async def round_trip(self, request: Any) -> float:
        """Seconds between the request and its answer, without those for a connection. Waits and raises as ``ask``."""
        return (await self._ask(request))[1]

    async def _ask(self, request: Any) -> tuple[dict[str, Any], float]:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(ASK_TIMEOUT_S):
            for tries_left in range(len(self._servers), -1, -1):
                connection = await self._connected()
                began_s = loop.time()
                try:
                    return await _send(connection, request), loop.time() - began_s
                except UNREACHABLE:
                    self._forget(connection)
                    if not tries_left:
                        raise
        raise AssertionError("not reached: the last try returns or raises")

    async def ask_one(self, server: str, request: Any) -> dict[str, Any]:
        """The answer of this broker. Waits and raises as ``ask``."""
        async with asyncio.timeout(ASK_TIMEOUT_S), self._dialled(server) as connection:
            return await _send(connection, request)

    async def close(self, timeout_s: float) -> None:
        """Close the connection; waits for that, within ``timeout_s``. A question that is going on fails."""
        self._closed = True
        connection, self._connection = self._connection, None
        if connection is not None and (closed := connection.close()) is not None:
            await asyncio.wait([closed], timeout=timeout_s)

    async def _connected(self) -> AIOKafkaConnection:
        async with self._opening:
            if self._connection is not None and not self._connection.connected():
                self._connection.close()  # the peer has ended it, which aiokafka may not have noticed yet
                self._connection = None
            if self._connection is None:
                self._connection = await self._dial_any()
            return self._connection

    async def _dial_any(self) -> AIOKafkaConnection:
        """To the first that answers, which is asked first from then on. Raises what the last of them raised."""
        for position, server in enumerate(servers := list(self._servers)):
            try:
                connection = await self._dial(server)
            except UNREACHABLE:
                if position == len(servers) - 1:
                    raise
            else:
                self._servers = [server, *(other for other in servers if other != server)]
                return connection
        raise AssertionError("not reached: there is at least one server")

    async def _dial(self, server: str) -> AIOKafkaConnection:
        host, _, port = server.rpartition(":")
        try:
            connection = await create_conn(host.strip("[]"), int(port), max_idle_ms=_IDLE_S * 1e3, **self._login)
        except ValueError as error:  # aiokafka's SCRAM, where the broker's own proof is wrong
            raise kafka.SaslAuthenticationFailed(str(error)) from error
        if self._closed:
            connection.close()
            raise kafka.KafkaConnectionError("closed meanwhile")
        return connection

    @contextlib.asynccontextmanager
    async def _dialled(self, server: str) -> AsyncIterator[AIOKafkaConnection]:
        connection = await self._dial(server)
        try:
            yield connection
        finally:
            connection.close()

    def _forget(self, connection: AIOKafkaConnection) -> None:
        connection.close()
        if self._connection is connection:
            self._connection = None
            self._servers = [*self._servers[1:], self._servers[0]]


async def _send(connection: AIOKafkaConnection, request: Any) -> dict[str, Any]:
    try:
        answer = await connection.send(request)
    except NotImplementedError as error:  # aiokafka knows only older versions of this request than the broker
        raise kafka.IncompatibleBrokerVersion(str(error)) from error
    plain: dict[str, Any] = answer.to_object()
    return plain


def why_unreachable(error: BaseException) -> str:
    """One of UNREACHABLE for people."""
    return str(error) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)
