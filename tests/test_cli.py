"""The command line: what is wrong gets one line and exit 2, and a run's exit code tells whether all was acked."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from eventbus.cli import main
from eventbus.observe import RunStatus, StoreReader
from eventbus.snapshot import BusSnapshot

WAIT_S = 30.0


@contextlib.contextmanager
def started(*arguments: str, **settings: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "eventbus", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "COLUMNS": "160"},
        **settings,  # type: ignore[call-overload]
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def ran(*arguments: str) -> tuple[int, str, str]:
    with started(*arguments) as process:
        out, err = process.communicate(timeout=WAIT_S)
        return process.returncode, out, err


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["load", "--ratte", "5"], "--ratte"),
        (["lood"], "lood"),
        (["load", "extra"], "extra"),
        (["load", "--rate"], "--rate"),
        (["load", "--rate", "0"], "more than 0"),
        (["load", "--rate", "many"], "'many' is not a number of messages per second"),
        (["load", "--rate", "nan"], "number of messages per second"),
        (["load", "--duration", "10"], "10s, 2m or 1h"),
        (["load", "--duration", "0s"], "10s, 2m or 1h"),
        (["load", "--ack-timeout", "soon"], "10s, 2m or 1h"),
        (["load", "--count", "0"], "1 or more"),
        (["load", "--count", "few"], "few"),
        (["load", "--payload-size", "-1"], "0 to 67,108,864"),
        (["load", "--max-pending", "0"], "1 or more"),
        (["load", "--topic", "a b"], "without spaces"),
        (["load", "--topic", "orders.*"], "wildcard"),
        (["load", "--loop"], "--loop needs --replay"),
        (["load", "--url", ""], "nats://"),
        (["load", "--url", "ftp://host"], "ftp"),
        (["load", "--url", "nats://"], "nats://"),
        (["load", "--url", "nats://host:port"], "host:port"),
        (["load", "--url", "kafka://"], "kafka://HOST:PORT"),
        (["load", "--url", "kafka://host:9092/orders"], "nothing after it"),
        (["load", "--url", "kafka://a:b@host:9092,c:d@host:9093"], "one login"),
        (["load", "--url", "kafka://a:b@host:9092"], "kafka+ssl://"),
        (["load", "--url", "embedded+kafka://host"], "nothing may follow"),
        (["load", "--url", "embedded+kafka://", "--topic", "a/b"], "no name for a Kafka topic"),
        (["load", "--replay", "/no/such/file.jsonl"], "/no/such/file.jsonl: cannot be read"),
        (["load", "--json", "/no/such/folder/out.json"], "/no/such/folder"),
        (["worker", "--unknown"], "--unknown"),
        (["worker", "--store", "/"], "is a directory"),
        (["runs", "list", "--store", "/"], "is a directory"),
        (["lood"], "No such command 'lood'. See: ackscope --help"),
        (["doctor"], "See: ackscope doctor --help"),
        (["runs", "export", "last"], "Missing argument 'FILE'. See: ackscope runs export --help"),
        (["runs", "--limit"], "See: ackscope runs --help"),
    ],
)
def test_wrong_usage(arguments: Sequence[str], said: str, capfd: pytest.CaptureFixture[str]) -> None:
    """Exactly one line on standard error that says what is wrong, nothing else anywhere, exit 2."""
    assert main(arguments) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert re.fullmatch(r"error: [^\n]+\n", err)
    assert said in err


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"", "the file is empty"), (b'{"a": 1}\n{"a": oops}\n', ":2: not JSON"), (b"1\n\n2\n", ":2: the line is empty")],
)
def test_malformed_file(tmp_path: Path, content: bytes, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    """A bad replay file is told with file and line before anything is sent."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(content)
    assert main(["load", "--url", "memory://", "--replay", str(path)]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.startswith(f"error: {path}")
    assert said in err
    assert err.count("\n") == 1


def test_payload_size_and_replay_exclude_each_other(flights: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Two answers to what is sent are one too many."""
    assert main(["load", "--url", "memory://", "--payload-size", "10", "--replay", str(flights)]) == 2
    assert "exclude each other" in capfd.readouterr().err


@pytest.mark.parametrize("url", ["kafka://127.0.0.1:9092", "embedded+kafka://"])
def test_kafka_without_its_packages(
    url: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where Kafka's client is not installed, the one line says how to get it."""
    monkeypatch.setitem(sys.modules, "aiokafka", None)
    assert main(["load", "--url", url]) == 2
    err = capfd.readouterr().err
    assert re.fullmatch(r"error: [^\n]+\n", err)
    assert "aiokafka" in err
    assert "pip install 'ackscope[kafka]'" in err


@pytest.mark.parametrize("scheme", ["nats", "kafka"])
def test_broker_that_is_not_there(scheme: str) -> None:
    """Where nobody listens: one line, exit 2, and the password of the URL is not in it."""
    code, out, err = ran("load", "--url", f"{scheme}://me:secret@127.0.0.1:{free_port()}", "--duration", "1s")
    assert (code, out) == (2, "")
    assert re.fullmatch(r"error: [^\n]+\n", err)
    assert "127.0.0.1" in err
    assert "secret" not in err


def test_payload_that_no_broker_takes(capfd: pytest.CaptureFixture[str]) -> None:
    """Random payloads above the window's bytes can never be sent: exit 2 and one error line, no table."""
    assert main(["load", "--url", "memory://", "--payload-size", "67108864", "--count", "3"]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.splitlines()[-1].startswith("error: ")


def test_load_that_is_all_acked(tmp_path: Path) -> None:
    """Exit 0, a table of everything asked for, and JSON with the snapshot's names; nothing is left out."""
    path = tmp_path / "out.json"
    code, out, err = ran(
        "load", "--url", "memory://", "--rate", "2000", "--duration", "500ms", "--json", str(path), "--seed", "1"
    )
    assert (code, "error" in err) == (0, False)
    assert "All 1,000 accepted messages were acked." in out
    table = {line.split("  ")[0].strip() or line.strip().split("  ")[0]: line for line in out.splitlines()}
    for row in ("offered", "accepted", "acked", "rejected", "unknown", "retries", "ack timeouts", "rate"):
        assert row in table
    for row in ("duplicates", "late acks"):
        assert row in out
    for figure in ("p50", "p95", "p99", "max"):
        assert re.search(rf"ack latency {figure} +[\d.]+ (µs|ms|s)", out)
    result = json.loads(path.read_text())
    assert (result["offered"], result["accepted"], result["acked"], result["pending"]) == (1000, 1000, 1000, 0)
    assert (result["status"], result["clean"]) == ("finished", True)
    assert BusSnapshot.from_dict(result).latency.total == 1000
    assert result["ack_latency_s"]["p50"] <= result["ack_latency_s"]["p99"] <= result["ack_latency_s"]["max"]


def test_json_on_standard_output() -> None:
    """``--json -`` leaves standard output to the JSON alone; the table goes to standard error."""
    code, out, err = ran("load", "--url", "memory://", "--count", "10", "--rate", "max", "--json", "-")
    assert code == 0
    assert json.loads(out)["acked"] == 10
    assert "All 10 accepted messages were acked." in err


def test_replay_sends_each_line_once(tmp_path: Path) -> None:
    """A file without rate or duration is sent to its end, once."""
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f'{{"n": {n}}}\n' for n in range(500)))
    code, out, _ = ran("load", "--url", "memory://", "--replay", str(path), "--json", "-")
    result = json.loads(out)
    assert (code, result["accepted"], result["acked"]) == (0, 500, 500)
    assert result["settings"]["replay"] == str(path)


def test_line_that_is_refused(tmp_path: Path) -> None:
    """A line that no broker takes is counted as refused, the others are sent, and the exit code is 1."""
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'1\n"' + b"x" * (65 * 1024 * 1024) + b'"\n2\n')
    code, out, _ = ran("load", "--url", "memory://", "--replay", str(path), "--json", "-")
    result = json.loads(out)
    assert (code, result["acked"], result["refused"], result["clean"]) == (1, 2, 1, False)
    assert "bytes" in result["refusal"]


def test_run_is_recorded_on_request(tmp_path: Path) -> None:
    """With ``--store`` the run is there for the dashboard."""
    path = tmp_path / "runs.db"
    code, _, _ = ran("load", "--url", "memory://", "--count", "100", "--store", str(path))
    (run,) = StoreReader(path).runs()
    assert (code, run.status) == (0, RunStatus.FINISHED)
    latest = StoreReader(path).latest(run.run_id)
    assert latest is not None
    assert latest.snapshot.acked == 100


def test_store_that_cannot_be_used_is_a_warning(tmp_path: Path) -> None:
    """A broken store does not fail a load; it is told."""
    path = tmp_path / "runs.db"
    path.write_bytes(b"no database" * 500)
    code, out, err = ran("load", "--url", "memory://", "--rate", "100", "--duration", "500ms", "--store", str(path))
    assert code == 0
    assert "All 50 accepted" in out
    assert "warning: store" in err


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_ends_with_a_table(number: signal.Signals, code: int) -> None:
    """Ctrl-C stops the sending, awaits what is out, prints what was, and exits 130."""
    with started("load", "--url", "memory://", "--rate", "500", "--duration", "1h") as process:
        assert process.stderr is not None
        assert "publishing to memory://" in process.stderr.readline()
        process.send_signal(number)
        out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == code
    assert "accepted messages were acked." in out
    assert "stopping" in err
    assert "Traceback" not in err


@pytest.mark.integration
def test_load_on_the_kafka_mock(tmp_path: Path) -> None:
    """The same table as of NATS; what the broker is stands where it is named, and in what is kept of the run."""
    path = tmp_path / "runs.db"
    code, out, err = ran(
        *("load", "--url", "embedded+kafka://", "--rate", "2000", "--duration", "500ms"),
        *("--json", "-", "--store", str(path)),
    )
    result = json.loads(out)
    assert (code, result["accepted"], result["acked"], result["unknown"]) == (0, 1000, 1000, 0)
    assert result["settings"]["embedded"] == "kafka"
    assert re.search(r"publishing to kafka://127\.0\.0\.1:\d+ \(librdkafka's mock.*logins\), topic demo\.events", err)
    assert "All 1,000 accepted messages were acked." in err
    (run,) = StoreReader(path).runs()
    assert (run.status, run.settings["embedded"]) == (RunStatus.FINISHED, "kafka")


@pytest.mark.integration
@pytest.mark.parametrize("presses", [1, 2])
@pytest.mark.parametrize("system", ["nats", "kafka"])
def test_signal_takes_the_embedded_broker_along(system: str, presses: int) -> None:
    """After Ctrl-C, once or twice, neither the broker's port nor its temporary directory is left."""
    with started(
        "load", "--url", f"embedded+{system}://", "--rate", "500", "--duration", "1h",
    ) as process:  # fmt: skip
        assert process.stderr is not None
        line = process.stderr.readline()
        port = int(re.findall(rf"{system}://127\.0\.0\.1:(\d+)", line)[0])
        for _ in range(presses):
            process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 130
    assert "offered" in out
    with socket.socket() as tried:
        assert tried.connect_ex(("127.0.0.1", port)) != 0


def test_signal_while_connecting() -> None:
    """Ctrl-C before the broker answered ends at once: no table, exit 130."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        with started("load", "--url", f"nats://127.0.0.1:{silent.getsockname()[1]}") as process:
            silent.settimeout(WAIT_S)
            connection, _ = silent.accept()
            with connection:
                process.send_signal(signal.SIGINT)
                out, err = process.communicate(timeout=WAIT_S)
    assert (process.returncode, out, err) == (130, "", "")


def test_progress_on_a_terminal() -> None:
    """On a terminal a live bar is drawn and taken away again."""
    ours, theirs = os.openpty()
    seen: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # the terminal's other end is closed
            while chunk := os.read(ours, 65536):
                seen.append(chunk)

    process = subprocess.Popen(
        [sys.executable, "-m", "eventbus", "load", "--url", "memory://", "--rate", "100", "--duration", "700ms"],
        stdout=subprocess.PIPE,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "150"},
    )
    os.close(theirs)
    reader = threading.Thread(target=read)
    reader.start()
    out, _ = process.communicate(timeout=WAIT_S)
    reader.join(WAIT_S)
    os.close(ours)
    assert process.returncode == 0
    assert b"All 70 accepted messages were acked." in out
    shown = b"".join(seen)
    assert b"p99" in shown
    assert b"\x1b[?25h" in shown  # the cursor is back


@pytest.mark.parametrize(
    "arguments", [["--help"], ["load", "--help"], ["worker", "--help"], ["-h"], [], ["runs"], ["alerts"]]
)
def test_help(arguments: Sequence[str], capfd: pytest.CaptureFixture[str]) -> None:
    """Help is on standard output and exits 0; that of ``load`` tells the exit codes."""
    assert main(arguments) == 0
    out, err = capfd.readouterr()
    assert re.match(r"Usage: ackscope.*\n\n  \w", out)  # over several lines
    assert err == ""
    if arguments == ["load", "--help"]:
        assert "Exit codes:" in out


def test_version(capfd: pytest.CaptureFixture[str]) -> None:
    """``--version`` names the program."""
    assert main(["--version"]) == 0
    assert re.fullmatch(r"ackscope \S.*\n", capfd.readouterr().out)
