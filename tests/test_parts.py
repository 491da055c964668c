"""One part of a load: what it says and does on command, alone in this process or in one of its own."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import signal
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from typing import Any

import pytest

from eventbus import (
    BusEvent,
    BusSnapshot,
    CloseReport,
    ConfigError,
    ConnectFailed,
    ConnectionState,
    ErrorClass,
    ErrorKind,
    EventBusError,
    EventKind,
    LatencyHistogram,
    TopicError,
)
from eventbus.clock import SystemClock
from eventbus.load.failure_batch import MAX_GROUPS, MAX_MESSAGES, FailureBatch
from eventbus.load.fleet_figures import FleetFigures
from eventbus.load.fleet_part import FleetPart, Listener
from eventbus.load.outlet import Outlet
from eventbus.load.part import Part
from eventbus.load.part_message import (
    PartResult,
    error_from_dict,
    error_to_dict,
    event_from_dict,
    event_to_dict,
    failed_from_dict,
    failed_to_dict,
    sample_from_dict,
    sample_to_dict,
)
from eventbus.load.part_process import PartProcess
from eventbus.load.plan import LoadPlan
from eventbus.load_bus import connect_plan
from eventbus.observe import FailedMessage, RunStatus, Sample

WAIT_S = 30.0
SNAPSHOT = BusSnapshot(
    bus_id="b",
    monotonic_s=1.0,
    wall_s=2.0,
    connection=ConnectionState.CONNECTED,
    accepted=10,
    acked=6,
    rejected=1,
    pending=3,
    pending_bytes=300,
    max_pending=100,
    oldest_pending_age_s=0.5,
    errors={"timeout": 2},
    latency=LatencyHistogram.of([1000, 2_000_000]),
    warnings=("beware",),
)
SAMPLE = Sample(5.0, 1.5, 12, 100.0, SNAPSHOT, 0.01, 0.02, LatencyHistogram.of([5000]), True)
REPORT = CloseReport(10, 9, 0, 0, 1, 0, 0, 0, 0, 0.1, False)
RESULT = PartResult(RunStatus.FINISHED, 12, 2, "too large", 1.4, 0.02, REPORT, None)


class Said:
    """Implements TakesMessages: keeps it all, as it would look after JSON."""

    busy = False

    def __init__(self) -> None:
        self.messages: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.events: list[str] = []

    def tell(self, message: Mapping[str, Any]) -> None:
        self.messages.put_nowait(json.loads(json.dumps(message)))

    def sample(self, sample: Sample) -> None:
        self.tell({"event": "sample", "sample": sample_to_dict(sample)})

    async def expect(self, event: str) -> dict[str, Any]:
        """The next message of that kind; those before are skipped and kept by name."""
        async with asyncio.timeout(WAIT_S):
            while True:
                message = await self.messages.get()
                self.events.append(message["event"])
                if message["event"] == event:
                    return message


class Driver:
    def __init__(self) -> None:
        self.said = Said()
        self.part = Part(connect_plan, self.said, clock=SystemClock())
        self.working = asyncio.create_task(self.part.work())

    def send(self, **command: Any) -> None:
        self.part.command(json.dumps(command).encode())

    def open(self, **settings: Any) -> None:
        self.send(cmd="open", plan={"url": "memory://", **settings})

    async def over(self) -> None:
        await asyncio.wait_for(self.working, WAIT_S)


@pytest.fixture
async def driver() -> AsyncIterator[Driver]:
    driver = Driver()
    yield driver
    driver.working.cancel()
    await asyncio.wait([driver.working])


async def test_part_from_begin_to_end(driver: Driver) -> None:
    """Ready, opened, and nothing is sent before "go"; then samples, the drain, and the end with the whole result."""
    await driver.said.expect("ready")
    driver.open(count=50, rate=1000)
    assert (await driver.said.expect("opened"))["url"] == "memory://"
    assert "sample" not in driver.said.events
    driver.send(cmd="go", at_wall_s=time.time())
    await driver.said.expect("draining")
    ended = await driver.said.expect("ended")
    await driver.over()
    result, last = PartResult.from_dict(ended["result"]), sample_from_dict(ended["sample"])
    assert (result.status, result.offered, result.report.acked) == (RunStatus.FINISHED, 50, 50)
    assert (last.snapshot.acked, last.snapshot.latency.total, last.scheduled.total) == (50, 50, 50)


async def test_stop_before_go(driver: Driver) -> None:
    """Stopped while it waits for "go": it ends without having sent anything."""
    driver.open(rate=10)
    await driver.said.expect("opened")
    driver.send(cmd="stop", drain_s=0)
    result = PartResult.from_dict((await driver.said.expect("ended"))["result"])
    assert (result.status, result.report.accepted) == (RunStatus.STOPPED, 0)
    await driver.over()


@pytest.mark.parametrize(
    ("plan", "kind", "said"),
    [
        ({"rate": -1}, "config", "rate"),
        ({"rate": 5, "workers": 5}, "config", "exclude each other"),
        ({"replay": "/no/such/file"}, "config", "cannot be read"),
        ({"url": "nats://me:secret@127.0.0.1:1"}, "connect", "127.0.0.1:1"),
    ],
)
async def test_what_cannot_be_opened_is_refused(driver: Driver, plan: dict[str, Any], kind: str, said: str) -> None:
    """A plan that cannot be run: one line that says why, without secrets, and the part ends."""
    driver.open(**plan)
    error = (await driver.said.expect("refused"))["error"]
    assert error["type"] == kind
    assert said in error["text"]
    assert "secret" not in error["text"]
    assert "\n" not in error["text"]
    await driver.over()


async def test_commander_gone_before_it_began(driver: Driver) -> None:
    """Left alone while it waits for its plan, or for "go", it ends."""
    await driver.said.expect("ready")
    driver.part.leave()
    await driver.over()
    assert driver.said.messages.empty()


async def test_bad_commands_do_no_harm(driver: Driver) -> None:
    """A command that cannot be carried out is passed over, and the next one works."""
    driver.open(rate=100)
    await driver.said.expect("opened")
    for line in (b"nonsense", b"{}", b"[1]", b'{"cmd": "jump"}', b'{"cmd": "set", "rate": -5}', b'{"cmd": "go"}'):
        driver.part.command(line)
    driver.send(cmd="go", at_wall_s=0)
    driver.send(cmd="set", rate=77)
    while (await driver.said.expect("sample"))["sample"]["target_rate"] != 77:
        pass
    driver.send(cmd="stop", drain_s=1)
    await driver.said.expect("ended")


# ---- what crosses ----------------------------------------------------------------------------------------------


def test_values_survive_the_way() -> None:
    """Samples, results, events and failed messages come out as they went in, by way of JSON."""

    def by_json(value: Any) -> Any:
        return json.loads(json.dumps(value))

    assert sample_from_dict(by_json(sample_to_dict(SAMPLE))) == SAMPLE
    assert PartResult.from_dict(by_json(RESULT.to_dict())) == RESULT
    event = BusEvent(3.0, EventKind.DISCONNECTED, "gone")
    assert event_from_dict(by_json(event_to_dict(event))) == event
    batch = FailureBatch()
    batch.add([failed(1), failed(2)])
    messages, groups = batch.take()
    assert failed_from_dict(by_json(failed_to_dict(messages, groups))) == (messages, groups)


@pytest.mark.parametrize(
    "error",
    [
        ConfigError("bad"),
        ConnectFailed("nobody\nthere"),
        TopicError("no stream", error_class=ErrorClass.FATAL, kind=ErrorKind.NO_STREAM),
    ],
)
def test_errors_keep_their_kind(error: EventBusError) -> None:
    """What ``open`` raised in a part is raised by the coordinator, in one line, and says where it was."""
    again = error_from_dict(json.loads(json.dumps(error_to_dict(error))), "process 1 of 2")
    assert type(again) is type(error)
    assert str(again) == " ".join(str(error).split()) + " (in process 1 of 2)"


def failed(number: int, text: str = "too slow", *, late: bool = False) -> FailedMessage:
    outcome = "acked" if late else "unknown"
    return FailedMessage(float(number), f"id-{number}", "a.b", outcome, late, 1, "ambiguous", "timeout", text)


def test_failures_are_counted_exactly_and_kept_boundedly() -> None:
    """However many fail, each is counted in its group, and only the first ones are told one by one."""
    batch = FailureBatch()
    counted = told = 0
    for begin in range(0, 12_000, 3000):
        batch.add([failed(n, f"text {n % 1500}") for n in range(begin, begin + 3000)])
        messages, groups = batch.take()
        assert len(groups) == MAX_GROUPS + 1
        told += len(messages)
        counted += sum(group.count for group in groups)
    assert not batch
    assert (counted, told) == (12_000, MAX_MESSAGES)


def test_late_acks_are_a_group_of_their_own() -> None:
    """An ack after a message had been given up is no further failure."""
    batch = FailureBatch()
    batch.add([failed(1), failed(2), failed(3, late=True)])
    _, groups = batch.take()
    assert [(group.outcome, group.count, group.first_wall_s, group.last_wall_s) for group in groups] == [
        ("unknown", 2, 1.0, 2.0),
        ("acked late", 1, 3.0, 3.0),
    ]


# ---- how the coordinator sees it -------------------------------------------------------------------------------


class Heard:
    def __init__(self, **settings: Any) -> None:
        self.events: list[BusEvent] = []
        self.failed: list[Any] = []
        self.changes = 0
        listener = Listener(self._changed, self.events.append, lambda *failures: self.failed.append(failures))
        self.part = FleetPart(LoadPlan(rate=100, **settings), "process 2 of 3", "1.0", listener, 0.0)

    def _changed(self) -> None:
        self.changes += 1

    def hear(self, now_s: float = 0.0, **message: Any) -> None:
        self.part.hear(json.dumps(message).encode(), now_s)


def test_lost_part_keeps_its_last_figures() -> None:
    """What was pending when a part was lost counts as unknown; nothing else changes, and the text says its age."""
    heard = Heard()
    heard.hear(10.0, event="sample", sample=sample_to_dict(SAMPLE))
    assert heard.part.snapshot == SNAPSHOT
    heard.part.lose("was killed by signal 9", 10.2)
    snapshot = heard.part.snapshot
    assert (snapshot.accepted, snapshot.acked, snapshot.unknown, snapshot.pending) == (10, 6, 3, 0)
    assert (snapshot.connection, snapshot.oldest_pending_age_s) == (ConnectionState.CLOSED, 0.0)
    assert heard.part.trouble == (
        "process 2 of 3 was killed by signal 9; its figures are 0.2 s old: the 3 messages that were pending then count "
        "as unknown, and what it did afterwards is not counted"
    )
    report = heard.part.report
    assert (report.accepted, report.unknown, report.left_unknown, report.timed_out) == (10, 3, 3, True)
    heard.hear(11.0, event="ended", result=RESULT.to_dict(), sample=None)
    assert heard.part.result is None


def test_other_version_is_not_counted_in() -> None:
    """A part of another version is refused before it can open anything: it might count otherwise."""
    heard = Heard()
    heard.hear(event="ready", version="0.9")
    assert heard.part.lost == "has version 0.9 of AckScope, and this is 1.0"


@pytest.mark.parametrize("line", [b"hello", b"[]", b"7", b"{}", b"\xff\xfe", b'{"event": "of a later version"}'])
def test_stray_output_is_passed_over(line: bytes) -> None:
    """What a library prints is no message and does no harm."""
    heard = Heard()
    heard.part.hear(line, 1.0)
    assert not heard.part.over


@pytest.mark.parametrize(
    "message",
    [
        {"event": "sample"},
        {"event": "sample", "sample": {}},
        {"event": "ended", "result": {"status": "well"}, "sample": None},
        {"event": "happened", "event_of_bus": {"wall_s": 1, "kind": "?", "text": ""}},
        {"event": "failed", "messages": [{}], "groups": []},
    ],
)
def test_message_that_makes_no_sense_loses_the_part(message: dict[str, Any]) -> None:
    """A part whose words cannot be understood is not believed any more."""
    heard = Heard()
    heard.hear(**message)
    assert heard.part.lost is not None
    assert "said what cannot be understood" in heard.part.lost


def test_events_say_where_they_were() -> None:
    """Events and failures are handed on, events with the name of the part."""
    heard = Heard()
    heard.hear(event="happened", event_of_bus=event_to_dict(BusEvent(1.0, EventKind.PAUSED, "slow")))
    heard.hear(event="failed", **failed_to_dict([failed(1)], []))
    assert heard.events == [BusEvent(1.0, EventKind.PAUSED, "process 2 of 3: slow")]
    assert heard.failed == [([failed(1)], [])]


def test_lags_are_the_largest_of_all_samples() -> None:
    """A lag that only one sample of one part had is not lost between two looks; rates and counts are added."""
    one, other = Heard(), Heard()
    for lag_s in (0.3, 0.1):
        sample = {**sample_to_dict(SAMPLE), "loop_lag_s": lag_s, "schedule_lag_s": 2 * lag_s, "warming_up": False}
        one.hear(event="sample", sample=sample)
    figures = FleetFigures([one.part, other.part], SystemClock())
    assert figures.load() == (12, 200.0)
    assert figures.take_loop_lag() == 0.3
    assert figures.whole(SAMPLE).schedule_lag_s == figures.most_lag_s == 0.6
    assert figures.take_loop_lag() == 0.0
    assert figures.snapshot().max_pending == 100 + other.part.share.max_pending


# ---- the way out -----------------------------------------------------------------------------------------------


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reading, writing = os.pipe()
    yield reading, writing
    for descriptor in (reading, writing):
        os.close(descriptor)


def read_lines(descriptor: int, until: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    lines = []
    with os.fdopen(os.dup(descriptor), "rb") as file:
        for line in file:
            lines.append(json.loads(line))
            if until(lines[-1]):
                break
    return lines


def test_slow_reader_gets_the_newest_sample(pipe: tuple[int, int]) -> None:
    """Nobody reads: telling never waits, and of the samples that were taken meanwhile only the newest is left."""
    outlet = Outlet(pipe[1])
    filler = "x" * 200_000
    outlet.tell({"event": "filler", "text": filler})
    for number in range(100):
        outlet.sample(Sample(0.0, float(number), 0, None, SNAPSHOT))
    outlet.tell({"event": "last"})
    lines = read_lines(pipe[0], lambda line: line["event"] == "last")
    samples = [line["sample"]["elapsed_s"] for line in lines if line["event"] == "sample"]
    assert samples[-1] == 99.0
    assert len(samples) <= 3
    outlet.close(WAIT_S)


def test_reader_gone(pipe: tuple[int, int]) -> None:
    """Where nobody will ever read, what is told is lost, and closing does not wait."""
    outlet = Outlet(pipe[1])
    os.dup2(pipe[1], pipe[0])  # closes the only end that can be read
    outlet.tell({"event": "alive"})
    outlet.close(WAIT_S)
    outlet.tell({"event": "alive"})


# ---- a process of its own --------------------------------------------------------------------------------------


class Child:
    """A real part process, and what it said."""

    def __init__(self) -> None:
        self._lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        self.how: list[str] = []
        self._gone = threading.Event()
        self.process = PartProcess(self._lines.put, self._end)

    def _end(self, how: str) -> None:
        self.how.append(how)
        self._gone.set()

    def expect(self, event: str) -> dict[str, Any]:
        while True:
            message: dict[str, Any] = json.loads(self._lines.get(timeout=WAIT_S))
            if message["event"] == event:
                return message

    def begin(self) -> None:
        self.expect("ready")
        self.process.send({"cmd": "open", "plan": LoadPlan(url="memory://", rate=200).to_dict()})
        self.expect("opened")
        self.process.send({"cmd": "go", "at_wall_s": time.time()})
        while not self.expect("sample")["sample"]["snapshot"]["acked"]:
            pass

    def over(self) -> str:
        assert self._gone.wait(WAIT_S)
        return self.how[0]


@pytest.fixture
def child() -> Iterator[Child]:
    child = Child()
    yield child
    child.process.kill()
    child.over()


def test_process_ends_with_its_input(child: Child) -> None:
    """Standard input closes in the middle of a run: it stops, awaits its acks, tells its result and ends."""
    child.begin()
    child.process.close_input()
    result = PartResult.from_dict(child.expect("ended")["result"])
    assert result.status is RunStatus.STOPPED
    assert result.report.acked == result.report.accepted > 0
    assert child.over() == "ended with exit code 0"


def test_process_ends_by_signal(child: Child) -> None:
    """SIGTERM means the same."""
    child.begin()
    os.kill(child.process.pid, signal.SIGTERM)
    assert PartResult.from_dict(child.expect("ended")["result"]).status is RunStatus.STOPPED
    assert child.over() == "ended with exit code 0"


def test_large_plan_arrives(child: Child) -> None:
    """A plan may be larger than what a pipe holds: a template of half a MiB, for instance."""
    child.expect("ready")
    template = json.dumps({"text": "x" * 500_000})
    child.process.send({"cmd": "open", "plan": LoadPlan(url="memory://", count=1, template=template).to_dict()})
    child.expect("opened")
    child.process.send({"cmd": "go", "at_wall_s": 0})
    assert PartResult.from_dict(child.expect("ended")["result"]).report.acked == 1
