"""BrokerUrl: where to publish, as the user wrote it, taken apart and checked."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from eventbus.errors import ConfigError

_NATS = ("nats", "tls", "ws", "wss")
_KAFKA = ("kafka", "kafka+ssl")
"""``kafka+ssl`` is what hosted clusters put into KAFKA_URL; SSL is Kafka's own name for TLS (``security.protocol``)."""
SCHEMES = (*_NATS, "nats+context", "embedded+nats", *_KAFKA, "embedded+kafka", "memory")
_CONTEXT_NAME = re.compile(r"(?!.*\.\.)[\w.-]+")


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """scheme, and for a network broker its servers as full URLs (several by comma). repr hides what may be secret.

    Servers of Kafka share one login, which may stand before the first of them only.
    """

    scheme: str
    servers: tuple[str, ...] = field(default=(), repr=False)
    redacted: str = ""

    @property
    def is_kafka(self) -> bool:
        """True where the broker is a Kafka, or the mock of one."""
        return self.scheme in (*_KAFKA, "embedded+kafka")

    @classmethod
    def parse(cls, text: str) -> BrokerUrl:
        """Read a URL. Raises ConfigError that says what is allowed, and never repeats a password."""
        scheme, separator, rest = text.partition("://") if isinstance(text, str) else ("", "", "")
        if not separator or scheme not in SCHEMES:
            given = repr(text) if "@" not in str(text) else "(not shown, because of its '@')"
            raise ConfigError(
                f"broker URL {given}: use nats://HOST:PORT, tls://, ws:// or wss:// (several servers by comma), "
                "nats+context://NAME, kafka://HOST:PORT or kafka+ssl:// (several servers by comma), "
                "embedded+nats://, embedded+kafka:// or memory://"
            )
        if scheme == "nats+context":
            if rest and not _CONTEXT_NAME.fullmatch(rest):
                raise ConfigError("broker URL nats+context://…: use nats+context://NAME, or none for the selected one")
            return cls(scheme, (), f"{scheme}://{rest}")
        if scheme in ("memory", "embedded+nats", "embedded+kafka"):
            if rest:
                raise ConfigError(f"broker URL {scheme}://…: nothing may follow {scheme}://")
            return cls(scheme, (), f"{scheme}://")
        kind = _KAFKA if scheme in _KAFKA else _NATS
        servers, shown = [], []
        parts = rest.split(",")
        if len(parts) > 1 and any("@" in part and "://" not in part for part in parts[1:]):
            raise ConfigError(_SEVERAL_LOGINS[kind[0]])
        for part in parts:
            server = part if "://" in part else f"{scheme}://{part}"
            shown.append(_shown(server, kind))
            servers.append(server)
        return cls(scheme, tuple(servers), ",".join(shown))


_SEVERAL_LOGINS = {
    "nats": "broker URL: where one of several servers has credentials, give each its scheme, as in "
    "nats://USER:PASSWORD@HOST:PORT,nats://USER:PASSWORD@HOST:PORT; write ',' in a password as %2C",
    "kafka": "broker URL: all servers of Kafka have one login, before the first of them, as in "
    "kafka://USER:PASSWORD@HOST:PORT,HOST:PORT; write ',' in a password as %2C",
}
_EXAMPLES = {
    "nats": "use nats://HOST:PORT, as in nats://127.0.0.1:4222",
    "kafka": "use kafka://HOST:PORT and nothing after it, as in kafka://127.0.0.1:9092",
}


def _shown(server: str, kind: tuple[str, ...]) -> str:
    """The server without user and password, checked. kind: the schemes that may stand beside each other."""
    try:
        parts = urlsplit(server)
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port, parts = None, None, None
    if parts is not None and (parts.netloc.count("@") > 1 or "@" in parts.path + parts.query + parts.fragment):
        raise ConfigError("broker URL: write '/', '@', '?' and '#' in a user or password as %2F, %40, %3F and %23")
    more = parts is not None and kind is _KAFKA and (parts.path.strip("/") or parts.query or parts.fragment)
    if parts is None or parts.scheme not in kind or more or not host or any(c.isspace() for c in host):
        after = re.split("[?#]", server.rpartition("@")[2])[0]  # settings behind it can be secret
        raise ConfigError(f"broker URL: {after!r} is not a server; {_EXAMPLES[kind[0]]}")
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
