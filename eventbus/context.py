"""The context files of the ``nats`` command line tool: where to connect, as whom, and with which certificates."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from eventbus.config import ConnectionConfig, NatsAuth, TlsConfig
from eventbus.errors import ConfigError
from eventbus.url import BrokerUrl

_NOT_SUPPORTED = (
    *("user_jwt", "nsc", "socks_proxy", "jetstream_domain", "jetstream_api_prefix"),
    *("windows_cert_store", "windows_ca_certs_match"),
)
"""What would change where or as whom messages are stored: refused instead of left out in silence."""
_DEFAULT_URL = "nats://127.0.0.1:4222"


def read_context(name: str, connection: ConnectionConfig) -> tuple[BrokerUrl, ConnectionConfig]:
    """The servers of context ``name`` (empty: the one selected with ``nats context select``), and its settings.

    What ``connection`` has wins over the file. Reads ``$XDG_CONFIG_HOME/nats``, else ``~/.config/nats``.
    Raises ConfigError, which never repeats a value of the file.
    """
    folder = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "nats"
    name = name or _selected(folder)
    path = folder / "context" / f"{name}.json"
    values = _read(path)
    refused = [setting for setting in _NOT_SUPPORTED if values.get(setting)]
    if refused:
        raise ConfigError(f"nats context {path}: {', '.join(refused)} is not supported; connect with a URL instead")
    url = values.get("url") or _DEFAULT_URL
    try:
        broker = BrokerUrl.parse(url if "://" in url else f"nats://{url}")
        if not broker.servers:
            raise ConfigError("its url is not that of a NATS server")
        auth = connection.auth or _auth(values)
        tls = connection.tls or _tls(values)
        default = ConnectionConfig()
        prefix = values.get("inbox_prefix") or default.inbox_prefix
        if connection.inbox_prefix != default.inbox_prefix:
            prefix = connection.inbox_prefix
        return broker, replace(connection, auth=auth, tls=tls, inbox_prefix=prefix.rstrip("."))
    except ConfigError as error:
        raise ConfigError(f"nats context {path}: {error}") from None


def _selected(folder: Path) -> str:
    try:
        name = (folder / "context.txt").read_text(encoding="utf-8").strip()
    except OSError:
        name = ""
    if not name:
        raise ConfigError("no nats context is selected; use nats+context://NAME, or `nats context select NAME`")
    return BrokerUrl.parse(f"nats+context://{name}").redacted.partition("://")[2]


def _read(path: Path) -> Mapping[str, str]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"nats context {path} cannot be read: {error.strerror}; see `nats context ls`") from None
    except ValueError:  # its text would repeat the file
        raise ConfigError(f"nats context {path} is not JSON") from None
    if not isinstance(found, dict):
        raise ConfigError(f"nats context {path} is not a JSON object")
    wrong = [key for key, value in found.items() if key in _TEXTS and not isinstance(value, str)]
    if wrong:
        raise ConfigError(f"nats context {path}: {', '.join(wrong)} is not text")
    return found


_TEXTS = ("url", "user", "password", "token", "creds", "nkey", "cert", "key", "ca", "inbox_prefix")


def _auth(values: Mapping[str, str]) -> NatsAuth | None:
    """User, else creds, else nkey, else token: the order in which the tool looks."""
    if values.get("user"):
        return NatsAuth(user=values["user"], password=values.get("password", ""))
    if values.get("creds"):
        return NatsAuth(creds_file=_expanded(os.path.expandvars(values["creds"])))
    if values.get("nkey"):
        return NatsAuth(nkey_file=_expanded(values["nkey"]))
    return NatsAuth(token=values["token"]) if values.get("token") else None


def _tls(values: Mapping[str, str]) -> TlsConfig | None:
    ca, cert, key = (_expanded(values[name]) if values.get(name) else None for name in ("ca", "cert", "key"))
    first = bool(values.get("tls_first"))
    if ca is None and cert is None and key is None and not first:
        return None
    return TlsConfig(ca_file=ca, cert_file=cert, key_file=key, handshake_first=first)


def _expanded(path: str) -> str:
    return os.path.expanduser(path)
