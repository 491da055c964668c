"""doctor: what it says of a NATS server and a topic, its exit codes, its JSON; it changes nothing at the server."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from nats.js.api import DiscardPolicy, RetentionPolicy, StreamConfig

from eventbus.cli import main
from eventbus.connect import inspect
from eventbus.doctor import Doctor
from eventbus.embedded.nats import EmbeddedNats
from eventbus.errors import ConfigError, ConnectFailed
from eventbus.inspection import Finding, Inspection, Level, ServerFacts, StreamFacts
from tests.nats_tools import add_stream, admin, stream_names

SERVER = ServerFacts("one", "2.15.1", True, 1024, 0.00123, "tcp", tls=True, cluster="east")
STREAM = StreamFacts("SHOP", True, ("shop.>",), "file", 3, 120.0, limits={"max_age": 60.0}, messages=1234)
PASSWORD = "pa55-of-the-test"


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    """Room for a line of the table."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedNats]:
    with EmbeddedNats() as running:
        yield running


@pytest.fixture
async def fresh(server: EmbeddedNats) -> str:
    """The URL of a server without streams."""
    async with admin(server.url) as client:
        for info in await client.jetstream().streams_info():
            await client.jetstream().delete_stream(info.config.name or "")
    return server.url


def ran(*arguments: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "eventbus", "doctor", *arguments], capture_output=True, text=True, timeout=30
    )
    return done.returncode, done.stdout, done.stderr


async def warnings_of(url: str, topic: str) -> list[str]:
    return [finding.what for finding in (await inspect(url, topic)).warnings]


# ---- what it prints ------------------------------------------------------------------------------------------------


def saying(*findings: Finding, stream: StreamFacts | None = STREAM) -> Doctor:
    """A doctor who finds this."""

    async def found(url: str, topic: str) -> Inspection:
        return Inspection(url, topic, SERVER, stream, findings)

    return Doctor(found)


async def test_figures_have_their_units(capsys: pytest.CaptureFixture[str]) -> None:
    """Everything that was found is a row; a finding of level info is shown and is no warning."""
    info = Finding(Level.INFO, "something [bold]odd[/bold]", "it matters", "Do that")
    assert await saying(info).run("nats://one", "shop.a") == 0
    out = capsys.readouterr().out
    rows = dict(re.split(r" {2,}", line.strip(), maxsplit=1) for line in out.splitlines()[:13])
    assert rows == {
        "url": "nats://one",
        "server": "one, nats-server 2.15.1, in cluster east",
        "connection": "tcp, TLS",
        "round trip": "1.23 ms",
        "JetStream": "enabled",
        "max payload": "1,024 bytes, headers included",
        "topic": "shop.a",
        "stream": "SHOP",
        "subjects": "shop.>",
        "storage": "file, 3 replicas",
        "duplicate window": "120 s",
        "limits": "max_age 60 s; retention limits, discard old",
        "stored": "1,234 messages, 0 bytes",
    }
    assert "info: something [bold]odd[/bold]\n  why   it matters\n  to do Do that\n" in out
    assert out.endswith("Nothing to worry about.\n")


async def test_exit_code_with_warnings(capsys: pytest.CaptureFixture[str]) -> None:
    """A warning makes it 1, also where the stream could not be seen."""
    warning = Finding(Level.WARNING, "bad", "why", "do")
    assert await saying(warning, warning, stream=None).run("nats://one", "shop.a") == 1
    assert capsys.readouterr().out.endswith("2 warnings.\n")


# ---- a real server -------------------------------------------------------------------------------------------------


@pytest.mark.integration
async def test_healthy(fresh: str) -> None:
    """Exit 0; the stream as it is, and what it holds."""
    await add_stream(fresh, StreamConfig(name="SHOP", subjects=["shop.>"], duplicate_window=60))
    async with admin(fresh) as client:
        await client.jetstream().publish("shop.a", b"12345")
    code, out, err = await asyncio.to_thread(ran, fresh, "--topic", "shop.a")
    assert (code, err) == (0, "")
    for said in (r"url +nats://127", r"JetStream +enabled", r"round trip +\d+\.\d\d ms", r"tcp, not encrypted"):
        assert re.search(said, out)
    assert re.search(r"nats-server 2\.\d+\.\d+, on its own", out)
    assert re.search(r"stream +SHOP\b", out)
    assert re.search(r"duplicate window +60 s", out)
    assert re.search(r"stored +1 messages, \d+ bytes", out)
    assert "info: stream SHOP has one replica" in out
    assert "warning" not in out


@pytest.mark.integration
async def test_no_stream_yet(fresh: str) -> None:
    """It says what would be made, and makes nothing."""
    code, out, _ = await asyncio.to_thread(ran, fresh, "--topic", "shop.a")
    assert code == 0
    assert "none yet; SHOP would be made on the first publish" in out
    assert "shop, shop.>" in out
    assert await stream_names(fresh) == []


@pytest.mark.integration
@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"no_ack": True}, "stream SHOP has no_ack"),
        ({"retention": RetentionPolicy.INTEREST}, "stream SHOP keeps messages by interest and has no consumer"),
        ({"max_msgs": 5}, "stream SHOP removes old messages (discard old, max_msgs 5)"),
        ({"duplicate_window": 2}, "stream SHOP remembers message ids for 2 s, retries go on for 28.75 s"),
    ],
)
async def test_each_warning(fresh: str, settings: dict[str, Any], said: str) -> None:
    """What preflight finds is told, and nothing else."""
    await add_stream(fresh, StreamConfig(name="SHOP", subjects=["shop.>"], **settings))
    assert await warnings_of(fresh, "shop.a") == [said]


@pytest.mark.integration
async def test_sealed_stream_exits_with_1(fresh: str) -> None:
    """A warning with why and what to do, on standard output, and exit 1."""
    config = StreamConfig(name="SHOP", subjects=["shop.>"])
    await add_stream(fresh, config)
    async with admin(fresh) as client:
        config.sealed = True
        await client.jetstream().update_stream(config)
    code, out, err = await asyncio.to_thread(ran, fresh, "--topic", "shop.a")
    assert (code, err) == (1, "")
    assert "warning: stream SHOP is sealed\n  why   it refuses every message, for good\n  to do Publish to" in out
    assert out.endswith("1 warning.\n")


@pytest.mark.integration
@pytest.mark.parametrize(
    ("name", "subjects", "topic"), [("SHOP", ["other.>"], "shop.a"), ("X", ["shop.b"], "shop.a"), ("X", ["a.b"], "a.>")]
)
async def test_stream_in_the_way(fresh: str, name: str, subjects: list[str], topic: str) -> None:
    """A stream that would have to be made and cannot be, for its name or its subjects, is a warning beforehand."""
    await add_stream(fresh, StreamConfig(name=name, subjects=subjects))
    (warning,) = await warnings_of(fresh, topic)
    assert f"no stream takes {topic}, and stream {name} is in the way" in warning
    assert await stream_names(fresh) == [name]


@pytest.mark.integration
async def test_pattern_of_topics(fresh: str) -> None:
    """A pattern is looked at as the config that it stands for."""
    inspection = await inspect(fresh, "shop.>")
    assert isinstance(inspection.stream, StreamFacts)
    assert (inspection.stream.exists, inspection.stream.subjects) == (False, ("shop.>",))
    await add_stream(fresh, StreamConfig(name="ALL", subjects=["shop.>"], discard=DiscardPolicy.NEW, max_msgs=9))
    inspection = await inspect(fresh, "shop.>")
    assert isinstance(inspection.stream, StreamFacts)
    assert (inspection.stream.name, inspection.stream.discard, inspection.stream.limits) == (
        "ALL",
        "new",
        {"max_msgs": 9},
    )
    assert inspection.warnings == ()


@pytest.mark.integration
async def test_json(fresh: str, tmp_path: Path) -> None:
    """The same to a file or to standard output, then with the text on standard error."""
    await add_stream(fresh, StreamConfig(name="SHOP", subjects=["shop.>"], no_ack=True))
    code, out, err = await asyncio.to_thread(ran, fresh, "--topic", "shop.a", "--json", "-")
    data = json.loads(out)
    assert code == 1
    assert "warning: stream SHOP has no_ack" in err
    assert (data["url"], data["topic"], data["stream"]["name"]) == (fresh, "shop.a", "SHOP")
    assert data["server"]["jetstream"] is True
    assert data["server"]["max_payload_bytes"] == 1024 * 1024
    assert 0 < data["server"]["round_trip_s"] < 5
    assert [finding["level"] for finding in data["findings"]] == ["warning", "info"]
    path = tmp_path / "found.json"
    code, out, err = await asyncio.to_thread(ran, fresh, "--topic", "shop.a", "--json", str(path))
    assert (code, err) == (1, "")
    assert json.loads(path.read_text(encoding="utf-8"))["findings"] == data["findings"]


@pytest.mark.integration
async def test_user_who_may_not_ask() -> None:
    """Told as a warning with what to allow, at once; the password is nowhere."""
    config = f"""authorization {{ users = [
        {{ user: app, password: "{PASSWORD}", permissions: {{ publish: {{ deny: ["$JS.API.>"] }} }} }} ] }}"""
    with EmbeddedNats(extra_config=config) as server:
        url = f"nats://app:{PASSWORD}@127.0.0.1:{server.port}"
        code, out, err = await asyncio.to_thread(ran, url, "--topic", "shop.a", "--json", "-")
        assert code == 1
        assert [finding["level"] for finding in json.loads(out)["findings"]] == ["warning"]
        assert "$JS.API.STREAM.INFO.*" in out
        assert PASSWORD not in out + err
        assert "app:" not in out + err
        wrong = f"nats://app:{PASSWORD}-not@127.0.0.1:{server.port}"
        code, out, err = await asyncio.to_thread(ran, wrong, "--topic", "shop.a")
        assert (code, out) == (2, "")
        assert re.fullmatch(r"error: could not connect to nats://127[^\n]+\n", err)
        assert PASSWORD not in err


@pytest.mark.integration
async def test_account_without_jetstream() -> None:
    """A server or account without JetStream is a warning, not a failure."""
    config = f"""accounts {{ PLAIN {{ users = [ {{ user: app, password: "{PASSWORD}" }} ] }} }}"""
    with EmbeddedNats(extra_config=config) as server:
        inspection = await inspect(f"nats://app:{PASSWORD}@127.0.0.1:{server.port}", "shop.a")
    assert inspection.stream is None
    assert [finding.why for finding in inspection.warnings] == ["without JetStream there are no acks"]


async def test_server_that_falls_silent_after_the_connect() -> None:
    """A connection on which nothing answers any more is no server: ConnectFailed within a few seconds."""
    answers = 3  # to the PING of nats-py's connect, and to the two after the inbox is subscribed
    served = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'INFO {"server_id":"s","version":"2.15.1","headers":true,"max_payload":1024}\r\n')
        pings = 0
        while line := await reader.readline():
            if line == b"PING\r\n":
                pings += 1
                if pings <= answers:
                    writer.write(b"PONG\r\n")
        writer.close()
        served.set()

    silent = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = silent.sockets[0].getsockname()[1]
    async with silent:
        async with asyncio.timeout(10):
            with pytest.raises(ConnectFailed, match=f"connection to nats://127.0.0.1:{port} was lost"):
                await inspect(f"nats://u:hidden@127.0.0.1:{port}", "shop.a")
            await served.wait()  # and our end of it is closed


# ---- wrong usage ---------------------------------------------------------------------------------------------------


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--topic", "shop.a"], "URL"),
        (["nats://127.0.0.1"], "--topic"),
        (["nats://127.0.0.1", "--topic", "a b"], "without spaces"),
        (["ftp://host", "--topic", "a"], "ftp"),
        (["memory://", "--topic", "a"], "there is no server to look at"),
        (["embedded+nats://", "--topic", "a"], "there is no server to look at"),
        (["nats://u:hidden@host:1/x@y", "--topic", "a"], "%40"),
        (["nats://127.0.0.1", "--topic", "a", "--json", "/no/such/folder/out.json"], "/no/such/folder"),
        ([f"nats://u:hidden@127.0.0.1:{free_port()}", "--topic", "a"], "could not connect to nats://127.0.0.1"),
    ],
)
def test_wrong_usage_or_no_server(arguments: Sequence[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Exactly one line on standard error that says what is wrong, nothing else anywhere, exit 2."""
    assert main(["doctor", *arguments]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert re.fullmatch(r"error: [^\n]+\n", err)
    assert said in err
    assert "hidden" not in err


async def test_json_that_cannot_be_written(tmp_path: Path) -> None:
    """A file that became unwritable meanwhile is told as wrong usage."""

    async def found(url: str, topic: str) -> Inspection:
        return Inspection(url, topic, SERVER, STREAM, ())

    with pytest.raises(ConfigError, match="cannot be written"):
        await Doctor(found, json_out=str(tmp_path)).run("nats://one", "shop.a")


def test_help_tells_the_exit_codes(capfd: pytest.CaptureFixture[str]) -> None:
    """``doctor --help`` says what its exit codes mean."""
    assert main(["doctor", "--help"]) == 0
    assert "there are warnings" in capfd.readouterr().out
