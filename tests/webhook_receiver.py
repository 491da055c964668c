"""WebhookReceiver: a real HTTP server on loopback that keeps what it was sent and answers as the test says."""

from __future__ import annotations

import json
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True)
class Received:
    """One request."""

    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


async def accept(request: web.Request) -> web.StreamResponse:
    return web.Response(status=204)


def answering(status: int, text: str = "", **headers: str) -> Answer:
    """Always this; ``_`` in the name of a header stands for ``-``."""

    async def answer(request: web.Request) -> web.StreamResponse:
        return web.Response(
            status=status, text=text, headers={name.replace("_", "-"): v for name, v in headers.items()}
        )

    return answer


class WebhookReceiver:
    """Serves between ``async with`` and its end, on the test's event loop. answer: may be changed at any time."""

    def __init__(self, answer: Answer = accept, context: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        self.received: list[Received] = []
        self.port = 0
        self._scheme = "http" if context is None else "https"
        self._context = context
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)

    @property
    def url(self) -> str:
        return f"{self._scheme}://127.0.0.1:{self.port}/hook"

    @property
    def alerts(self) -> list[dict[str, Any]]:
        """Of all requests, in the order of arrival."""
        return [alert for request in self.received for alert in request.json["alerts"]]

    async def __aenter__(self) -> WebhookReceiver:
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0, ssl_context=self._context).start()
        self.port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self._runner.cleanup()

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        self.received.append(Received(request.path_qs, dict(request.headers), await request.read()))
        return await self.answer(request)
