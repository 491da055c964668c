"""The worker: commands in, replies out, one run at a time, and it never outlives whoever started it."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import math
import os
import queue
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import eventbus
from eventbus.alerts import AlertNow, AlertPhase, AlertRule, AlertState, SinkStatus, parse
from eventbus.alerts.alert_now import MAX_WORDS
from eventbus.alerts.rule import MAX_RULES
from eventbus.clock import SystemClock
from eventbus.errors import ConnectFailed
from eventbus.load.message import Messages
from eventbus.load.plan import LoadPlan
from eventbus.load.run import LoadRun, MakeRun
from eventbus.load.worker import Worker, read_lines
from eventbus.load.worker_command import MAX_LINE_BYTES
from eventbus.load_bus import connect_plan
from eventbus.observe import RunStatus, StoreReader, StoreWriter
from eventbus.telemetry.status import ExportStatus
from tests.otlp_receiver import OtlpReceiver
from tests.telemetry_fakes import free_port

WAIT_S = 20.0


class Driver:
    """A worker on this loop, and what it replied."""

    def __init__(self, store: Path, connect: Any = connect_plan, **settings: Any) -> None:
        self.writer = StoreWriter(store)
        self.reader = StoreReader(store)
        self.replies: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()

        def drive(plan: LoadPlan, messages: Messages) -> MakeRun:
            return partial(LoadRun, plan, messages, connect, clock=SystemClock())

        self.alerts: list[Mapping[str, Any]] = []
        self._alerted = asyncio.Event()
        self.worker = Worker(drive, self.writer, self._heard, **settings)
        self.task = asyncio.create_task(self.worker.work())

    def _heard(self, reply: Mapping[str, Any]) -> None:
        if reply["event"] == "alerts":  # they come whenever they like
            self.alerts.append(reply)
            self._alerted.set()
        else:
            self.replies.put_nowait(reply)

    def send(self, **command: Any) -> None:
        self.worker.command(json.dumps(command).encode())

    async def reply(self) -> Mapping[str, Any]:
        return await asyncio.wait_for(self.replies.get(), WAIT_S)

    async def expect(self, event: str) -> Mapping[str, Any]:
        reply = await self.reply()
        assert reply["event"] == event, reply
        return reply

    async def expect_error(self, said: str) -> None:
        text = (await self.expect("error"))["text"]
        assert said in text
        assert "\n" not in text

    async def alerted(self, condition: Callable[[Mapping[str, Any]], bool]) -> Mapping[str, Any]:
        """What is told of alerts, as soon as it fits."""
        async with asyncio.timeout(WAIT_S):
            while not self.alerts or not condition(self.alerts[-1]):
                self._alerted.clear()
                await self._alerted.wait()
        return self.alerts[-1]

    async def over(self) -> None:
        await asyncio.wait_for(self.task, WAIT_S)


@pytest.fixture
async def driver(tmp_path: Path) -> AsyncIterator[Driver]:
    driver = Driver(tmp_path / "runs.db")
    await driver.expect("ready")
    yield driver
    driver.worker.leave(0.5)
    await driver.over()
    assert driver.writer.close(10)


async def test_run_from_start_to_end(driver: Driver) -> None:
    """Start, started with the run's id, ended with its report; the store has the same."""
    driver.send(cmd="start", url="memory://", topic="a.b", rate=2000, duration_s=0.5, payload_size=10)
    started = await driver.expect("started")
    assert started["url"] == "memory://"
    ended = await driver.expect("ended")
    assert (ended["run_id"], ended["status"], ended["error"]) == (started["run_id"], "finished", None)
    assert (ended["report"]["accepted"], ended["report"]["acked"]) == (1000, 1000)
    assert driver.writer.close(10)
    info = driver.reader.run(started["run_id"])
    assert info is not None
    assert (info.status, info.report, info.topic) == (RunStatus.FINISHED, ended["report"], "a.b")


async def test_rate_is_set_and_run_stopped(driver: Driver) -> None:
    """An endless run takes a new rate and ends by stop; then the next one may start."""
    for _ in range(2):
        driver.send(cmd="start", url="memory://", rate=10)
        started = await driver.expect("started")
        driver.send(cmd="set", rate=5000)
        driver.send(cmd="stop")
        ended = await driver.expect("ended")
        assert (ended["run_id"], ended["status"]) == (started["run_id"], "stopped")


async def test_new_rate_is_sampled(driver: Driver) -> None:
    """The rate in the samples is the one that was set."""
    driver.send(cmd="start", url="memory://", rate=10)
    run_id = (await driver.expect("started"))["run_id"]
    driver.send(cmd="set", rate=777)
    driver.send(cmd="stop")
    await driver.expect("ended")
    assert driver.writer.close(10)
    latest = driver.reader.latest(run_id)
    assert latest is not None
    assert latest.target_rate == 777


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"nonsense", "not JSON"),
        (b'["stop"]', "JSON object"),
        (b"[" * 60_000, "not JSON"),
        (b"{}", "unknown command None"),
        (b'{"cmd": "pause"}', "known are start, set, silence, acknowledge, note, stop, quit"),
        (b'{"cmd": "stop"}', "no run is going on"),
        (b'{"cmd": "stop", "now": 1}', "unknown setting 'now'"),
        (b'{"cmd": "set"}', "needs a rate"),
        (b'{"cmd": "set", "rate": 5}', "no run is going on"),
        (b'{"cmd": "set", "rate": "a"}', "number of messages"),
        (b'{"cmd": "start", "rate": -1}', "more than 0"),
        (b'{"cmd": "start", "speed": 1}', "unknown setting 'speed'"),
        (b'{"cmd": "start", "url": "ftp://me:secret@h"}', "broker URL"),
        (b'{"cmd": "start", "url": "memory://", "replay": "/no/such/file"}', "cannot be read"),
        (b'{"cmd": "start", "url": "memory://", "rate": NaN}', "number of messages"),
        (b'{"cmd": ' + b" " * MAX_LINE_BYTES + b'"stop"}', "more than 2,097,152 bytes"),
    ],
)
async def test_bad_command_gets_one_line(driver: Driver, line: bytes, said: str) -> None:
    """A command that cannot be carried out gets one clear line without secrets, and the next one works."""
    driver.worker.command(line)
    text = (await driver.expect("error"))["text"]
    assert said in text
    assert "\n" not in text
    assert "secret" not in text
    driver.send(cmd="start", url="memory://", count=1)
    await driver.expect("started")
    await driver.expect("ended")


async def test_bad_command_does_not_disturb_the_run(driver: Driver) -> None:
    """While a run is going on, bad commands and a second start get an error, and the run goes on to its end."""
    driver.send(cmd="start", url="memory://", rate=500, duration_s=0.6)
    await driver.expect("started")
    driver.worker.command(b"{")
    await driver.expect_error("not JSON")
    driver.send(cmd="start", url="memory://")
    await driver.expect_error("going on already")
    driver.send(cmd="set", rate=0)
    await driver.expect_error("more than 0")
    ended = await driver.expect("ended")
    assert (ended["status"], ended["report"]["acked"]) == ("finished", 300)


async def test_empty_lines_are_no_commands(driver: Driver) -> None:
    """A blank line is passed over."""
    driver.worker.command(b"  \r")
    assert driver.replies.empty()


async def test_broker_that_cannot_be_reached(tmp_path: Path) -> None:
    """A connect that fails is one error reply; no run is recorded, and the worker goes on."""

    async def connect(plan: LoadPlan, **settings: Any) -> eventbus.EventBus:
        raise ConnectFailed("no broker at nats://127.0.0.1:1")

    driver = Driver(tmp_path / "runs.db", connect)
    await driver.expect("ready")
    driver.send(cmd="start", url="nats://127.0.0.1:1")
    await driver.expect_error("no broker at")
    driver.send(cmd="stop")
    await driver.expect_error("no run is going on")
    driver.send(cmd="quit")
    await driver.over()
    assert driver.writer.close(10)
    assert driver.reader.runs() == []


async def test_stop_while_connecting(tmp_path: Path) -> None:
    """A connect that hangs is given up by stop and by quit."""
    connecting = asyncio.Event()

    async def connect(plan: LoadPlan, **settings: Any) -> eventbus.EventBus:
        connecting.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    driver = Driver(tmp_path / "runs.db", connect)
    await driver.expect("ready")
    for command in ("stop", "quit"):
        connecting.clear()
        driver.send(cmd="start", url="nats://h")
        await asyncio.wait_for(connecting.wait(), WAIT_S)
        driver.send(cmd=command)
        await driver.expect_error("stopped while connecting")
    await driver.over()
    assert driver.writer.close(10)


async def test_quit_drains_and_ends(driver: Driver) -> None:
    """Quit ends the run like stop, tells its end, and then the worker is over; commands after it are refused."""
    driver.send(cmd="start", url="memory://", rate=1000)
    await driver.expect("started")
    driver.send(cmd="quit")
    driver.send(cmd="start", url="memory://")
    await driver.expect_error("the worker is ending")
    assert (await driver.expect("ended"))["status"] == "stopped"
    await driver.over()


async def test_store_that_cannot_be_written_is_told_once(tmp_path: Path) -> None:
    """A broken store is one error reply; the run goes on and ends as if nothing were."""
    path = tmp_path / "runs.db"
    path.write_bytes(b"no database" * 500)
    driver = Driver(path)
    await driver.expect("ready")
    driver.send(cmd="start", url="memory://", rate=1000, duration_s=0.8)
    await driver.expect("started")
    await driver.expect_error("move it away")
    ended = await driver.expect("ended")
    assert (ended["status"], ended["report"]["acked"]) == ("finished", 800)
    driver.send(cmd="quit")
    await driver.over()
    assert driver.writer.close(10)
    assert driver.replies.empty()


async def told_of(store: Path, every_s: float, **plan: Any) -> list[Mapping[str, Any]]:
    """What is told of the alerts of a run."""
    driver = Driver(store, alerts_every_s=every_s)
    await driver.expect("ready")
    driver.send(cmd="start", url="memory://", **plan)
    await driver.expect("started")
    assert (await driver.expect("ended"))["status"] == "finished"
    driver.worker.leave()
    await driver.over()
    assert driver.writer.close(10)
    return driver.alerts


BUSY = {"name": "busy", "when": "increase(acked) > 100", "keep_firing_for": "1m"}


async def test_alerts_are_told_at_most_so_often(tmp_path: Path) -> None:
    """At once, then only after the time, and once more before the end of the run; each time every rule of it."""
    first, *_, last = await told_of(tmp_path / "a.db", 60.0, rate=2000, duration_s=0.8, rules=[BUSY])
    assert [alert["name"] for alert in first["alerts"]] == ["busy"]
    now = AlertNow.from_dict(last["alerts"][0])
    assert (now.state, now.value, now.threshold) == (AlertPhase.FIRING, 1600.0, 100.0)
    assert now.since_s == pytest.approx(time.time(), abs=60)
    assert last["sinks"] == []
    assert len(await told_of(tmp_path / "b.db", 60.0, rate=2000, duration_s=0.8, rules=[BUSY])) == 2
    assert len(await told_of(tmp_path / "c.db", 0.0, rate=2000, duration_s=0.8, rules=[BUSY])) > 2


async def test_alerts_that_stay_as_they_are_are_told_once(tmp_path: Path) -> None:
    """However often it is looked; and a run without rules and sinks tells nothing."""
    still = {"name": "still", "when": "connected > 5"}
    assert len(await told_of(tmp_path / "a.db", 0.0, rate=500, duration_s=0.8, rules=[still])) <= 2  # the bus closes
    assert await told_of(tmp_path / "b.db", 0.0, rate=500, duration_s=0.6, rules=[]) == []


async def test_silence_and_acknowledgement_are_told(tmp_path: Path) -> None:
    """Why nobody hears of an alert, and who looks after it, as the run knows it; long words are cut."""
    driver = Driver(tmp_path / "runs.db", alerts_every_s=0.0)
    await driver.expect("ready")
    driver.send(cmd="start", url="memory://", rate=1000, rules=[BUSY])
    await driver.expect("started")

    await driver.alerted(lambda told: told["alerts"][0]["state"] == "firing")
    driver.send(cmd="acknowledge", alert="busy", by="ann")
    (alert,) = (await driver.alerted(lambda told: bool(told["alerts"][0]["acknowledged"])))["alerts"]
    assert (alert["acknowledged"], alert["muted"]) == ("ann", "acknowledged by ann")
    driver.send(cmd="silence", alerts=["*"], for_s=60, by="b" * 1000, comment="c" * 5000)
    (alert,) = (await driver.alerted(lambda told: "silenced" in told["alerts"][0]["muted"]))["alerts"]
    assert len(alert["muted"]) == MAX_WORDS
    driver.send(cmd="quit")
    await driver.expect("ended")
    await driver.over()
    assert driver.writer.close(10)


async def test_sinks_are_told_while_the_run_goes_on(tmp_path: Path) -> None:
    """What was delivered, before the end tells it again."""
    driver = Driver(tmp_path / "runs.db", alerts_every_s=0.0)
    await driver.expect("ready")
    driver.send(cmd="start", url="memory://", rate=1000, rules=[BUSY], sinks=[{"kind": "log"}])
    await driver.expect("started")
    (sink,) = (await driver.alerted(lambda told: told["sinks"][0]["delivered"] > 0))["sinks"]
    assert SinkStatus.from_dict(sink).delivered == 1
    driver.send(cmd="quit")
    assert [sink["name"] for sink in (await driver.expect("ended"))["sinks"]] == ["log"]
    await driver.over()
    assert driver.writer.close(10)


def test_what_is_told_of_alerts_is_bounded() -> None:
    """As many rules as a run may have, with all that can be said of each."""
    words = "\N{SNOWMAN}" * 10_000
    rule = AlertRule("n" * 64, parse("pending > 5"), summary="s" * 1000, description="d" * 1000)
    state = AlertState(rule, AlertPhase.RECOVERING, 1_800_000_000.123456, 1 / 3, math.nan, words, words)
    alert = AlertNow.of(state)
    assert (alert.value, alert.threshold) == (0.333333, None)
    assert AlertNow.from_dict(json.loads(json.dumps(alert.to_dict()))) == alert
    sink = SinkStatus("n" * 64, 1, 1, 1, 1, 1.0, words[:300], 1.0, 1.0, "w" * 300)
    assert len(json.dumps({"alerts": [alert.to_dict()] * MAX_RULES, "sinks": [sink.to_dict()] * 20})) < 1_000_000


async def test_telemetry_is_told_where_it_changed(tmp_path: Path) -> None:
    """Where it goes is told at once, and whether it arrives whenever that has changed: at most every so often, before
    the end of a run, and after the end of the worker; what is as before is not told again."""
    target = {"signal": "traces", "exports": 0}
    driver = Driver(tmp_path / "runs.db", telemetry=lambda: [dict(target)], telemetry_every_s=0.01)
    await driver.expect("ready")
    assert await driver.expect("telemetry") == {"event": "telemetry", "targets": [{"signal": "traces", "exports": 0}]}
    target["exports"] = 1
    assert (await driver.expect("telemetry"))["targets"] == [{"signal": "traces", "exports": 1}]
    driver.send(cmd="start", url="memory://", count=1)
    await driver.expect("started")
    await driver.expect("ended")
    driver.send(cmd="quit")
    await driver.over()
    target["exports"] = 2
    driver.worker.tell_telemetry()
    assert (await driver.expect("telemetry"))["targets"] == [{"signal": "traces", "exports": 2}]
    assert driver.writer.close(10)
    assert driver.replies.empty()


async def test_telemetry_is_told_before_the_end_of_a_run(tmp_path: Path) -> None:
    """Who reads that a run has ended knows already what became of its telemetry until then."""
    asked = 0

    def telemetry() -> list[Mapping[str, Any]]:
        nonlocal asked
        asked += 1
        return [{"signal": "traces", "exports": asked}]

    driver = Driver(tmp_path / "runs.db", telemetry=telemetry, telemetry_every_s=60)
    driver.send(cmd="start", url="memory://", count=1)
    told = [(await driver.reply())["event"] for _ in range(5)]
    assert told == ["ready", "telemetry", "started", "telemetry", "ended"]
    driver.worker.leave()
    await driver.over()
    assert driver.writer.close(10)


async def test_lines_of_a_descriptor() -> None:
    """Lines arrive whole however they are cut, the last one also without its end, an endless one is cut."""
    lines: asyncio.Queue[bytes | None] = asyncio.Queue()
    receive, send = os.pipe()
    thread = read_lines(receive, asyncio.get_running_loop(), lines.put_nowait, lambda: lines.put_nowait(None))
    for piece in (b"on", b"e\ntw", b"o\n\nthr"):
        os.write(send, piece)
    assert [await asyncio.wait_for(lines.get(), WAIT_S) for _ in range(3)] == [b"one", b"two", b""]
    for _ in range(MAX_LINE_BYTES // 10_000 + 10):
        await asyncio.to_thread(os.write, send, b"x" * 10_000)
    os.write(send, b"\nlast")
    os.close(send)
    cut, last, end = [await asyncio.wait_for(lines.get(), WAIT_S) for _ in range(3)]
    assert cut is not None
    assert cut.startswith(b"thrxxx")
    assert MAX_LINE_BYTES < len(cut) <= 2 * MAX_LINE_BYTES + 1
    assert (last, end) == (b"last", None)
    thread.join(WAIT_S)
    os.close(receive)


# ---- as a process ---------------------------------------------------------------------------------------------------


class Process:
    """``python -m eventbus worker``, its replies read by a thread."""

    def __init__(self, store: Path, **variables: str) -> None:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "eventbus", "worker", "--store", str(store)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**environment, **{f"OTEL_{name}": value for name, value in variables.items()}},
        )
        self.replies: queue.Queue[Mapping[str, Any] | None] = queue.Queue()
        self.said = io.BytesIO()
        self._threads = [threading.Thread(target=self._read_replies), threading.Thread(target=self._read_errors)]
        for thread in self._threads:
            thread.start()

    def _read_replies(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stdout:
            for line in stdout:
                self.replies.put(json.loads(line))
        self.replies.put(None)

    def _read_errors(self) -> None:
        assert self.process.stderr is not None
        with self.process.stderr as stderr:
            self.said.write(stderr.read())

    def send(self, **command: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()

    def expect(self, event: str) -> Mapping[str, Any]:
        reply: Mapping[str, Any] | None = {"event": "alerts"}
        while reply is not None and reply["event"] == "alerts" != event:
            reply = self.replies.get(timeout=WAIT_S)
        assert reply is not None, self.said.getvalue().decode()
        assert reply["event"] == event, reply
        return reply

    def close_input(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()

    def end(self) -> int:
        try:
            return self.process.wait(WAIT_S)
        finally:
            self.process.kill()
            self.close_input()
            for thread in self._threads:
                thread.join(WAIT_S)


@pytest.fixture
def process(tmp_path: Path) -> Iterator[Process]:
    process = Process(tmp_path / "runs.db")
    process.expect("ready")
    yield process
    process.process.kill()
    process.end()


@pytest.mark.parametrize("how", ["input closes", "quit", "SIGINT", "SIGTERM"])
def test_process_ends(tmp_path: Path, process: Process, how: str) -> None:
    """Input closing, quit and signals all end a run in the middle: drained, reported, written, exit 0, and silent."""
    process.send(cmd="start", url="memory://", rate=2000)
    run_id = process.expect("started")["run_id"]
    reader = StoreReader(tmp_path / "runs.db")
    deadline = time.monotonic() + WAIT_S
    while (latest := reader.latest(run_id)) is None or not latest.snapshot.acked:
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)
    if how == "input closes":
        process.close_input()
    elif how == "quit":
        process.send(cmd="quit")
    else:
        process.process.send_signal(getattr(signal, how))
    ended = process.expect("ended")
    assert process.end() == 0
    assert process.said.getvalue() == b""
    info = reader.run(run_id)
    assert info is not None
    assert (info.status, info.report) == (RunStatus.STOPPED, ended["report"])
    assert ended["report"]["accepted"] == ended["report"]["acked"] > 0


def test_killed_process_leaves_an_interrupted_run(tmp_path: Path, process: Process) -> None:
    """SIGKILL leaves no end; the reader concludes that the run was interrupted, and its samples are there."""
    process.send(cmd="start", url="memory://", rate=1000)
    run_id = process.expect("started")["run_id"]
    reader = StoreReader(tmp_path / "runs.db")
    deadline = time.monotonic() + WAIT_S
    while reader.latest(run_id) is None:
        assert time.monotonic() < deadline
        threading.Event().wait(0.02)
    before = reader.run(run_id)
    assert before is not None
    assert (before.status, before.pid) == (RunStatus.RUNNING, process.process.pid)
    process.process.kill()
    process.end()
    after = reader.run(run_id)
    assert after is not None
    assert after.status is RunStatus.INTERRUPTED


def run_with_telemetry(store: Path, **variables: str) -> tuple[list[ExportStatus], Mapping[str, Any], str]:
    """A run of 5,000 messages: what was told last of each target, the report, and what standard error had."""
    process = Process(store, **variables)
    try:
        process.expect("ready")
        first = process.expect("telemetry")
        assert not any(target["exports"] or target["failures"] for target in first["targets"])
        process.send(cmd="start", url="memory://", rate=20_000, count=5000)
        told, report = first["targets"], {}
        while (reply := process.replies.get(timeout=WAIT_S)) is not None:
            if reply["event"] == "telemetry":
                told = reply["targets"]
            elif reply["event"] == "ended":
                report = reply["report"]
                process.close_input()
        assert process.end() == 0
    finally:
        process.process.kill()
        process.end()
    return [ExportStatus.from_dict(target) for target in told], report, process.said.getvalue().decode()


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_process_tells_that_its_telemetry_arrives(tmp_path: Path, protocol: str) -> None:
    """What is told last is what the collector has, also of a run that ends before anything is due."""
    with OtlpReceiver() as receiver:
        told, report, said = run_with_telemetry(
            tmp_path / "runs.db",
            EXPORTER_OTLP_ENDPOINT=receiver.endpoint(protocol),
            EXPORTER_OTLP_PROTOCOL=protocol,
            LOGS_EXPORTER="none",
        )
        sent = list(receiver.points("messaging.client.sent.messages"))
    assert report["acked"] == 5000
    assert [(one.signal, one.protocol) for one in told] == [("traces", protocol), ("metrics", protocol)]
    by_signal = {one.signal: one for one in told}
    assert by_signal["traces"].items == len(receiver.spans())  # by chance nearly always a few
    assert by_signal["metrics"].exports == len(receiver.requests["metrics"]) > 0
    assert not any(one.failing or one.failures or one.dropped for one in told)
    assert sent[-1].as_int == 5000
    assert said == ""


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_process_tells_that_its_telemetry_does_not_arrive(tmp_path: Path, protocol: str) -> None:
    """Nobody listens: the run is as good as any, and each target says how often it failed, what was lost, and why."""
    told, report, _ = run_with_telemetry(
        tmp_path / "runs.db",
        EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{free_port()}",
        EXPORTER_OTLP_PROTOCOL=protocol,
        EXPORTER_OTLP_TIMEOUT="1",
        LOGS_EXPORTER="none",
    )
    assert report["acked"] == report["accepted"] == 5000
    assert [one.signal for one in told] == ["traces", "metrics"]
    assert all((one.exports, one.last_success_s) == (0, None) for one in told)
    metrics = told[1]
    assert metrics.failing
    assert metrics.failures > 0
    assert metrics.lost > 0
    # Over HTTP the exporter tries again: its last words are of the attempt, or of giving up, by chance of its pauses.
    assert re.search("refused|max retries", metrics.last_reason or "")


def test_process_that_nobody_reads_sends_all_the_same(tmp_path: Path) -> None:
    """A pipe that is full holds up what is told, not the load, nor the end of the process."""
    receive, send = os.pipe()
    os.set_blocking(send, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(send, b"x" * 65_536)
    os.set_blocking(send, True)
    process = subprocess.Popen(
        [sys.executable, "-m", "eventbus", "worker", "--store", str(tmp_path / "runs.db")],
        stdin=subprocess.PIPE,
        stdout=send,
        env={name: value for name, value in os.environ.items() if not name.startswith("OTEL_")},
    )
    os.close(send)
    assert process.stdin is not None
    reader = StoreReader(tmp_path / "runs.db")
    deadline = time.monotonic() + WAIT_S
    try:
        process.stdin.write(b'{"cmd": "start", "url": "memory://", "rate": 1000, "duration_s": 0.5}\n')
        process.stdin.flush()
        while not (runs := reader.runs()) or not runs[0].status.is_over:
            assert time.monotonic() < deadline
            threading.Event().wait(0.02)
        process.stdin.close()
        assert process.wait(WAIT_S) == 0
    finally:
        process.kill()
        os.close(receive)
    assert runs[0].report is not None
    assert runs[0].report["accepted"] == runs[0].report["acked"] == 500


@pytest.mark.integration
@pytest.mark.parametrize("how", ["input closes", "SIGTERM"])
def test_process_takes_its_broker_along(tmp_path: Path, process: Process, how: str) -> None:
    """A run on an embedded broker: when the worker ends, the broker's port is closed and its process gone."""
    process.send(cmd="start", url="embedded+nats://", rate=500)
    started = process.expect("started")
    port = int(started["url"].rpartition(":")[2])
    assert _listens(port)
    if how == "input closes":
        process.close_input()
    else:
        process.process.send_signal(signal.SIGTERM)
    report = process.expect("ended")["report"]
    assert report["accepted"] == report["acked"]
    assert process.end() == 0
    assert not _listens(port)


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as tried:
        tried.settimeout(1)
        return tried.connect_ex(("127.0.0.1", port)) == 0
