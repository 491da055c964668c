"""Each fault of the embedded nats-server and of the way to it: it breaks what it says, and undoing it heals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from nats.js.api import DiscardPolicy

import eventbus
from eventbus import (
    AckOutcome,
    ConfigError,
    ConnectFailed,
    ConnectionConfig,
    ConnectionState,
    ErrorKind,
    EventBus,
    Receipt,
    RetryPolicy,
    TopicConfig,
)
from eventbus.embedded.nats import EmbeddedNats
from eventbus.faults import (
    EndedBy,
    Fault,
    FaultError,
    FaultState,
    FaultStatus,
    Network,
    TimedFault,
    nats_faults,
    network_faults,
    open_config,
)
from tests.nats_tools import admin, assert_conserved, copies, eventually, read_back

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(sys.platform == "win32", reason="an embedded nats-server needs Linux or macOS"),
]
ROOT = Path(__file__).resolve().parent.parent
TOPIC = "fault.x"
STREAM = "FAULT"
SOON = ConnectionConfig(connect_timeout_s=1.0, reconnect_delay_s=0.05, ping_interval_s=0.2)
PATIENT = RetryPolicy(max_attempts=20)
QUICK = RetryPolicy(max_attempts=2, base_delay_s=0.02, max_delay_s=0.05)
ACKED, REJECTED, UNKNOWN = AckOutcome.ACKED, AckOutcome.REJECTED, AckOutcome.UNKNOWN


@pytest.fixture
def server() -> Iterator[EmbeddedNats]:
    with EmbeddedNats(extra_config=open_config()) as running:
        yield running


@pytest.fixture
def network(server: EmbeddedNats) -> Iterator[Network]:
    with Network(server.port) as running:
        yield running


def named(faults: list[Fault], name: str) -> Fault:
    return next(fault for fault in faults if fault.name == name)


def fault_of(server: EmbeddedNats, name: str) -> Fault:
    return named(nats_faults(server, [TOPIC], limit_bytes=100), name)


@contextlib.asynccontextmanager
async def bus_at(
    url: str, *, retry: RetryPolicy = PATIENT, ack_timeout_s: float = 0.5, connection: ConnectionConfig = SOON
) -> AsyncIterator[EventBus]:
    """A bus whose topic has been acked once; in the end all it accepted is accounted for, and a fresh publish works."""
    async with eventbus.connect(
        url, retry=retry, ack_timeout_s=ack_timeout_s, connection=connection, topics=[TopicConfig("fault.>")]
    ) as bus:
        assert (await (await bus.publish(TOPIC, b"first"))).outcome is ACKED
        yield bus
        await bus.flush(15)
        assert_conserved(bus.snapshot())
        assert (await (await bus.publish(TOPIC, b"last"))).outcome is ACKED


async def publish(bus: EventBus, number: int = 20, size: int = 10) -> list[Receipt]:
    return [await bus.publish(TOPIC, bytes(size)) for _ in range(number)]


async def outcomes(receipts: list[Receipt]) -> set[tuple[AckOutcome, ErrorKind | None]]:
    return {(report.outcome, report.error_kind) for report in [await receipt for receipt in receipts]}


async def assert_stored_once(server: EmbeddedNats, receipts: list[Receipt]) -> None:
    there = copies(await read_back(server.url, STREAM))
    assert {there[receipt.message_id] for receipt in receipts} == {1}


async def apply(fault: Fault) -> None:
    await asyncio.to_thread(fault.apply)


async def undo(fault: Fault) -> None:
    await asyncio.to_thread(fault.undo)
    await asyncio.to_thread(fault.undo)  # once more does no harm


# ---- the server ----------------------------------------------------------------------------------------------------


async def test_freeze(server: EmbeddedNats) -> None:
    """A frozen server answers nothing and keeps its connections; after the thaw all is acked, once."""
    fault = fault_of(server, "freeze")
    async with bus_at(server.url, connection=ConnectionConfig(ping_interval_s=60)) as bus:
        await apply(fault)
        receipts = await publish(bus)
        await eventually(lambda: bus.snapshot().ack_timeouts >= 20, "acks time out")
        assert bus.snapshot().acked == 1
        assert bus.snapshot().connection is ConnectionState.CONNECTED
        await undo(fault)
        assert {outcome for outcome, _ in await outcomes(receipts)} == {ACKED}
        await assert_stored_once(server, receipts)


async def test_kill(server: EmbeddedNats) -> None:
    """The process is gone and the connection with it; afterwards it listens on the same port, with what was stored."""
    fault = fault_of(server, "kill")
    async with bus_at(server.url, ack_timeout_s=2) as bus:
        before = (server.pid, server.port)
        await apply(fault)
        assert not await asyncio.to_thread(server.is_running)
        await eventually(lambda: bus.snapshot().connection is ConnectionState.RECONNECTING, "the loss is noticed")
        receipts = await publish(bus)
        assert bus.snapshot().pending == 20
        await undo(fault)
        assert {outcome for outcome, _ in await outcomes(receipts)} == {ACKED}
        assert server.port == before[1]
        assert server.pid != before[0]
        await assert_stored_once(server, receipts)
        assert len(await read_back(server.url, STREAM)) == 21


async def test_delete_stream(server: EmbeddedNats) -> None:
    """What was stored is gone. Where nobody makes the stream again, undoing does, with the settings that it had."""
    fault = fault_of(server, "delete_stream")
    async with bus_at(server.url) as bus:
        async with admin(server.url) as client:
            before = (await client.jetstream().stream_info(STREAM)).config
        await apply(fault)
        async with admin(server.url) as client:
            assert await client.jetstream().streams_info() == []
        await undo(fault)
        async with admin(server.url) as client:
            info = await client.jetstream().stream_info(STREAM)
        assert (info.config, info.state.messages) == (before, 0)
        await apply(fault)
        receipts = await publish(bus)  # the bus makes it itself
        assert {outcome for outcome, _ in await outcomes(receipts)} == {ACKED}
        await undo(fault)
        await assert_stored_once(server, receipts)


async def test_fill_stream(server: EmbeddedNats) -> None:
    """Nothing that is stored goes, nothing new comes in; afterwards the stream has the settings that it had."""
    fault = fault_of(server, "fill_stream")
    async with bus_at(server.url, retry=QUICK) as bus:
        await outcomes(await publish(bus))
        async with admin(server.url) as client:
            before = (await client.jetstream().stream_info(STREAM)).config
            await apply(fault)
            full = await client.jetstream().stream_info(STREAM)
        assert (full.config.discard, full.state.messages) == (DiscardPolicy.NEW, 21)
        refused = await publish(bus, 3)
        assert await outcomes(refused) == {(REJECTED, ErrorKind.STREAM_FULL)}
        await undo(fault)
        async with admin(server.url) as client:
            after = await client.jetstream().stream_info(STREAM)
        assert (after.config, after.state.messages) == (before, 21)


async def test_limit_size(server: EmbeddedNats) -> None:
    """What is larger is rejected for good, what is smaller goes on, and the limit goes when the fault does."""
    fault = fault_of(server, "limit_size")
    async with bus_at(server.url) as bus:
        await apply(fault)
        large, small = await publish(bus, 5, size=200), await publish(bus, 5, size=1)
        assert await outcomes(large) == {(REJECTED, ErrorKind.TOO_LARGE)}
        assert await outcomes(small) == {(ACKED, None)}
        assert {report.attempts for report in [await receipt for receipt in large]} == {1}
        await undo(fault)
        assert await outcomes(await publish(bus, 5, size=200)) == {(ACKED, None)}


async def test_deny_subject(server: EmbeddedNats) -> None:
    """Nobody may publish there, everywhere else goes on over the same connection, and the right comes back."""
    fault = fault_of(server, "deny_subject")
    async with bus_at(server.url, retry=QUICK) as bus:
        await apply(fault)
        receipts = await publish(bus, 5)
        assert {outcome for outcome, _ in await outcomes(receipts)} <= {REJECTED, UNKNOWN}
        assert bus.snapshot().errors["permission"] > 0
        assert (await (await bus.publish("fault.other"))).outcome is ACKED
        assert "disconnected" not in bus.snapshot().errors
        assert copies(await read_back(server.url, STREAM)).keys().isdisjoint(receipt.message_id for receipt in receipts)
        await undo(fault)


def test_deny_subject_needs_a_server_that_was_made_for_it() -> None:
    """Without open_config there is nobody whose right could be taken away: refused, with what to do."""
    with EmbeddedNats() as server, pytest.raises(FaultError, match="open_config"):
        fault_of(server, "deny_subject").apply()


@pytest.mark.parametrize("name", ["delete_stream", "fill_stream", "limit_size"])
def test_fault_of_a_stream_that_is_not_there(server: EmbeddedNats, name: str) -> None:
    """It is refused in words for people, and undoing what was never made does nothing."""
    fault = fault_of(server, name)
    with pytest.raises(FaultError, match=r"no stream takes fault\.x yet"):
        fault.apply()
    fault.undo()
    server.pause()
    with pytest.raises(FaultError, match="does not answer"):
        fault.apply()


# ---- the network ---------------------------------------------------------------------------------------------------


async def test_delay(server: EmbeddedNats, network: Network) -> None:
    """Acks come later by both ways' delay, and none is lost."""
    fault = named(network_faults(network), "delay")
    async with bus_at(f"nats://127.0.0.1:{network.port}", ack_timeout_s=5) as bus:
        await apply(fault)
        report = await (await bus.publish(TOPIC))
        assert report.outcome is ACKED
        assert report.ack_latency_s is not None
        assert report.ack_latency_s >= 0.2
        await undo(fault)
        await outcomes(await publish(bus, 1))  # what was held before it is out
        report = await (await bus.publish(TOPIC))
        assert report.ack_latency_s is not None
        assert report.ack_latency_s < 0.2


async def test_throttle(server: EmbeddedNats, network: Network) -> None:
    """Half a second's worth of bytes takes that long, and everything arrives."""
    fault = named(network_faults(network), "throttle")
    async with bus_at(f"nats://127.0.0.1:{network.port}", ack_timeout_s=5) as bus:
        await apply(fault)
        began = time.monotonic()
        receipts = await publish(bus, 50, size=1_000)
        assert await outcomes(receipts) == {(ACKED, None)}
        assert time.monotonic() - began > 0.4
        await undo(fault)
        await assert_stored_once(server, receipts)


async def test_blackhole(server: EmbeddedNats, network: Network) -> None:
    """The server stores what nobody hears acked; afterwards it is acked as a duplicate, and stored once."""
    fault = named(network_faults(network), "blackhole")
    async with bus_at(f"nats://127.0.0.1:{network.port}") as bus:
        await apply(fault)
        receipts = await publish(bus)
        await eventually(lambda: bus.snapshot().ack_timeouts > 0, "acks time out")
        assert bus.snapshot().acked == 1
        assert len(await read_back(server.url, STREAM)) == 21
        await undo(fault)
        assert {outcome for outcome, _ in await outcomes(receipts)} == {ACKED}
        assert bus.snapshot().duplicates + bus.snapshot().late_acks > 0
        await assert_stored_once(server, receipts)


async def test_reset(server: EmbeddedNats, network: Network) -> None:
    """The connection breaks off, the bus comes back each time, and nothing is stored twice."""
    fault = named(network_faults(network), "reset")
    async with bus_at(f"nats://127.0.0.1:{network.port}", ack_timeout_s=2) as bus:
        states: set[ConnectionState] = set()

        def lost_and_found() -> bool:
            states.add(bus.snapshot().connection)
            return states >= {ConnectionState.RECONNECTING, ConnectionState.CONNECTED}

        await apply(fault)
        receipts = await publish(bus)
        await eventually(lost_and_found, "the reset is noticed")
        await undo(fault)
        assert {outcome for outcome, _ in await outcomes(receipts)} == {ACKED}
        await assert_stored_once(server, receipts)


# ---- none lasts ----------------------------------------------------------------------------------------------------


class Light(Fault):
    """A fault that notes what is done with it."""

    name, title, breaks, expect = "light", "Turn off the light", "It is dark.", "Nobody sees anything."

    def __init__(self, *, dark: bool = False, stuck: int = 0) -> None:
        self.off = self.undone = 0
        self._dark, self._stuck = dark, stuck

    def apply(self) -> None:
        self.off += 1
        if self._dark:
            raise ConnectFailed("it was dark already")

    def undo(self) -> None:
        self.undone += 1
        if self.undone <= self._stuck:
            raise ConnectFailed("the switch is stuck")


def ended(timed: TimedFault) -> FaultStatus:
    """How it ended, which it must do by itself."""
    deadline, pause = time.monotonic() + 10, threading.Event()
    while timed.status is None or timed.status.state is FaultState.ACTIVE:
        assert time.monotonic() < deadline, "it never ended"
        pause.wait(0.005)
    return timed.status


def test_fault_is_undone_when_its_time_is_over() -> None:
    """By itself, once, and it is told of."""
    light, told = Light(), list[FaultStatus]()
    timed = TimedFault(light, 0.05, told=told.append)
    assert timed.status is None
    began = timed.begin()
    assert (began.state, light.off, light.undone) == (FaultState.ACTIVE, 1, 0)
    status = ended(timed)
    assert (status.state, status.ended_by, light.undone) == (FaultState.UNDONE, EndedBy.TIME, 1)
    assert timed.undo() == status
    assert told == [status]
    with pytest.raises(FaultError, match="already"):
        timed.begin()


def test_fault_is_undone_by_hand() -> None:
    """At once, however long it was meant to last."""
    light = Light()
    timed = TimedFault(light, 600)
    timed.begin()
    status = timed.undo()
    assert status is not None
    assert (status.state, status.ended_by, light.undone) == (FaultState.UNDONE, EndedBy.HAND, 1)


def test_fault_is_undone_when_the_run_is_over() -> None:
    """What it was for is asked, and its end is the fault's."""
    over = threading.Event()
    timed = TimedFault(Light(), 600, over=over.is_set)
    timed.begin()
    over.set()
    assert ended(timed).ended_by is EndedBy.RUN


def test_fault_that_cannot_be_made_leaves_nothing() -> None:
    """Its error is passed on, what it may have half done is undone, and it may be tried again."""
    light = Light(dark=True)
    timed = TimedFault(light, 1)
    with pytest.raises(ConnectFailed, match="dark already"):
        timed.begin()
    assert (timed.status, light.undone) == (None, 1)


def test_undoing_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """What fails twice and then works is undone; what never works is FAILED, with the reason."""
    monkeypatch.setattr("eventbus.faults.timed.TRY_PAUSE_S", 0.01)
    lucky, lost = TimedFault(Light(stuck=2), 0.01), TimedFault(Light(stuck=9), 0.01)
    lucky.begin()
    lost.begin()
    assert ended(lucky).state is FaultState.UNDONE
    assert (ended(lost).state, ended(lost).error) == (FaultState.FAILED, "the switch is stuck")


@pytest.mark.parametrize("duration_s", [0.0, -1.0, 601.0, float("nan")])
def test_duration_is_bounded(duration_s: float) -> None:
    """More than none and at most ten minutes."""
    with pytest.raises(FaultError, match="duration"):
        TimedFault(Light(), duration_s)


@pytest.mark.parametrize(
    ("ending", "code"), [("", 0), ("raise SystemExit(3)", 3), ("os.kill(os.getpid(), signal.SIGKILL)", -9)]
)
def test_program_that_ends_leaves_nothing_frozen(ending: str, code: int) -> None:
    """By its end, an error or SIGKILL: the frozen server is gone soon after, and so is its directory."""
    script = f"""
        import os, signal
        from eventbus.embedded.nats import EmbeddedNats
        from eventbus.faults import TimedFault, nats_faults
        server = EmbeddedNats()
        server.start()
        freeze = nats_faults(server, ["x"])[0]
        TimedFault(freeze, 600).begin()
        print(server.pid, server.directory, flush=True)
        {ending}
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, cwd=ROOT, timeout=30
    )
    assert done.returncode == code, done.stderr
    pid, directory = done.stdout.split()

    def gone() -> bool:
        try:
            os.kill(int(pid), 0)
        except ProcessLookupError:
            return not Path(directory).exists()
        return False

    asyncio.run(eventually(gone, "server and directory go"))


# ---- what the embedded server does for this --------------------------------------------------------------------------


def test_refused_configuration_leaves_the_old_one(server: EmbeddedNats) -> None:
    """The server's reason is passed on, and a restart is with what was there before."""
    with pytest.raises(ConfigError, match="Parse error"):
        server.reload("permissions {")
    with pytest.raises(ConfigError, match="not supported for NoAuthUser"):
        server.reload(open_config().replace("anyone", "somebody"))
    server.restart()
    server.reload(open_config(["a"]) + "max_payload: 1000")
    server.restart()
    server.reload()
    assert server.extra_config == open_config()


async def test_configuration_is_taken_while_much_is_denied(server: EmbeddedNats) -> None:
    """What the server says of it is found among what it says of everything that it refuses."""
    async with admin(server.url) as client:

        async def flood() -> None:
            while True:
                for _ in range(200):
                    await client.publish("a", b"x")
                await asyncio.sleep(0)

        await client.subscribe("a")
        task = asyncio.create_task(flood())
        for _ in range(5):
            await asyncio.to_thread(server.reload, open_config(["a"]))
            await asyncio.to_thread(server.reload)
        task.cancel()
    assert "Publish Violation" in server.log_path.read_text(encoding="utf-8")


def test_paused_server_takes_no_configuration(server: EmbeddedNats) -> None:
    """It is given up after 2 s, and reads the old one when it runs again."""
    server.pause()
    with pytest.raises(ConnectFailed, match="no answer within"):
        server.reload(open_config(["a"]))
    server.resume()
    server.reload()


def test_killed_server_reads_the_configuration_at_its_start(server: EmbeddedNats) -> None:
    """A reload without a running server is no error."""
    server.kill()
    server.reload(open_config(["a"]))
    server.start()
    assert 'deny: ["a"]' in (server.directory / "nats-server.conf").read_text(encoding="utf-8")
