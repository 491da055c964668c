"""Every way to connect to NATS, on real servers; what is wrong ends soon and clearly; nothing secret gets out."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
import random
import socket
import ssl
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nkeys  # type: ignore[import-untyped]  # it comes without types
import pytest
import trustme

import eventbus
from eventbus import (
    AckOutcome,
    ConfigError,
    ConnectFailed,
    ConnectionConfig,
    ConnectionState,
    NatsAuth,
    TlsConfig,
    TopicConfig,
)
from eventbus.embedded.nats import EmbeddedNats
from eventbus.publishers.nats.login import Login
from tests.nats_tools import DEADLINE_S, assert_conserved, eventually, restart_with

pytestmark = pytest.mark.integration

SECRET = "s3cr/et@p%ss"
ENCODED = "s3cr%2Fet%40p%25ss"
SOON_S = 3.0
"""What is refused for good must be told before the 10 s that these tests allow for a connection."""
PATIENT = 10.0
USER = f'authorization {{ user: "someone", password: "{SECRET}" }}'
TOKEN = f'authorization {{ token: "{SECRET}" }}'


@dataclass(frozen=True)
class Certificates:
    """Files for a server on 127.0.0.1, its authority, and a client that the same authority vouches for."""

    ca: Path
    server_cert: Path
    server_key: Path
    client_cert: Path
    client_key: Path
    other_ca: Path

    def block(self, extra: str = "") -> str:
        return (
            f'tls {{ cert_file: "{self.server_cert}", key_file: "{self.server_key}", ca_file: "{self.ca}", '
            f"timeout: 5, {extra} }}"
        )


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    folder = tmp_path_factory.mktemp("certificates")
    authority, other = trustme.CA(), trustme.CA()
    server = authority.issue_cert("127.0.0.1", "broker.test")
    client = authority.issue_cert("client@broker.test")
    names = ("ca", "server_cert", "server_key", "client_cert", "client_key", "other_ca")
    found = Certificates(*(folder / f"{name}.pem" for name in names))
    authority.cert_pem.write_to_path(found.ca)
    other.cert_pem.write_to_path(found.other_ca)
    for leaf, cert, key in (
        (server, found.server_cert, found.server_key),
        (client, found.client_cert, found.client_key),
    ):
        cert.write_bytes(b"".join(blob.bytes() for blob in leaf.cert_chain_pems))
        leaf.private_key_pem.write_to_path(key)
    return found


def seed(kind: int, number: int) -> str:
    """An nkey seed: two bytes of kind, 32 of key, a checksum, in base 32. Another number, another seed."""
    raw = bytes([SEED_KIND | (kind >> 5), (kind & 31) << 3]) + random.Random(number).randbytes(32)
    return base64.b32encode(raw + crc16(raw).to_bytes(2, "little")).decode().rstrip("=")


def crc16(data: bytes) -> int:
    value = 0
    for byte in data:
        value ^= byte << 8
        for _ in range(8):
            value = (value << 1) ^ 0x1021 if value & 0x8000 else value << 1
        value &= 0xFFFF
    return value


SEED_KIND, USER_KIND, ACCOUNT_KIND, OPERATOR_KIND = 18 << 3, 20 << 3, 0, 14 << 3
USER_SEED = seed(USER_KIND, 1)
OTHER_SEED = seed(USER_KIND, 2)
ACCOUNT_SEED = seed(ACCOUNT_KIND, 3)
SYSTEM_SEED = seed(ACCOUNT_KIND, 4)
OPERATOR_SEED = seed(OPERATOR_KIND, 5)


def public_key(of: str) -> str:
    return str(nkeys.from_seed(bytearray(of.encode())).public_key.decode())


def signed(by: str, subject: str, name: str, claims: dict[str, Any]) -> str:
    """A NATS JWT."""
    body = {"jti": name, "iat": 1_700_000_000, "iss": public_key(by), "name": name, "sub": subject}
    body["nats"] = {"version": 2, **claims}
    parts = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=") for part in (HEADER, body)]
    text = b".".join(parts)
    signature = nkeys.from_seed(bytearray(by.encode())).sign(text)
    return (text + b"." + base64.urlsafe_b64encode(signature).rstrip(b"=")).decode()


HEADER = {"typ": "JWT", "alg": "ed25519-nkey"}


def creds_text() -> str:
    user = signed(ACCOUNT_SEED, public_key(USER_SEED), "user", {"type": "user", "subs": -1, "data": -1, "payload": -1})
    return (
        f"-----BEGIN NATS USER JWT-----\n{user}\n------END NATS USER JWT------\n\n"
        f"-----BEGIN USER NKEY SEED-----\n{USER_SEED}\n------END USER NKEY SEED------\n"
    )


def operator_config() -> str:
    limits = {
        **dict.fromkeys(("subs", "data", "payload", "conn", "leaf", "imports", "exports"), -1),
        **dict.fromkeys(("mem_storage", "disk_storage", "streams", "consumer"), -1),
        "wildcards": True,
    }
    system_limits = {name: limit for name, limit in limits.items() if "storage" not in name}
    account, system = public_key(ACCOUNT_SEED), public_key(SYSTEM_SEED)
    preload = {
        account: signed(OPERATOR_SEED, account, "account", {"type": "account", "limits": limits}),
        system: signed(OPERATOR_SEED, system, "SYS", {"type": "account", "limits": system_limits}),
    }
    claims = {"type": "operator", "system_account": system}
    operator = signed(OPERATOR_SEED, public_key(OPERATOR_SEED), "operator", claims)
    told = ", ".join(f"{key}: {token}" for key, token in preload.items())
    return f"operator: {operator}\nresolver: MEMORY\nsystem_account: {system}\nresolver_preload: {{ {told} }}"


@contextlib.contextmanager
def server_with(config: str) -> Iterator[EmbeddedNats]:
    with EmbeddedNats(extra_config=config) as server:
        yield server


def settings(**given: Any) -> ConnectionConfig:
    return ConnectionConfig(connect_timeout_s=PATIENT, reconnect_delay_s=0.05, **given)


async def publishes(url: str, connection: ConnectionConfig | None = None, hidden: tuple[str, ...] = (SECRET,)) -> None:
    """Connects, has messages acked, and shows nothing that must be hidden."""
    events: list[str] = []

    class Listener:
        every_outcome = True

        def settled(self, reports: Any) -> None:
            events.extend(map(repr, reports))

        def happened(self, event: Any) -> None:
            events.append(repr(event))

    before = asyncio.all_tasks()
    async with asyncio.timeout(DEADLINE_S):
        connecting = eventbus.connect(url, connection=connection or settings(), observers=[Listener()])
        async with connecting as bus:
            receipts = [await bus.publish("orders.created", b"x" * 1000) for _ in range(100)]
            reports = [await receipt for receipt in receipts]
            assert {report.outcome for report in reports} == {AckOutcome.ACKED}
            snapshot = bus.snapshot()
            assert_conserved(snapshot)
            shown = " ".join([repr(bus), bus.url, repr(snapshot), repr(connection), repr(connecting), *events])
    for secret in (*hidden, ENCODED):
        assert secret not in shown
    await eventually(lambda: asyncio.all_tasks() <= before, "no task is left")


async def fails(
    url: str, match: str, connection: ConnectionConfig | None = None, hidden: tuple[str, ...] = (SECRET, ENCODED)
) -> None:
    """ConnectFailed, soon, with what is wrong and without what is secret; also in what caused it."""
    began = time.monotonic()
    before = asyncio.all_tasks()
    with pytest.raises(ConnectFailed, match=match) as caught:
        await eventbus.connect(url, connection=connection or settings())
    assert time.monotonic() - began < SOON_S
    error: BaseException | None = caught.value
    while error is not None:
        assert not any(secret in f"{error!r} {error}" for secret in hidden)
        error = error.__cause__ or error.__context__
    await eventually(lambda: asyncio.all_tasks() <= before, "no task is left")


@pytest.fixture(autouse=True)
def nothing_secret_is_logged(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """Whatever a test does, no log line holds a password, token or seed."""
    caplog.set_level(logging.DEBUG)
    yield
    for secret in (SECRET, ENCODED, USER_SEED):
        assert secret not in caplog.text


# ---- who we are ------------------------------------------------------------------------------------------------


async def test_user_and_password() -> None:
    """By URL, percent signs decoded, and by config; a wrong password is told at once."""
    with server_with(USER) as server:
        address = f"127.0.0.1:{server.port}"
        await publishes(f"nats://someone:{ENCODED}@{address}")
        await publishes(server.url, settings(auth=NatsAuth(user="someone", password=SECRET)))
        await fails(f"nats://someone:{ENCODED}x@{address}", "refuses these credentials")
        await fails(server.url, "refuses these credentials", settings(auth=NatsAuth(token=SECRET)))
        await fails(server.url, "refuses these credentials")


async def test_token() -> None:
    """By URL and by config."""
    with server_with(TOKEN) as server:
        await publishes(f"nats://{ENCODED}@127.0.0.1:{server.port}")
        await publishes(server.url, settings(auth=NatsAuth(token=SECRET)))
        await fails(f"nats://{ENCODED}x@127.0.0.1:{server.port}", "refuses these credentials")


async def test_nkey(tmp_path: Path) -> None:
    """The seed by value or from a file; another seed is refused."""
    file = tmp_path / "user.nk"
    file.write_text(f"{USER_SEED}\n")
    with server_with(f"authorization {{ users: [ {{ nkey: {public_key(USER_SEED)} }} ] }}") as server:
        await publishes(server.url, settings(auth=NatsAuth(nkey_seed=USER_SEED)), (USER_SEED,))
        await publishes(server.url, settings(auth=NatsAuth(nkey_file=file)), (USER_SEED,))
        connection = settings(auth=NatsAuth(nkey_seed=OTHER_SEED))
        await fails(server.url, "refuses these credentials", connection, (USER_SEED, OTHER_SEED))


async def test_creds_file(tmp_path: Path) -> None:
    """JWT and seed as nsc writes them; after a restart of the server they are read again."""
    file = tmp_path / "user.creds"
    file.write_text(creds_text())
    with server_with(operator_config()) as server:
        connection = settings(auth=NatsAuth(creds_file=file))
        await publishes(server.url, connection, (USER_SEED, creds_text().splitlines()[1]))
        await fails(server.url, "refuses these credentials")
        async with eventbus.connect(server.url, connection=connection) as bus:
            await asyncio.to_thread(server.kill)
            await eventually(lambda: bus.snapshot().connection is not ConnectionState.CONNECTED, "noticed")
            file.write_text("not yet written")
            await asyncio.to_thread(server.restart)
            file.write_text(creds_text())
            receipt = await bus.publish("orders.created", b"again")
            async with asyncio.timeout(DEADLINE_S):
                assert (await receipt).outcome is AckOutcome.ACKED


@pytest.mark.parametrize("content", ["", "no markers\n", "-----BEGIN NATS USER JWT-----"])
async def test_creds_file_without_credentials(tmp_path: Path, content: str) -> None:
    """ConfigError at once: nats-py would read such a file for ever."""
    file = tmp_path / "user.creds"
    file.write_text(content)
    for path in (file, tmp_path / "absent"):
        with pytest.raises(ConfigError, match="creds_file"):
            await eventbus.connect("nats://127.0.0.1:1", connection=settings(auth=NatsAuth(creds_file=path)))


@pytest.mark.parametrize("wrong", ["SUABC", USER_SEED[:-8], "é", "UAAA"])
async def test_nkey_seed_that_is_none(wrong: str) -> None:
    """ConfigError, without the seed."""
    with pytest.raises(ConfigError, match="nkey seed") as caught:
        await eventbus.connect("nats://127.0.0.1:1", connection=settings(auth=NatsAuth(nkey_seed=wrong)))
    assert wrong not in str(caught.value)


@pytest.mark.parametrize(
    ("module", "extra", "url", "auth"),
    [
        ("nkeys", "nkeys", "nats://127.0.0.1:1", NatsAuth(nkey_seed=USER_SEED)),
        ("aiohttp", "websocket", "ws://127.0.0.1:1", None),
    ],
)
async def test_missing_extra(
    monkeypatch: pytest.MonkeyPatch, module: str, extra: str, url: str, auth: NatsAuth | None
) -> None:
    """What an extra is needed for says which one, and how to get it."""
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigError, match=rf"pip install 'ackscope\[{extra}\]'"):
        await eventbus.connect(url, connection=settings(auth=auth))


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"user": "someone"},
        {"password": SECRET},
        {"user": "someone", "password": SECRET, "token": SECRET},
        {"token": ""},
        {"nkey_seed": SECRET, "creds_file": "x"},
    ],
)
def test_auth_that_contradicts_itself(given: dict[str, str]) -> None:
    """Exactly one way, told without what is secret."""
    with pytest.raises(ConfigError, match="auth has") as caught:
        NatsAuth(**given)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "given", "says"),
    [
        (f"nats://a:{ENCODED}@h", {"auth": NatsAuth(token="t")}, "in one place"),
        (f"nats://a:{ENCODED}@h,nats://{ENCODED}@i", {}, "same kind"),
        ("ws://h", {"tls": TlsConfig()}, "use wss://"),
        ("ws://h,wss://i", {}, "same scheme"),
        ("nats://h,ws://i", {}, "same scheme"),
        ("tls://h", {"tls": TlsConfig(ca_file="/nowhere/ca.pem")}, "ca_file '/nowhere/ca.pem'"),
        ("tls://h", {"tls": TlsConfig(cert_file="/nowhere/c.pem")}, "cert_file"),
    ],
)
async def test_settings_that_contradict_each_other(url: str, given: dict[str, Any], says: str) -> None:
    """ConfigError before anything is dialled."""
    with pytest.raises(ConfigError, match=says) as caught:
        await eventbus.connect(url, connection=settings(**given))
    assert ENCODED not in str(caught.value)


def test_repr_of_settings() -> None:
    """Nothing secret, whatever it is printed with."""
    shown = repr(settings(auth=NatsAuth(user="someone", password=SECRET), tls=TlsConfig("a", "b", "c", SECRET)))
    assert SECRET not in shown
    assert "someone" not in shown
    assert SECRET not in repr(NatsAuth(token=SECRET)) + repr(NatsAuth(nkey_seed=SECRET))


async def test_inbox_prefix() -> None:
    """Acks come where the user may listen; elsewhere, the connection is refused."""
    allowed = 'permissions: { subscribe: "_MINE.>" }'
    with server_with(f'authorization {{ users: [ {{ user: a, password: "{SECRET}", {allowed} }} ] }}') as server:
        auth = NatsAuth(user="a", password=SECRET)
        await publishes(server.url, settings(auth=auth, inbox_prefix="_MINE"))
        await fails(server.url, "may not subscribe", settings(auth=auth))


@pytest.mark.parametrize("prefix", ["", "a.", "a..b", "a.*", ">", "a b"])
def test_inbox_prefix_that_is_no_subject(prefix: str) -> None:
    with pytest.raises(ConfigError, match="inbox_prefix"):
        ConnectionConfig(inbox_prefix=prefix)


# ---- TLS -------------------------------------------------------------------------------------------------------


async def test_tls(certificates: Certificates) -> None:
    """Asked for by scheme or by config, also where the server leaves it open; an unknown authority is refused."""
    tls = TlsConfig(ca_file=certificates.ca)
    for extra in ("", "handshake_first: true"):
        first = TlsConfig(ca_file=certificates.ca, handshake_first=bool(extra))
        with server_with(f"{certificates.block(extra)}\n{USER}") as server:
            address = f"someone:{ENCODED}@127.0.0.1:{server.port}"
            await publishes(f"tls://{address}", settings(tls=first))
            await publishes(f"nats://{address}", settings(tls=first))
            for authority in (None, certificates.other_ca):
                untrusting = TlsConfig(ca_file=authority, handshake_first=bool(extra))
                await fails(f"tls://{address}", "certificate is not trusted", settings(tls=untrusting))
            wrong_name = TlsConfig(certificates.ca, hostname="other.test", handshake_first=bool(extra))
            await fails(f"tls://{address}", "certificate is not trusted.*other.test", settings(tls=wrong_name))
            named = TlsConfig(certificates.ca, hostname="broker.test", handshake_first=bool(extra))
            await publishes(f"tls://{address}", settings(tls=named))
    with server_with(f"{certificates.block()}\nallow_non_tls: true\n{USER}") as server:
        connection = settings(tls=tls)
        async with eventbus.connect(f"nats://someone:{ENCODED}@127.0.0.1:{server.port}", connection=connection) as bus:
            await (await bus.publish("orders.created"))
            transport = bus._publisher._transport  # type: ignore[attr-defined]
            assert transport.encrypted


async def test_mutual_tls(certificates: Certificates) -> None:
    """With a certificate of our own where the server asks for one; without it, told soon."""
    with server_with(certificates.block("verify: true")) as server:
        url = f"tls://127.0.0.1:{server.port}"
        ours = TlsConfig(certificates.ca, certificates.client_cert, certificates.client_key)
        await publishes(url, settings(tls=ours))
        await fails(url, "client certificate", settings(tls=TlsConfig(certificates.ca)))


async def test_encrypted_key(certificates: Certificates, tmp_path: Path) -> None:
    """Opened with its password; without it ConfigError, and no question at the terminal."""
    from cryptography.hazmat.primitives import serialization as form

    key = form.load_pem_private_key(certificates.client_key.read_bytes(), None)
    file = tmp_path / "key.pem"
    hidden = form.BestAvailableEncryption(SECRET.encode())
    file.write_bytes(key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, hidden))
    with server_with(certificates.block("verify: true")) as server:
        url = f"tls://127.0.0.1:{server.port}"
        tls = TlsConfig(certificates.ca, certificates.client_cert, file, SECRET)
        await publishes(url, settings(tls=tls))
        with pytest.raises(ConfigError, match="key_password"):
            await eventbus.connect(url, connection=settings(tls=TlsConfig(certificates.ca, tls.cert_file, file)))


class Recorder:
    """A server that keeps every byte it is sent, in the clear unless ``tls``. ``info``: what it tells of itself."""

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None, **info: Any) -> None:
        self.received = b""
        self.connections = 0
        self._writers: list[asyncio.StreamWriter] = []
        self._info = {"server_id": "x", "version": "2.12.0", "max_payload": 1048576, "headers": True, **info}
        self._port = port
        self._tls = tls
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Recorder:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *error: object) -> None:
        self.end()

    def end(self) -> None:
        """Stop listening and drop all connections."""
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.append(writer)
        writer.write(b"INFO " + json.dumps(self._info).encode() + b"\r\n")
        with contextlib.suppress(OSError):
            if self._tls is not None:
                await writer.start_tls(self._tls)
            while more := await reader.read(65536):
                self.received += more
                writer.write(b"PONG\r\n" * more.count(b"PING\r\n"))
        writer.close()


@pytest.mark.parametrize("scheme", ["tls", "nats"])
@pytest.mark.parametrize("info", [{}, {"auth_required": True}, {"tls_required": False, "tls_available": False}])
async def test_tls_asked_for_and_not_offered(scheme: str, info: dict[str, Any]) -> None:
    """Refused at once, and the server has not been sent one byte."""
    connection = settings(tls=TlsConfig() if scheme == "nats" else None)
    async with Recorder(**info) as server:
        await fails(f"{scheme}://someone:{ENCODED}@127.0.0.1:{server.port}", "offers no TLS", connection)
        assert server.connections == 1
        assert server.received == b""


@pytest.mark.parametrize("claim", ["tls_required", "tls_available"])
async def test_tls_claimed_and_not_there(claim: str) -> None:
    """A server that says it has TLS and has none is sent a greeting of TLS, and nothing else."""
    claims: dict[str, Any] = {claim: True, "auth_required": True}
    async with Recorder(**claims) as server:
        url = f"tls://someone:{ENCODED}@127.0.0.1:{server.port}"
        with pytest.raises(ConnectFailed):
            await eventbus.connect(url, connection=ConnectionConfig(connect_timeout_s=0.5))
        assert server.received.startswith(b"\x16\x03")  # a TLS handshake
        assert b"someone" not in server.received
        assert SECRET.encode() not in server.received
        assert b"CONNECT" not in server.received


async def test_tls_gone_after_a_reconnect(certificates: Certificates) -> None:
    """The server comes back without TLS: it is told, nothing is sent, and messages wait for the true server."""
    config = f"{certificates.block()}\n{USER}"
    with server_with(config) as server:
        connection = settings(tls=TlsConfig(ca_file=certificates.ca))
        url = f"nats://someone:{ENCODED}@127.0.0.1:{server.port}"
        async with eventbus.connect(url, connection=connection) as bus:
            await (await bus.publish("orders.created", b"1"))
            await asyncio.to_thread(server.kill)
            async with Recorder(server.port) as impostor:
                await eventually(lambda: bus.snapshot().connection is ConnectionState.DENIED, "told")
                receipt = await bus.publish("orders.created", b"2")
                await eventually(lambda: impostor.connections > 3, "tried again")
                assert impostor.received == b""
            await asyncio.to_thread(server.restart)
            async with asyncio.timeout(DEADLINE_S):
                assert (await receipt).outcome is AckOutcome.ACKED


async def test_server_told_of_by_another_has_no_tls(certificates: Certificates) -> None:
    """Servers that a cluster tells of are held to the same rule."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificates.server_cert, certificates.server_key)
    async with Recorder() as impostor:
        told = [f"127.0.0.1:{impostor.port}"]
        async with Recorder(tls=tls, tls_required=True, connect_urls=told) as server:
            connection = settings(tls=TlsConfig(ca_file=certificates.ca))
            topics = [TopicConfig("core.>", durable=False)]
            url = f"tls://someone:{ENCODED}@127.0.0.1:{server.port}"
            async with eventbus.connect(url, connection=connection, topics=topics) as bus:
                assert json.loads(server.received.split(b"\r\n")[0].removeprefix(b"CONNECT "))["pass"] == SECRET
                server.end()
                await eventually(lambda: impostor.connections > 2, "the other server is tried, and again")
                assert impostor.received == b""
                assert bus.snapshot().connection is not ConnectionState.CONNECTED


# ---- websocket -------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_websocket() -> None:
    """Publishes and is acked, also after the server was away; a wrong password is told at once."""
    port = free_port()
    with server_with(f'websocket {{ listen: "127.0.0.1:{port}", no_tls: true }}\n{USER}') as server:
        url = f"ws://someone:{ENCODED}@127.0.0.1:{port}"
        await publishes(url)
        await fails(f"ws://someone:{ENCODED}x@127.0.0.1:{port}", "refuses these credentials")
        async with eventbus.connect(url, connection=settings()) as bus:
            await (await bus.publish("orders.created", b"1"))
            await asyncio.to_thread(server.restart)
            receipt = await bus.publish("orders.created", b"2")
            async with asyncio.timeout(DEADLINE_S):
                assert (await receipt).outcome is AckOutcome.ACKED
            receipts = [await bus.publish("orders.created", b"x" * 100_000) for _ in range(200)]
            async with asyncio.timeout(DEADLINE_S):
                assert {(await receipt).outcome for receipt in receipts} == {AckOutcome.ACKED}


async def test_websocket_with_tls(certificates: Certificates) -> None:
    """The same certificates as elsewhere, with one of our own or without."""
    port = free_port()
    for extra in ("", "verify: true"):
        config = f'websocket {{ listen: "127.0.0.1:{port}", {certificates.block(extra)} }}\n{USER}'
        with server_with(config):
            url = f"wss://someone:{ENCODED}@127.0.0.1:{port}"
            ours = TlsConfig(certificates.ca, certificates.client_cert, certificates.client_key)
            await publishes(url, settings(tls=ours))
            await fails(url, "certificate is not trusted", settings())
            other = TlsConfig(certificates.ca, certificates.client_cert, certificates.client_key, hostname="other.test")
            await fails(url, "certificate is not trusted.*other.test", settings(tls=other))
            await publishes(url, settings(tls=replace(other, hostname="broker.test")))
            if extra:
                await fails(url, "client certificate", settings(tls=TlsConfig(certificates.ca)))


async def test_websocket_to_something_else() -> None:
    """A server that speaks NATS and no websocket never sees who we are."""
    async with Recorder() as server:
        url = f"ws://someone:{ENCODED}@127.0.0.1:{server.port}"
        with pytest.raises(ConnectFailed):
            await eventbus.connect(url, connection=ConnectionConfig(connect_timeout_s=0.5))
        assert SECRET.encode() not in server.received
        assert ENCODED.encode() not in server.received


async def test_websocket_that_redirects(certificates: Certificates) -> None:
    """Out of TLS or to another host: refused, and nobody sees the password."""
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificates.server_cert, certificates.server_key)
    seen: list[bytes] = []

    async def redirect(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(f"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:{elsewhere.port}/\r\n\r\n".encode())
        writer.close()

    async with Recorder() as elsewhere, await asyncio.start_server(redirect, "127.0.0.1", 0, ssl=tls) as server:
        url = f"wss://someone:{ENCODED}@127.0.0.1:{server.sockets[0].getsockname()[1]}"
        connection = ConnectionConfig(connect_timeout_s=0.5, tls=TlsConfig(certificates.ca))
        with pytest.raises(ConnectFailed, match="redirects"):
            await eventbus.connect(url, connection=connection)
        assert seen
        assert not any(secret in request for request in seen for secret in (b"someone", SECRET.encode(), b"s3cr"))
        assert elsewhere.connections == 0


# ---- several servers -------------------------------------------------------------------------------------------


async def test_first_of_several_servers_is_down() -> None:
    """The next one is taken, with the credentials of its own or those of the first."""
    down = f"127.0.0.1:{free_port()}"
    with server_with(USER) as server:
        up = f"127.0.0.1:{server.port}"
        await publishes(f"nats://someone:{ENCODED}@{down},nats://{up}")
        await publishes(f"nats://other:x@{down},nats://someone:{ENCODED}@{up}")
        auth = NatsAuth(user="someone", password=SECRET)
        await publishes(f"nats://{down},{up}", settings(auth=auth))


def test_each_server_has_its_own_credentials() -> None:
    """Where they differ, a server gets those of its own URL, with or without a port; any other the first ones."""
    dialled: list[str] = []
    servers = ("nats://a:x%40@one", "nats://b:y@two:5", "nats://three")
    login = Login(servers, ConnectionConfig(), lambda: dialled[-1])
    assert login.servers == ("nats://one", "nats://two:5", "nats://three")
    found = []
    for address in ("one:4222", "two:5", "three:4222", "four:9"):
        dialled.append(address)
        found.append((login.options["user"](), login.options["password"]()))
    assert found == [("a", "x@"), ("b", "y"), ("a", "x@"), ("a", "x@")]


async def test_one_of_several_servers_without_tls(certificates: Certificates) -> None:
    """It is passed over, and never sees the password; if all are so, that is told at once."""
    async with Recorder() as first, Recorder() as second:
        credentials = f"someone:{ENCODED}@127.0.0.1"
        connection = settings(tls=TlsConfig(ca_file=certificates.ca))
        with server_with(f"{certificates.block()}\n{USER}") as server:
            for _ in range(3):  # nats-py takes them in random order
                await publishes(f"nats://{credentials}:{first.port},nats://{credentials}:{server.port}", connection)
        await fails(f"tls://{credentials}:{first.port},nats://{credentials}:{second.port}", "offers no TLS")
        assert first.received + second.received == b""


# ---- context files ---------------------------------------------------------------------------------------------


@pytest.fixture
def contexts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    folder = tmp_path / "nats" / "context"
    folder.mkdir(parents=True)
    return folder


def write(folder: Path, name: str, **values: object) -> None:
    (folder / f"{name}.json").write_text(json.dumps({"description": "", "color_scheme": "", "token": "", **values}))


async def test_context_file(contexts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By name, or the selected one; credentials, certificates and inbox prefix come from it."""
    with server_with(USER) as server:
        write(contexts, "mine", url=server.url, user="someone", password=SECRET, inbox_prefix="_MINE")
        await publishes("nats+context://mine")
        (contexts.parent / "context.txt").write_text("mine\n")
        await publishes("nats+context://")
        write(contexts, "wrong", url=server.url, user="someone", password="x" + SECRET)
        await fails("nats+context://wrong", "refuses these credentials")
        right = NatsAuth(user="someone", password=SECRET)
        await publishes("nats+context://wrong", settings(auth=right))
        monkeypatch.delenv("XDG_CONFIG_HOME")
        monkeypatch.setenv("HOME", str(tmp_path / "home"))
        (tmp_path / "home" / ".config").mkdir(parents=True)
        contexts.parent.rename(tmp_path / "home" / ".config" / "nats")
        await publishes("nats+context://mine")


async def test_context_file_with_files(
    contexts: Path, tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Paths of creds, nkeys and certificates, with ``~``; several servers by comma."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "user.nk").write_text(USER_SEED)
    (tmp_path / "user.creds").write_text(creds_text())
    down = f"nats://127.0.0.1:{free_port()}"
    nkey = f"authorization {{ users: [ {{ nkey: {public_key(USER_SEED)} }} ] }}"
    with server_with(f"{certificates.block('verify: true')}\n{nkey}") as server:
        files = {"ca": certificates.ca, "cert": certificates.client_cert, "key": certificates.client_key}
        paths = {name: str(path) for name, path in files.items()}
        write(contexts, "tls", url=f"{down},{server.url}", nkey="~/user.nk", **paths)
        await publishes("nats+context://tls", settings(), (USER_SEED,))
        await restart_with(server, operator_config())
        write(contexts, "creds", url=server.url, creds="$HOME/user.creds")
        await publishes("nats+context://creds", settings(), (USER_SEED,))
        await restart_with(server, TOKEN)
        write(contexts, "token", url=f"127.0.0.1:{server.port}", token=SECRET)
        await publishes("nats+context://token")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read"),
        (f"{SECRET}", "not JSON"),
        ("[]", "not a JSON object"),
        (json.dumps({"password": 5}), "password is not text"),
        (json.dumps({"user_jwt": SECRET}), "user_jwt is not supported"),
        (json.dumps({"jetstream_domain": "leaf"}), "jetstream_domain is not supported"),
        (json.dumps({"url": f"http://someone:{ENCODED}@h"}), "broker URL"),
        (json.dumps({"url": "memory://"}), "not that of a NATS server"),
        (json.dumps({"key": "x", "password": SECRET}), "give cert_file"),
    ],
)
def test_context_file_that_cannot_be_used(contexts: Path, content: str | None, says: str) -> None:
    """ConfigError with the file's name, without what is in it."""
    if content is not None:
        (contexts / "mine.json").write_text(content)
    with pytest.raises(ConfigError, match=says) as caught:
        eventbus.connect("nats+context://mine")
    assert "mine.json" in str(caught.value)
    assert SECRET not in str(caught.value)
    assert ENCODED not in str(caught.value)


@pytest.mark.parametrize("name", ["../mine", "a/b", "..", "a b", "x@y"])
def test_context_name_that_is_none(contexts: Path, name: str) -> None:
    """No other file can be reached by it."""
    with pytest.raises(ConfigError, match=r"nats\+context://NAME"):
        eventbus.connect(f"nats+context://{name}")


def test_no_context_is_selected(contexts: Path) -> None:
    with pytest.raises(ConfigError, match="no nats context is selected"):
        eventbus.connect("nats+context://")
