"""BrokerUrl: where to publish, as the user wrote it, taken apart and checked."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from eventbus.errors import ConfigError

_NATS = ("nats", "tls", "ws", "wss")
SCHEMES = (*_NATS, "nats+context", "embedded+nats", "memory")
_CONTEXT_NAME = re.compile(r"(?!.*\.\.)[\w.-]+")


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """scheme, and for a network broker its servers as full URLs (several by comma). repr hides what may be secret."""

    scheme: str
    servers: tuple[str, ...] = field(default=(), repr=False)
    redacted: str = ""

    @classmethod
    def parse(cls, text: str) -> BrokerUrl:
        """Read a URL. Raises ConfigError that says what is allowed, and never repeats a password."""
        scheme, separator, rest = text.partition("://") if isinstance(text, str) else ("", "", "")
        if not separator or scheme not in SCHEMES:
            given = repr(text) if "@" not in str(text) else "(not shown, because of its '@')"
            raise ConfigError(
                f"broker URL {given}: use nats://HOST:PORT, tls://, ws:// or wss:// (several servers by comma), "
                "nats+context://NAME, embedded+nats:// or memory://"
            )
        if scheme == "nats+context":
            if rest and not _CONTEXT_NAME.fullmatch(rest):
                raise ConfigError("broker URL nats+context://…: use nats+context://NAME, or none for the selected one")
            return cls(scheme, (), f"{scheme}://{rest}")
        if scheme in ("memory", "embedded+nats"):
            if rest:
                raise ConfigError(f"broker URL {scheme}://…: nothing may follow {scheme}://")
            return cls(scheme, (), f"{scheme}://")
        servers, shown = [], []
        parts = rest.split(",")
        if len(parts) > 1 and any("@" in part and "://" not in part for part in parts[1:]):
            raise ConfigError(
                "broker URL: where one of several servers has credentials, give each its scheme, as in "
                "nats://USER:PASSWORD@HOST:PORT,nats://USER:PASSWORD@HOST:PORT; write ',' in a password as %2C"
            )
        for part in parts:
            server = part if "://" in part else f"{scheme}://{part}"
            shown.append(_shown(server))
            servers.append(server)
        return cls(scheme, tuple(servers), ",".join(shown))


def _shown(server: str) -> str:
    """The server without user and password, checked."""
    try:
        parts = urlsplit(server)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, None
    if parts is not None and (parts.netloc.count("@") > 1 or "@" in parts.path + parts.query + parts.fragment):
        raise ConfigError("broker URL: write '/', '@', '?' and '#' in a user or password as %2F, %40, %3F and %23")
    if parts is None or parts.scheme not in _NATS or not host or any(c.isspace() for c in host):
        after = server.rpartition("@")[2]
        raise ConfigError(f"broker URL: {after!r} is not a server; use nats://HOST:PORT, as in nats://127.0.0.1:4222")
    if ":" in host:
        host = f"[{host}]"
    return f"{parts.scheme}://{host}" + ("" if port is None else f":{port}")


def take_credentials(server: str) -> tuple[str, tuple[str, ...]]:
    """A server's URL without its credentials, and these decoded: (), (token,) or (user, password)."""
    scheme, _, rest = server.partition("://")
    before, at, address = rest.rpartition("@")
    if not at or not before:
        return f"{scheme}://{address}", ()
    return f"{scheme}://{address}", tuple(unquote(part) for part in before.split(":", 1))
