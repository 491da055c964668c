"""WebhookSink: notifications by HTTP POST, in the form of Alertmanager. Needs aiohttp (the extra ``alerts``)."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

from eventbus.alerts.sinks.address import WebhookAddress
from eventbus.alerts.sinks.alertmanager import payload
from eventbus.alerts.sinks.notification import Notification
from eventbus.alerts.sinks.sink import DeliveryError
from eventbus.alerts.sinks.wording import one_line
from eventbus.errors import ConfigError

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""The IP addresses of a host, for a port. Raises OSError (socket.gaierror)."""

_ANSWER_BYTES = 1_024
_ANSWER_CHARACTERS = 160
_PASSING = frozenset({408, 425, 429})
"""Codes below 500 that say "later": too slow, too early, too many."""
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_OURS = frozenset({"host", "content-length", "content-type", "transfer-encoding", "connection", "accept-encoding"})


async def look_up(host: str, port: int) -> Sequence[str]:
    """Ask the system's resolver. Its thread cannot be cancelled, only left."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(entry[4][0]) for entry in found]


class WebhookSink:
    """POSTs to ``address``, and takes any 2xx for delivered.

    The host is looked up once for each request, all its addresses are checked, and only these are connected to. There
    are no redirects, proxies, cookies or compression, and at most 1 KiB of an answer is read. timeout_s: for
    the whole request. headers: added to each request. context: for TLS; None trusts the system's authorities.
    Raises ConfigError where aiohttp is missing or a header cannot be sent.
    """

    takes_all = False

    def __init__(
        self,
        name: str,
        address: WebhookAddress,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 10.0,
        context: ssl.SSLContext | None = None,
        resolve: Resolve = look_up,
    ) -> None:
        self._aiohttp = _import_aiohttp()
        self.name = name
        self.where = address.shown
        self._address = address
        self._headers = {**_checked(headers or {}), "Content-Type": "application/json", "Accept-Encoding": "identity"}
        if address.authorization is not None:
            self._headers["Authorization"] = address.authorization
        self._timeout_s = timeout_s
        self._context = context
        self._resolve = resolve
        values = (headers or {}).values()
        words = {word for value in values for word in (value, *value.split()) if len(word) > 4}
        self._secrets = sorted({*address.secrets, *words}, key=len, reverse=True)

    def __repr__(self) -> str:
        return f"WebhookSink({self.name!r}, {self.where})"

    async def deliver(self, notifications: Sequence[Notification]) -> None:
        """One request for all of them. Raises DeliveryError; takes at most ``timeout_s``."""
        body = json.dumps(payload(self.name, notifications), allow_nan=False).encode()
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._post(body, await self._addresses())
        except TimeoutError:
            raise DeliveryError(f"{self.where}: no answer within {self._timeout_s:g} s", retry=True) from None

    async def _addresses(self) -> Sequence[str]:
        try:
            found = list(dict.fromkeys(await self._resolve(self._address.host.strip("[]"), self._address.port)))
        except (OSError, UnicodeError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise DeliveryError(f"{self.where}: the host is not found: {reason}", retry=True) from None
        # One bad address is enough: a name that stands for a public and a private one is set up to get past us.
        for address in found:
            reason = self._address.refusal(address)
            if reason is not None:
                raise DeliveryError(f"{self.where}: {reason}", retry=False)
        if not found:
            raise DeliveryError(f"{self.where}: the host has no address", retry=True)
        return found

    async def _post(self, body: bytes, addresses: Sequence[str]) -> None:
        aiohttp = self._aiohttp
        connector = aiohttp.TCPConnector(
            resolver=_Pinned(addresses),
            use_dns_cache=False,
            force_close=True,
            ssl=True if self._context is None else self._context,
        )
        try:
            async with (
                aiohttp.ClientSession(
                    connector=connector,
                    cookie_jar=aiohttp.DummyCookieJar(),
                    timeout=aiohttp.ClientTimeout(total=self._timeout_s),
                    trust_env=False,  # a proxy would look the name up again, and netrc has passwords of others
                    auto_decompress=False,
                ) as session,
                session.post(
                    # encoded: the URL goes out as it was written.
                    self._as_url(),
                    data=body,
                    headers=self._headers,
                    allow_redirects=False,
                ) as response,
            ):
                answer = b"" if response.status < 300 else await response.content.read(_ANSWER_BYTES)
                self._judge(response.status, answer, response.headers.get("Retry-After"))
        except aiohttp.ClientConnectorCertificateError as error:
            reason = getattr(error.certificate_error, "verify_message", None) or "not valid"
            raise DeliveryError(f"{self.where}: the certificate is refused: {reason}", retry=False) from None
        except aiohttp.InvalidURL:
            raise DeliveryError(f"{self.where}: not a URL that can be sent to", retry=False) from None
        except (aiohttp.ClientError, OSError) as error:
            if isinstance(error, TimeoutError):
                raise
            # Not str(error): aiohttp's texts repeat addresses, and for some errors the whole URL.
            number = getattr(error, "errno", None)
            reason = os.strerror(number) if number else type(error).__name__
            raise DeliveryError(f"{self.where}: no connection: {reason}", retry=True) from None

    def _as_url(self) -> Any:
        from yarl import URL  # comes with aiohttp

        return URL(self._address.url, encoded=True)

    def _judge(self, status: int, answer: bytes, retry_after: str | None) -> None:
        if 200 <= status < 300:
            return
        text = f"{self.where} answered {status}"
        if 300 <= status < 400:
            raise DeliveryError(
                f"{text}: a redirect, which is never followed; use the address it leads to", retry=False
            )
        said = self._without_secrets(one_line(answer.decode("utf-8", "replace")))[:_ANSWER_CHARACTERS]
        retry = status >= 500 or status in _PASSING
        after_s = float(retry_after) if retry and (retry_after or "").isdecimal() and retry_after else None
        raise DeliveryError(f"{text}: {said}" if said else text, retry, after_s)

    def _without_secrets(self, text: str) -> str:
        """Receivers echo what they were sent."""
        for secret in self._secrets:
            text = text.replace(secret, "…")
        return text


class _Pinned:
    """Implements aiohttp's AbstractResolver: whatever it is asked for, these addresses."""

    def __init__(self, addresses: Sequence[str]) -> None:
        self._addresses = addresses

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[dict[str, Any]]:
        return [
            {
                "hostname": host,
                "host": address,
                "port": port,
                "family": socket.AF_INET6 if ":" in address else socket.AF_INET,
                "proto": socket.IPPROTO_TCP,
                "flags": socket.AI_NUMERICHOST,
            }
            for address in self._addresses
        ]

    async def close(self) -> None:
        """Nothing is held."""


def _checked(headers: Mapping[str, str]) -> dict[str, str]:
    """Raises ConfigError that never repeats a value."""
    for name, value in headers.items():
        if not _TOKEN.fullmatch(name) or name.lower() in _OURS:
            raise ConfigError(f"header {name!r} cannot be set; use a name of letters, digits and '-', and none of ours")
        if _UNSAFE.search(value) or not value.isascii():
            raise ConfigError(f"the value of header {name!r} holds a character that no header may; use printable ASCII")
    return dict(headers)


def _import_aiohttp() -> ModuleType:
    try:
        import aiohttp
    except ImportError:
        raise ConfigError("webhooks need aiohttp: pip install 'ackscope[alerts]'") from None
    return aiohttp
