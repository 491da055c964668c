"""StreamAdmin: looks at streams and changes them, as an administrator would, on a connection of its own each time."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from eventbus.faults.fault import FaultError

if TYPE_CHECKING:
    from nats.aio.client import Client

ANSWER_TIMEOUT_S = 2.0
TIMEOUT_S = 6.0
"""For all of one call: connecting, and a few requests."""
NOT_FOUND = 10059
"""JetStream's err_code for a stream that is not there."""
Config = dict[str, Any]
"""A stream's configuration as JetStream has it in JSON: nothing is lost that a client library does not know."""
_T = TypeVar("_T")


class StreamAdmin:
    """url: of the server itself. All calls block, at most ``TIMEOUT_S``, and raise FaultError.

    Not to be called where an event loop runs: each call has one of its own.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def taking(self, topics: Sequence[str]) -> dict[str, Config]:
        """The streams that take any of these subjects: their configurations by name. FaultError where there is none."""

        async def work(client: Client) -> dict[str, Config]:
            names: set[str] = set()
            for topic in topics:
                names.update((await _ask(client, "STREAM.NAMES", {"subject": topic})).get("streams") or ())
            return {name: (await _ask(client, f"STREAM.INFO.{name}"))["config"] for name in sorted(names)}

        found = self._run(work)
        if not found:
            raise FaultError(f"no stream takes {', '.join(topics)} yet; let a run publish first")
        return found

    def delete(self, names: Sequence[str]) -> None:
        """Remove these streams with all they hold; those that are not there are left out."""

        async def work(client: Client) -> None:
            for name in names:
                await _ask(client, f"STREAM.DELETE.{name}", missing_ok=True)

        self._run(work)

    def restore(self, configs: Mapping[str, Config]) -> None:
        """Make those of these streams that are gone; a stream that is there, however it is now, is left alone."""

        async def work(client: Client) -> None:
            for name, config in configs.items():
                if not await _ask(client, f"STREAM.INFO.{name}", missing_ok=True):
                    await _ask(client, f"STREAM.CREATE.{name}", config)

        self._run(work)

    def change(self, names: Sequence[str], changed: Callable[[Config, int], Config]) -> None:
        """Give these streams what ``changed`` says instead of their configuration, told with how many messages they

        hold. Streams that are gone are left out.
        """

        async def work(client: Client) -> None:
            for name in names:
                info = await _ask(client, f"STREAM.INFO.{name}", missing_ok=True)
                if info:
                    config = changed(dict(info["config"]), int(info["state"]["messages"]))
                    await _ask(client, f"STREAM.UPDATE.{name}", config)

        self._run(work)

    def _run(self, work: Callable[[Client], Coroutine[Any, Any, _T]]) -> _T:
        import nats.errors  # here, because a dashboard that breaks nothing needs no client
        from nats.aio.client import Client as NatsClient

        async def connected() -> _T:
            async with asyncio.timeout(TIMEOUT_S):
                client = NatsClient()
                try:
                    await client.connect(
                        self._url, connect_timeout=2, allow_reconnect=False, error_cb=_silent, name="ackscope-faults"
                    )
                    return await work(client)
                finally:
                    await client.close()  # also after a connect in vain: else its socket stays open

        try:
            return asyncio.run(connected())
        except (nats.errors.Error, OSError, TimeoutError) as error:
            text = str(error) or type(error).__name__
            raise FaultError(f"the embedded nats-server does not answer ({text}); undo other faults first") from error


async def _ask(
    client: Client, subject: str, request: Mapping[str, Any] | None = None, *, missing_ok: bool = False
) -> dict[str, Any]:
    """One request to JetStream; empty where the stream is missing and that is fine."""
    body = b"" if request is None else json.dumps(request).encode()
    answer: dict[str, Any] = json.loads((await client.request(f"$JS.API.{subject}", body, ANSWER_TIMEOUT_S)).data)
    error = answer.get("error")
    if error is None:
        return answer
    if missing_ok and error.get("err_code") == NOT_FOUND:
        return {}
    raise FaultError(f"JetStream refused {subject}: {error.get('description', error)}")


async def _silent(error: Exception) -> None:
    """What a call raises is enough."""
