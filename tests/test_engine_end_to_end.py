"""The whole engine as it is used: a real nats-server, worker process and receiver of alerts, and a real store."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from nats.js.api import DiscardPolicy, StreamConfig

from eventbus.alerts import Verdict
from eventbus.alerts.defaults import NO_ACKS
from eventbus.embedded.nats import EmbeddedNats
from eventbus.observe import RunInfo, RunStatus, Sample, StoreReader
from tests.nats_tools import add_stream, eventually, read_back
from tests.webhook_receiver import WebhookReceiver

pytestmark = pytest.mark.integration

WAIT_S = 20.0
ALERT_WITHIN_S = 2.0
LOST_AT_MOST_S = 1.0
ALERTS_STAY_S = 2.5
"""Longer than an alert that is repeated each second keeps quiet."""


class WorkerProcess:
    """``python -m eventbus worker`` with a store of its own: commands in, replies out."""

    def __init__(self, process: asyncio.subprocess.Process, store: Path) -> None:
        self.process = process
        self.store = store
        self.reader = StoreReader(store)
        self.run_id = ""

    def send(self, **command: Any) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(command).encode() + b"\n")

    async def expect(self, event: str) -> Mapping[str, Any]:
        """The next reply, but for those that tell how alerts go, which come whenever they like."""
        assert self.process.stdout is not None
        while True:
            line = await asyncio.wait_for(self.process.stdout.readline(), WAIT_S)
            reply: Mapping[str, Any] = json.loads(line)
            if reply["event"] != "alerts":
                assert reply["event"] == event, reply
                return reply

    async def start(self, **plan: Any) -> Mapping[str, Any]:
        self.send(cmd="start", **plan)
        started = await self.expect("started")
        self.run_id = started["run_id"]
        return started

    async def stop(self) -> Mapping[str, Any]:
        self.send(cmd="stop")
        return await self.expect("ended")

    def info(self) -> RunInfo:
        info = self.reader.run(self.run_id)
        assert info is not None
        return info

    async def sampled(self, condition: Callable[[Sample], bool], what: str) -> None:
        """Wait until the newest sample that is stored meets a condition."""

        def met() -> bool:
            latest = self.reader.latest(self.run_id)
            return latest is not None and condition(latest)

        await eventually(met, what)

    async def ended(self) -> RunInfo:
        """What the store says of the run, once its end is there."""

        def stored() -> bool:  # a moment after it was told
            run = self.reader.run(self.run_id)
            return run is not None and run.ended_wall_s is not None

        await eventually(stored, "the end of the run is stored")
        return self.info()


@contextlib.asynccontextmanager
async def worker_process(store: Path) -> AsyncIterator[WorkerProcess]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "eventbus", "worker", "--store", str(store)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        limit=2**20,
    )
    worker = WorkerProcess(process, store)
    try:
        await worker.expect("ready")
        yield worker
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), WAIT_S)
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()


@pytest.fixture
async def worker(tmp_path: Path) -> AsyncIterator[WorkerProcess]:
    async with worker_process(tmp_path / "runs.db") as worker:
        yield worker


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedNats]:
    with EmbeddedNats() as server:
        yield server


@pytest.fixture
async def receiver() -> AsyncIterator[WebhookReceiver]:
    async with WebhookReceiver() as receiver:
        yield receiver


def sink(receiver: WebhookReceiver) -> list[dict[str, Any]]:
    return [{"kind": "webhook", "url": receiver.url, "allow_private": True}]


def told(receiver: WebhookReceiver, rule: str, status: str) -> list[dict[str, Any]]:
    """What the receiver was told of this alert."""
    return [
        alert for alert in receiver.alerts if alert["labels"]["alertname"] == rule and alert["status"] == status
    ]  # fmt: skip


async def command_line(*arguments: str) -> tuple[int, str, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "eventbus", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "COLUMNS": "160"},
    )
    out, err = await asyncio.wait_for(process.communicate(), 2 * WAIT_S)
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def test_frozen_broker_is_told_within_two_seconds(
    server: EmbeddedNats, worker: WorkerProcess, receiver: WebhookReceiver
) -> None:
    """A default alert is with a real receiver 2 s after the broker froze, resolves after the thaw, and is stored."""
    await worker.start(url=server.url, topic="frozen.events", rate=1000, sinks=sink(receiver))
    await worker.sampled(lambda sample: sample.snapshot.acked >= 500, "the load goes on")
    assert receiver.received == []
    frozen_s, frozen_wall_s = time.monotonic(), time.time()
    try:
        await asyncio.to_thread(server.pause)
        await eventually(lambda: bool(told(receiver, NO_ACKS, "firing")), "the alert is told")
        took_s = time.monotonic() - frozen_s
    finally:
        await asyncio.to_thread(server.resume)
    thawed_wall_s = time.time()
    print(f"told {took_s:.2f} s after the freeze")
    assert took_s < ALERT_WITHIN_S
    await eventually(lambda: bool(told(receiver, NO_ACKS, "resolved")), "the end of the alert is told")
    ended = await worker.stop()
    assert (ended["status"], ended["report"]["acked"]) == ("stopped", ended["report"]["accepted"])

    (firing,), (resolved,) = told(receiver, NO_ACKS, "firing"), told(receiver, NO_ACKS, "resolved")
    assert firing["fingerprint"] == resolved["fingerprint"]
    assert firing["labels"] | {"run_id": worker.run_id, "severity": "critical"} == firing["labels"]
    assert firing["startsAt"] == resolved["startsAt"]
    assert frozen_wall_s < datetime.fromisoformat(firing["startsAt"]).timestamp() < frozen_wall_s + ALERT_WITHIN_S
    assert datetime.fromisoformat(resolved["endsAt"]).timestamp() > thawed_wall_s
    await worker.ended()
    changes = [change for change in worker.reader.alerts(worker.run_id) if change.rule == NO_ACKS]
    assert [change.state for change in changes if change.state != "recovering"] == ["firing", "resolved"]
    assert frozen_wall_s < changes[0].wall_s < frozen_wall_s + ALERT_WITHIN_S
    assert changes[-1].wall_s > thawed_wall_s


async def test_healthy_run_raises_no_alert(
    server: EmbeddedNats, worker: WorkerProcess, receiver: WebhookReceiver
) -> None:
    """Neither the begin of a run nor its end is an alert of the default rules."""
    await worker.start(url=server.url, topic="healthy.events", rate=2000, duration_s=2.0, sinks=sink(receiver))
    ended = await worker.expect("ended")
    assert (ended["status"], ended["report"]["acked"], ended["verdict"]) == ("finished", 4000, None)
    await worker.ended()
    assert worker.reader.alerts(worker.run_id) == []
    assert receiver.received == []


async def test_killed_worker_leaves_a_run_to_look_at(tmp_path: Path) -> None:
    """SIGKILL in mid-run: the store is whole and reads ``interrupted``, less than a second of samples is lost, its
    broker goes with it, and the next worker writes into the same store."""
    store = tmp_path / "runs.db"
    async with worker_process(store) as worker:
        started = await worker.start(url="embedded+nats://", topic="killed.events", rate=2000)
        await worker.sampled(lambda sample: sample.elapsed_s >= 1.5, "the run has gone on for a while")
        # Just before the next sample, when most is lost.
        await eventually(lambda: time.time() - newest(worker).wall_s > 0.2, "the newest sample is rather old")
        killed_wall_s = time.time()
        worker.process.kill()
        await worker.process.wait()
        info, last = worker.info(), newest(worker)
    assert info.status is RunStatus.INTERRUPTED
    assert info.ended_wall_s is None
    lost_s = killed_wall_s - last.wall_s
    print(f"{lost_s:.2f} s of samples lost")
    assert lost_s < LOST_AT_MOST_S
    samples = worker.reader.samples(worker.run_id)
    assert len(samples) >= 6
    assert samples[-1].snapshot.acked > 2000
    with contextlib.closing(sqlite3.connect(store)) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    port = int(started["url"].rpartition(":")[2])
    await eventually(lambda: not listens(port), "the broker is gone too")

    code, out, err = await command_line("runs", "show", "last", "--store", str(store))
    assert (code, err) == (0, "")
    assert out.splitlines()[0] == f"{worker.run_id}: interrupted"
    assert "ack latency p99" in out
    page = tmp_path / "report.html"
    code, _, err = await command_line("runs", "report", "last", str(page), "--store", str(store))
    assert (code, err) == (0, "")
    assert "interrupted" in page.read_text(encoding="utf-8")

    async with worker_process(store) as worker:
        await worker.start(url="memory://", count=10)
        assert (await worker.expect("ended"))["status"] == "finished"
        await worker.ended()
        assert [run.status for run in worker.reader.runs()] == [RunStatus.FINISHED, RunStatus.INTERRUPTED]


def newest(worker: WorkerProcess) -> Sample:
    latest = worker.reader.latest(worker.run_id)
    assert latest is not None
    return latest


def listens(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


async def test_steered_while_it_goes_on(server: EmbeddedNats, worker: WorkerProcess) -> None:
    """Rate and shape change a run on the way, and are in its samples; a bad command changes nothing."""
    await worker.start(url=server.url, topic="steered.events", rate=100)
    worker.send(cmd="set", rate=700)
    await worker.sampled(lambda sample: sample.target_rate == 700, "the new rate is sampled")
    worker.send(cmd="set", shape={"kind": "sine", "mean": 300, "amplitude": 200, "period_s": 0.5})
    rates: set[float | None] = set()

    def swings(sample: Sample) -> bool:
        rates.add(sample.target_rate)
        return len(rates) >= 3

    await worker.sampled(swings, "the rate follows the shape")
    for bad, said in (
        ({"cmd": "set", "shape": {"kind": "sine"}}, "mean"),
        ({"cmd": "set", "rate": 0}, "more than 0"),
        ({"cmd": "silence", "alerts": ["nonsense"], "for_s": 5}, "'nonsense' is not an alert rule"),
        ({"cmd": "silence", "alerts": ["*"], "for_s": "long"}, "for_s"),
        ({"cmd": "acknowledge", "alert": "nonsense"}, "'nonsense' is not an alert rule"),
        ({"cmd": "start", "url": "memory://"}, "a run is going on already"),
    ):
        worker.send(**bad)
        assert said in (await worker.expect("error"))["text"]
    ended = await worker.stop()
    assert (ended["status"], ended["report"]["acked"]) == ("stopped", ended["report"]["accepted"])
    await worker.ended()
    assert all(
        sample.target_rate in (100, 700) or 100 <= (sample.target_rate or 0) <= 500
        for sample in worker.reader.samples(worker.run_id)
    )


async def test_start_that_cannot_be(worker: WorkerProcess) -> None:
    """Whatever is wrong with a plan is told in one line, without secrets; nothing is started, and the next plan is."""
    for plan, said in (
        ({"sinks": [{"kind": "webhook", "url": "http://me:secret@example.com/x"}]}, "use https"),
        ({"sinks": [{"kind": "fax"}]}, "sinks"),
        ({"rules": [{"name": "a", "when": "max(pendin) > 5"}]}, "did you mean pending"),
        ({"thresholds": ["p99(ack_latency) < 1%"]}, "thresholds"),
        ({"shape": {"kind": "ramp"}}, "shape"),
        ({"template": "{{ nonsense_field }}"}, "nonsense_field"),
        ({"topics": [{"name": "a"}, {"name": "a"}]}, "once more"),
        ({"workers": 3, "rate": 5}, "exclude each other"),
        ({"warm_up_s": 5, "duration_s": 1}, "warm_up_s is 5"),
        ({"replay": "/no/such/file.csv"}, "cannot be read"),
        ({"rate": float("inf")}, "rate"),
        ({"url": "nats://me:secret@127.0.0.1:1", "topic": "a b"}, "topic"),
    ):
        worker.send(cmd="start", **{"url": "memory://", **plan})
        text = (await worker.expect("error"))["text"]
        assert said in text
        assert "\n" not in text
        assert "secret" not in text
    assert worker.reader.runs() == []
    await worker.start(url="memory://", count=1)
    assert (await worker.expect("ended"))["status"] == "finished"


async def test_workers_have_no_rate_to_change(server: EmbeddedNats, worker: WorkerProcess) -> None:
    """In the closed model a new rate is refused in one line, and the run goes on."""
    await worker.start(url=server.url, topic="closed.events", workers=3)
    worker.send(cmd="set", rate=5)
    assert "workers" in (await worker.expect("error"))["text"]
    await worker.sampled(lambda sample: sample.snapshot.acked >= 100, "the run goes on")
    assert (await worker.stop())["status"] == "stopped"


async def test_silenced_and_acknowledged(
    server: EmbeddedNats, worker: WorkerProcess, receiver: WebhookReceiver
) -> None:
    """A silenced alert is stored and told to nobody; an acknowledged one is repeated no more, and its end is told."""
    rules = [
        {"name": "quiet", "when": "target_rate > 300"},
        {"name": "loud", "when": "target_rate > 300", "repeat": "1s", "labels": {"team": "load"}},
    ]
    await worker.start(url=server.url, topic="loud.events", rate=100, rules=rules, sinks=sink(receiver))
    worker.send(cmd="silence", alerts=["quiet"], for_s=600, by="me", comment="known")
    worker.send(cmd="set", rate=400)
    await eventually(lambda: len(told(receiver, "loud", "firing")) >= 3, "the alert is repeated")
    worker.send(cmd="acknowledge", alert="loud", by="me")
    acknowledged_s, known = time.monotonic(), len(told(receiver, "loud", "firing"))
    await eventually(lambda: time.monotonic() - acknowledged_s > ALERTS_STAY_S, "time passes")
    assert len(told(receiver, "loud", "firing")) <= known + 1  # one may have been on its way
    worker.send(cmd="set", rate=100)
    await eventually(lambda: bool(told(receiver, "loud", "resolved")), "the end is told")
    await worker.stop()
    await worker.ended()
    assert {alert["labels"]["alertname"] for alert in receiver.alerts} == {"loud"}
    assert {alert["labels"]["team"] for alert in receiver.alerts} == {"load"}
    changes = worker.reader.alerts(worker.run_id)
    quiet = [change for change in changes if change.rule == "quiet"]
    assert [change.state for change in quiet] == ["firing", "resolved"]
    assert quiet[0].muted == "silenced by me: known"
    loud = [(change.previous, change.state) for change in changes if change.rule == "loud"]
    assert loud[:2] == [("inactive", "firing"), ("firing", "firing")]
    assert loud[-1] == ("firing", "resolved")


async def test_threshold_ends_the_run(server: EmbeddedNats, worker: WorkerProcess) -> None:
    """With ``abort`` a crossed threshold stops a run in mid-way: the reason and the verdict are told and stored, and
    every message of the frozen broker is in the failures, those that were acked late as well."""
    await worker.start(
        url=server.url,
        topic="aborted.events",
        rate=500,
        ack_timeout_s=0.4,
        max_attempts=1,
        thresholds=[
            "increase(acked) > 10",
            {"expression": "ratio(failed, settled) < 10%", "abort": True, "grace": "0s"},
        ],
    )
    await worker.sampled(lambda sample: sample.snapshot.acked >= 200, "the load goes on")
    try:
        await asyncio.to_thread(server.pause)
        await eventually(lambda: worker.info().status is RunStatus.DRAINING, "the run is ended by its threshold")
    finally:
        await asyncio.to_thread(server.resume)
    ended = await worker.expect("ended")
    assert ended["status"] == "stopped"
    verdict = Verdict.from_dict(ended["verdict"])
    assert (verdict.passed, [row.text for row in verdict.rows]) == (
        False,
        ["increase(acked) > 10", "ratio(failed, settled) < 10%"],
    )
    assert verdict.rows[0].passed is True
    info = await worker.ended()
    assert (info.status, info.verdict, info.report) == (RunStatus.STOPPED, ended["verdict"], ended["report"])
    assert info.error is not None
    assert ended["error"] == info.error
    assert info.error.startswith("aborted after ")
    assert info.error.endswith(": ratio(failed, settled) < 10% did not hold")
    check_failures(worker, unknown=True)


async def test_failures_are_grouped_exactly(server: EmbeddedNats, worker: WorkerProcess) -> None:
    """What a full stream refuses is counted to the message, under its kind, topic and text; the rest is acked."""
    await add_stream(
        server.url,
        StreamConfig(name="FULL", subjects=["full.events"], max_msgs=300, discard=DiscardPolicy.NEW),
    )
    await worker.start(
        url=server.url,
        topics=[{"name": "full.events", "weight": 3}, {"name": "roomy.events"}],
        rate=2000,
        count=2000,
        max_attempts=1,
        seed=6,
    )
    ended = await worker.expect("ended")
    assert (ended["status"], ended["verdict"]) == ("finished", None)
    report = ended["report"]
    assert report["rejected"] == report["accepted"] - report["acked"] > 1000
    await worker.ended()
    check_failures(worker, unknown=False)
    (group,) = worker.reader.failure_groups(worker.run_id)
    assert (group.kind, group.topic, group.outcome, group.count) == (
        "stream_full",
        "full.events",
        "rejected",
        report["rejected"],
    )
    assert len(await read_back(server.url, "FULL")) == 300


def check_failures(worker: WorkerProcess, *, unknown: bool) -> None:
    """The groups' counts are those of the last snapshot, and the single messages those of the groups."""
    snapshot = newest(worker).snapshot
    counted: Counter[str] = Counter()
    for group in worker.reader.failure_groups(worker.run_id):
        counted[group.outcome] += group.count
        assert group.first_wall_s <= group.last_wall_s
        assert group.message_id
    assert counted["rejected"] == snapshot.rejected
    assert counted["acked late"] == snapshot.late_acks
    assert counted["unknown"] - counted["acked late"] == snapshot.unknown
    assert (counted["unknown"] > 0) is unknown
    rows = worker.reader.failed(worker.run_id, limit=100_000)
    assert len(rows) == counted.total()
    assert Counter("acked late" if row.late else row.outcome for row in rows) == counted


async def test_worker_that_is_frozen_itself_is_not_interrupted_for_ever(tmp_path: Path) -> None:
    """A worker that stood still reads as interrupted, and as running again when it goes on."""
    async with worker_process(tmp_path / "runs.db") as worker:
        await worker.start(url="memory://", rate=100)
        await worker.sampled(lambda sample: sample.snapshot.acked > 10, "the load goes on")
        os.kill(worker.process.pid, signal.SIGSTOP)
        try:
            await eventually(lambda: worker.info().status is RunStatus.INTERRUPTED, "its silence is seen")
        finally:
            os.kill(worker.process.pid, signal.SIGCONT)
        await eventually(lambda: worker.info().status is RunStatus.RUNNING, "it goes on")
        assert (await worker.stop())["status"] == "stopped"
