"""Login: what nats-py is given of credentials and certificates. Made once, before anything is dialled.

Credentials in URLs are taken out of them and decoded here: nats-py sends them as they stand, percent signs included,
shows them in its errors, and has none for the servers that a cluster tells of.
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit

import nats.errors

from eventbus.config import ConnectionConfig, KafkaAuth, NatsAuth, TlsConfig
from eventbus.errors import ConfigError
from eventbus.publishers.tls import tls_context, why
from eventbus.url import take_credentials

_TLS_SCHEMES = ("tls", "wss")
_JWT = "BEGIN NATS USER JWT"
_SEED = "BEGIN USER NKEY SEED"


class Login:
    """servers: URLs without credentials. tls: nothing may be sent to a server without it. options: for nats-py.

    address: tells which server (``host:port`` as in its URL) is being dialled; asked when credentials differ.
    Raises ConfigError, with nothing secret in it: files that cannot be read, missing extras, contradictions.
    """

    def __init__(self, servers: tuple[str, ...], config: ConnectionConfig, address: Callable[[], str]) -> None:
        taken = [take_credentials(server) for server in servers]
        self.servers = tuple(server for server, _ in taken)
        schemes = {server.partition("://")[0] for server in self.servers}
        self.websocket = bool(schemes & {"ws", "wss"})
        self.tls = config.tls is not None or bool(schemes & set(_TLS_SCHEMES))
        if self.websocket and len(schemes) > 1:
            raise ConfigError("broker URL: give all servers the same scheme, ws:// or wss://")
        if "ws" in schemes and self.tls:
            raise ConfigError("TLS was asked for, and ws:// has none: use wss://")
        self.context = tls_context(config.tls or TlsConfig()) if self.tls else None
        self.hostname = None if config.tls is None else config.tls.hostname
        self.options: dict[str, Any] = {}
        if self.context is not None:
            self.options["tls"] = self.context
        if config.tls is not None:
            self.options["tls_handshake_first"] = config.tls.handshake_first and not self.websocket
            if self.hostname is not None:
                self.options["tls_hostname"] = self.hostname
        found = {_address(server): credentials for server, credentials in taken if credentials}
        if isinstance(config.auth, KafkaAuth):
            raise ConfigError("auth is a KafkaAuth, and the broker is NATS: give a NatsAuth")
        if config.auth is not None and found:
            raise ConfigError("credentials are in the broker URL and in auth: give them in one place")
        if config.auth is not None:
            self.options.update(_from_auth(config.auth))
        elif found:
            self.options.update(_from_urls(found, address))


def _address(server: str) -> str:
    """``host:port`` with nats-py's default for the port."""
    parts = urlsplit(server)
    return f"{parts.netloc}:4222" if parts.port is None and parts.scheme in ("nats", "tls") else parts.netloc


def _from_urls(found: Mapping[str, tuple[str, ...]], address: Callable[[], str]) -> dict[str, Any]:
    """Those of the server being dialled, else the first: for those without their own and those that were told of."""
    kinds = {len(credentials) for credentials in found.values()}
    if len(kinds) > 1:
        raise ConfigError("broker URL: one server has a token and another user and password; give all the same kind")
    first = next(iter(found.values()))
    if set(found.values()) == {first}:
        return {"token": first[0]} if len(first) == 1 else {"user": first[0], "password": first[1]}

    def part(index: int) -> Callable[[], str]:
        return lambda: found.get(address(), first)[index]

    return {"token": part(0)} if len(first) == 1 else {"user": part(0), "password": part(1)}


def _from_auth(auth: NatsAuth) -> dict[str, Any]:
    if auth.user is not None:
        return {"user": auth.user, "password": auth.password}
    if auth.token is not None:
        return {"token": auth.token}
    if auth.creds_file is not None:
        creds = Path(auth.creds_file)
        nkeys = _import_nkeys("creds files")
        _check_seed(nkeys, _read_creds(creds)[1], f"auth: creds_file {str(creds)!r}")
        return {"user_jwt_cb": lambda: _again(creds)[0], "signature_cb": lambda nonce: _sign(nkeys, creds, nonce)}
    nkeys = _import_nkeys("nkeys")
    seed, what = auth.nkey_seed or "", "auth: nkey_seed"
    if auth.nkey_file is not None:
        what = f"auth: nkey_file {os.fspath(auth.nkey_file)!r}"
        try:
            seed = Path(auth.nkey_file).read_text(encoding="ascii")
        except (OSError, ValueError) as error:
            raise ConfigError(f"{what} cannot be read: {why(error)}") from None
    _check_seed(nkeys, seed.strip().encode(), what)
    return {"nkeys_seed_str": seed.strip()}


def _check_seed(nkeys: ModuleType, seed: bytes, what: str) -> None:
    """See that it is a seed. nkeys fails on others in several ways, none of which says what to do."""
    try:
        nkeys.from_seed(bytearray(seed)).wipe()
    except (nkeys.NkeysError, binascii.Error, ValueError, TypeError, IndexError):
        raise ConfigError(f"{what} is not a user's nkey seed, which begins with SU") from None


def _read_creds(path: Path) -> tuple[bytes, bytes]:
    """JWT and seed. nats-py 2.16 would read a file without them for ever."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        after = [next(n for n, line in enumerate(lines, 1) if marker in line) for marker in (_JWT, _SEED)]
        jwt, seed = (lines[n].strip().encode() for n in after)
        return jwt, seed
    except OSError as error:
        raise ConfigError(f"auth: creds_file {str(path)!r} cannot be read: {why(error)}") from None
    except (ValueError, IndexError, StopIteration):
        raise ConfigError(f"auth: creds_file {str(path)!r} does not hold a user's JWT and nkey seed") from None


def _again(path: Path) -> tuple[bytes, bytes]:
    """The same while connecting, where nats-py tries again only after errors of its own kind."""
    try:
        return _read_creds(path)
    except ConfigError as error:
        raise nats.errors.Error(str(error)) from None


def _sign(nkeys: ModuleType, path: Path, nonce: str) -> bytes:
    seed = _again(path)[1]
    try:
        pair = nkeys.from_seed(bytearray(seed))
        signature = base64.b64encode(pair.sign(nonce.encode()))
        pair.wipe()
    except (nkeys.NkeysError, binascii.Error, ValueError, TypeError, IndexError):
        raise nats.errors.Error(f"auth: creds_file {str(path)!r} holds no usable nkey seed") from None
    return signature


def _import_nkeys(purpose: str) -> ModuleType:
    try:
        import nkeys  # type: ignore[import-untyped]  # it comes without types
    except ImportError:
        raise ConfigError(f"{purpose} need nkeys; install it with `pip install 'ackscope[nkeys]'`") from None
    module: ModuleType = nkeys
    return module
