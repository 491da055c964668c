"""The real server broken on purpose: every outcome is true, nothing is stored twice, and the bus recovers by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from functools import partial

import nats
import pytest
from nats.js.api import DiscardPolicy, StreamConfig

import eventbus
from eventbus import (
    AckOutcome,
    ConnectFailed,
    ConnectionConfig,
    ConnectionState,
    DeliveryReport,
    ErrorKind,
    EventBus,
    InvalidMessage,
    Receipt,
    RetryPolicy,
    TopicConfig,
    WindowConfig,
)
from eventbus.embedded.nats import EmbeddedNats
from tests.nats_tools import (
    add_stream,
    assert_conserved,
    copies,
    delete_stream,
    eventually,
    kill,
    read_back,
    restart,
    restart_with,
    tasks_besides,
)

pytestmark = pytest.mark.integration

ACKED, REJECTED, UNKNOWN = AckOutcome.ACKED, AckOutcome.REJECTED, AckOutcome.UNKNOWN
QUICK_RETRY = RetryPolicy(max_attempts=3, base_delay_s=0.02, max_delay_s=0.1)
RECONNECT_SOON = ConnectionConfig(reconnect_delay_s=0.05)


@pytest.fixture
def server() -> Iterator[EmbeddedNats]:
    with EmbeddedNats() as running:
        yield running


def started(config: str) -> EmbeddedNats:
    return EmbeddedNats(extra_config=config)


def acked_at_least(bus: EventBus, wanted: int) -> bool:
    return bus.snapshot().acked >= wanted


async def reports_of(receipts: list[Receipt]) -> list[DeliveryReport]:
    return [await receipt for receipt in receipts]


async def publish_many(bus: EventBus, topic: str, number: int, **how: float) -> list[Receipt]:
    return [await bus.publish(topic, b"%d" % n, **how) for n in range(number)]  # type: ignore[arg-type]


async def check_against_stream(url: str, stream: str, reports: list[DeliveryReport]) -> None:
    """What was acked is there once, what was rejected is absent, what is unknown is there at most once."""
    there = copies(await read_back(url, stream))
    for report in reports:
        allowed = {ACKED: (1,), REJECTED: (0,), UNKNOWN: (0, 1)}[report.outcome]
        assert there[report.message_id] in allowed, report
    assert set(there) <= {report.message_id for report in reports}, "something is stored that was never attempted"


# ---- the server dies -----------------------------------------------------------------------------------------------


async def test_five_kills_in_a_run_of_60_000(server: EmbeddedNats) -> None:
    """SIGKILL and restart on the same store, five times: all is settled, acked is stored, nothing is stored twice."""
    total, kills = 60_000, 5
    receipts: list[Receipt] = []
    async with eventbus.connect(
        server.url, window=WindowConfig(max_pending=2_000), connection=RECONNECT_SOON, topics=[TopicConfig("run.>")]
    ) as bus:

        async def publish_all() -> None:
            for n in range(total):
                receipts.append(await bus.publish("run.record", b"record %d" % n))

        publishing = asyncio.create_task(publish_all())
        for number in range(1, kills + 1):
            wanted = number * total // (kills + 1)
            await eventually(partial(acked_at_least, bus, wanted), f"{wanted} acks", 30)
            assert not publishing.done()
            await kill(server)
            assert_conserved(bus.snapshot())
            await restart(server)
        async with asyncio.timeout(60):
            await publishing
            await bus.flush(30)
        snapshot = bus.snapshot()
        assert_conserved(snapshot)
        assert (snapshot.accepted, snapshot.pending) == (total, 0)
        reports = await reports_of(receipts)
        assert snapshot.acked == sum(report.outcome is ACKED for report in reports) > total * 0.99
        assert snapshot.errors["disconnected"] > 0
        await check_against_stream(server.url, "RUN", reports)


async def test_server_gone_for_good(server: EmbeddedNats) -> None:
    """Every publish ends within its lifetime, close within its timeout, and a second close tells the same."""
    policy = RetryPolicy(max_attempts=2, base_delay_s=0.05, max_delay_s=0.05)
    bus = await eventbus.connect(server.url, retry=policy, ack_timeout_s=0.3, connection=RECONNECT_SOON)
    assert (await (await bus.publish("gone.x"))).outcome is ACKED
    await asyncio.to_thread(server.pause)
    in_flight = await bus.publish("gone.x")
    await asyncio.sleep(0)  # one turn of the loop: it is written
    await kill(server)
    await eventually(lambda: bus.snapshot().connection is ConnectionState.RECONNECTING, "the loss is noticed")
    began = time.monotonic()
    never_sent = await bus.publish("gone.x")
    in_doubt, unsent = await in_flight, await never_sent
    assert time.monotonic() - began < 2 * 0.3 + 0.05 + 0.5  # attempts, their pause, and a busy machine
    assert in_doubt.outcome is UNKNOWN
    assert (unsent.outcome, unsent.attempts, unsent.error_kind) == (REJECTED, 0, ErrorKind.DISCONNECTED)

    await bus.publish("gone.x", ack_timeout_s=60)
    began = time.monotonic()
    first = await bus.close(timeout_s=2)
    second = await bus.close(timeout_s=2)
    assert time.monotonic() - began < 2.5
    assert first is second
    assert first.timed_out
    assert (first.left_unsent, first.left_unknown) == (1, 0)
    assert first.accepted == first.acked + first.rejected + first.unknown == 4


async def test_close_with_messages_in_flight_to_a_frozen_server(server: EmbeddedNats) -> None:
    """A close that cannot drain ends in time, also with much unread data on the way, and says how many are in doubt."""
    before = asyncio.all_tasks()
    window = WindowConfig(max_pending=2_000)
    bus = await eventbus.connect(server.url, window=window, topics=[TopicConfig("frozen.>")])
    await asyncio.to_thread(server.pause)
    receipts = [await bus.publish("frozen.x", bytes(8_000)) for _ in range(1_000)]
    began = time.monotonic()
    report = await bus.close(timeout_s=1)
    assert time.monotonic() - began < 1.5
    assert (report.timed_out, report.left_unknown, report.unknown) == (True, 1_000, 1_000)
    assert all(receipt.settled for receipt in receipts)
    assert tasks_besides(before) == []


async def test_frozen_server_comes_back(server: EmbeddedNats) -> None:
    """Acks that come after their deadline are counted as late or clear a retry; nothing is stored twice."""
    policy = RetryPolicy(max_attempts=2, base_delay_s=0.02, max_delay_s=0.02)
    late: list[DeliveryReport] = []

    def heard(report: DeliveryReport) -> None:
        if report.late:
            late.append(report)

    async with eventbus.connect(
        server.url, retry=policy, ack_timeout_s=0.2, topics=[TopicConfig("ice.>")], on_delivery=heard
    ) as bus:
        assert (await (await bus.publish("ice.x"))).outcome is ACKED
        await asyncio.to_thread(server.pause)
        gone = await publish_many(bus, "ice.x", 300)
        patient = await publish_many(bus, "ice.x", 300, ack_timeout_s=5.0)
        await eventually(lambda: bus.snapshot().unknown == 300, "the impatient time out")
        assert_conserved(bus.snapshot())
        retried = await publish_many(bus, "ice.x", 300, ack_timeout_s=0.4)
        await eventually(lambda: bus.snapshot().ack_timeouts >= 900, "the retried time out once")
        await asyncio.to_thread(server.resume)
        await bus.flush(10)
        await eventually(lambda: bus.snapshot().unknown == 0, "every late ack is heard")
        await eventually(lambda: len(late) >= 300, "and told")
        snapshot = bus.snapshot()
        assert_conserved(snapshot)
        assert snapshot.acked == 901
        assert snapshot.late_acks >= 300
        reports = await reports_of([*gone, *patient, *retried])
        assert {report.outcome for report in reports} == {ACKED}
        assert {report.attempts for report in await reports_of(patient)} == {1}
        assert all(report.late and report.attempts == 2 for report in await reports_of(gone))
        assert {n for n in copies(await read_back(server.url, "ICE")).values()} == {1}
    assert {report.message_id for report in late} >= {receipt.message_id for receipt in gone}


async def test_frozen_server_is_noticed_by_its_silence(server: EmbeddedNats) -> None:
    """Unanswered pings make a frozen connection a lost one; after the thaw everything is acked, once."""
    quick = ConnectionConfig(ping_interval_s=0.1, reconnect_delay_s=0.05, connect_timeout_s=1)
    async with eventbus.connect(server.url, connection=quick, topics=[TopicConfig("ice.>")]) as bus:
        await asyncio.to_thread(server.pause)
        receipt = await bus.publish("ice.x")
        await eventually(lambda: bus.snapshot().connection is ConnectionState.RECONNECTING, "the silence is noticed")
        await asyncio.to_thread(server.resume)
        reports = [await receipt, await (await bus.publish("ice.x"))]
        assert [report.outcome for report in reports] == [ACKED, ACKED]
        await check_against_stream(server.url, "ICE", reports)


async def test_smaller_max_payload_after_a_restart(server: EmbeddedNats) -> None:
    """A pending message that the server takes no more ends alone: its neighbours are acked, a fresh publish too."""
    policy = RetryPolicy(max_attempts=4, base_delay_s=0.02, max_delay_s=0.1)
    async with eventbus.connect(
        server.url, retry=policy, ack_timeout_s=2, connection=RECONNECT_SOON, topics=[TopicConfig("size.>")]
    ) as bus:
        assert (await (await bus.publish("size.x"))).outcome is ACKED
        await asyncio.to_thread(server.pause)
        big = await bus.publish("size.x", bytes(400_000))
        small = await publish_many(bus, "size.x", 50)
        await restart_with(server, "max_payload: 65536")
        assert (await big).outcome is not ACKED
        assert {report.outcome for report in await reports_of(small)} == {ACKED}
        fresh = await (await bus.publish("size.x"))
        assert fresh.outcome is ACKED
        with pytest.raises(InvalidMessage, match="65536"):
            await bus.publish("size.x", bytes(400_000))
        assert_conserved(bus.snapshot())


# ---- the stream is gone, full, or does not answer ------------------------------------------------------------------


async def test_stream_deleted_in_the_middle_of_a_run(server: EmbeddedNats) -> None:
    """A stream that may be created is created again: every publish is acked, by retry where it found nobody."""
    async with eventbus.connect(server.url, window=WindowConfig(max_pending=500), ack_timeout_s=1) as bus:
        before = await publish_many(bus, "orders.created", 2_000)
        await eventually(lambda: bus.snapshot().acked >= 500, "some are stored")
        deleting = asyncio.create_task(delete_stream(server.url, "ORDERS"))
        during = await publish_many(bus, "orders.created", 4_000)
        await deleting
        after = await publish_many(bus, "orders.created", 1_000)
        await bus.flush(20)
        assert {report.outcome for report in await reports_of([*before, *during, *after])} == {ACKED}
        assert bus.snapshot().errors["no_responders"] > 0
        there = copies(await read_back(server.url, "ORDERS"))
        assert set(there.values()) == {1}
        assert set(there) >= {receipt.message_id for receipt in after}
        assert_conserved(bus.snapshot())


async def test_stream_deleted_while_nothing_is_sent(server: EmbeddedNats) -> None:
    """The next publish finds nobody, has the stream made again, and is acked well before its ack timeout."""
    async with eventbus.connect(server.url) as bus:
        assert (await (await bus.publish("orders.created"))).outcome is ACKED
        await delete_stream(server.url, "ORDERS")
        began = time.monotonic()
        report = await (await bus.publish("orders.created", b"again"))
        assert time.monotonic() - began < 2
        assert (report.outcome, report.attempts) == (ACKED, 2)
        assert [message.payload for message in await read_back(server.url, "ORDERS")] == [b"again"]


async def test_many_subjects_of_a_deleted_stream(server: EmbeddedNats) -> None:
    """One look-up serves all subjects of a stream that is gone."""
    async with eventbus.connect(server.url, topics=[TopicConfig("many.>")]) as bus:
        assert (await (await bus.publish("many.first"))).outcome is ACKED
        await delete_stream(server.url, "MANY")
        receipts = [await bus.publish(f"many.{n}") for n in range(3_000)]
        await bus.flush(20)
        assert {report.outcome for report in await reports_of(receipts)} == {ACKED}


async def test_deleted_stream_that_may_not_be_created(server: EmbeddedNats) -> None:
    """REJECTED as no_stream, soon; once an administrator made it again, a fresh publish is acked."""
    await add_stream(server.url, StreamConfig(name="LEDGER", subjects=["ledger.>"]))
    topic = TopicConfig("ledger.>", stream="LEDGER", create=False)
    async with eventbus.connect(server.url, topics=[topic]) as bus:
        assert (await (await bus.publish("ledger.x"))).outcome is ACKED
        await delete_stream(server.url, "LEDGER")
        began = time.monotonic()
        receipts = await publish_many(bus, "ledger.x", 100)
        reports = await reports_of(receipts)
        assert time.monotonic() - began < 2
        assert {(report.outcome, report.error_kind) for report in reports} == {(REJECTED, ErrorKind.NO_STREAM)}
        await add_stream(server.url, StreamConfig(name="LEDGER", subjects=["ledger.>"]))
        assert (await (await bus.publish("ledger.x"))).outcome is ACKED
        assert len(await read_back(server.url, "LEDGER")) == 1


async def test_stream_replaced_by_one_of_another_name(server: EmbeddedNats) -> None:
    """The subject counts, not the name: the report names the stream that has the message."""
    async with eventbus.connect(server.url) as bus:
        assert (await (await bus.publish("orders.created"))).outcome is ACKED
        await delete_stream(server.url, "ORDERS")
        await add_stream(server.url, StreamConfig(name="SHOP", subjects=["orders.>"]))
        report = await (await bus.publish("orders.created"))
        assert report.position is not None
        assert str(report.position) == "SHOP@1"


async def test_full_stream_that_discards_new_messages(server: EmbeddedNats) -> None:
    """What fits is acked, the rest is REJECTED as stream_full after bounded retries, and absent."""
    full = StreamConfig(name="SMALL", subjects=["small.>"], max_msgs=10, discard=DiscardPolicy.NEW)
    await add_stream(server.url, full)
    policy = RetryPolicy(max_attempts=2, base_delay_s=0.05)
    async with eventbus.connect(server.url, retry=policy) as bus:
        receipts = await publish_many(bus, "small.x", 30)
        reports = await reports_of(receipts)
        assert [report.outcome for report in reports] == [ACKED] * 10 + [REJECTED] * 20
        assert {(report.error_kind, report.attempts) for report in reports[10:]} == {(ErrorKind.STREAM_FULL, 2)}
        await check_against_stream(server.url, "SMALL", reports)
        assert_conserved(bus.snapshot())


async def test_room_made_in_a_full_stream_during_the_retries(server: EmbeddedNats) -> None:
    """A full stream is no final answer: what finds room on a later attempt is acked."""
    full = StreamConfig(name="SMALL", subjects=["small.>"], max_msgs=1, discard=DiscardPolicy.NEW)
    await add_stream(server.url, full)
    async with eventbus.connect(server.url) as bus:
        assert (await (await bus.publish("small.x"))).outcome is ACKED
        receipt = await bus.publish("small.x", b"second")
        await eventually(lambda: bus.snapshot().errors.get("stream_full", 0) > 0, "it is refused once")
        client = await nats.connect(server.url)
        await client.jetstream().purge_stream("SMALL")
        await client.close()
        report = await receipt
        assert (report.outcome, report.attempts) == (ACKED, 2)
        assert [message.payload for message in await read_back(server.url, "SMALL")] == [b"second"]


async def test_message_larger_than_the_server_takes(server: EmbeddedNats) -> None:
    """InvalidMessage before anything is sent or accepted; neighbours on the same connection are unharmed."""
    async with eventbus.connect(server.url, topics=[TopicConfig("size.>")]) as bus:
        before = await publish_many(bus, "size.x", 100)
        with pytest.raises(InvalidMessage, match="1048576"):
            await bus.publish("size.x", bytes(1024 * 1024 + 1))
        with pytest.raises(InvalidMessage, match="with headers"):
            await bus.publish("size.x", bytes(1024 * 1024 - 200), headers={"Filler": "x" * 300})
        with pytest.raises(InvalidMessage):
            bus.publish_nowait("size." + "x" * 5_000)
        after = await publish_many(bus, "size.x", 100)
        assert {(r.outcome, r.attempts) for r in await reports_of([*before, *after])} == {(ACKED, 1)}
        largest = await (await bus.publish("size.x", bytes(1024 * 1024 - 100)))
        assert largest.outcome is ACKED
        assert bus.snapshot().accepted == 201


async def test_message_larger_than_the_stream_takes(server: EmbeddedNats) -> None:
    """REJECTED as too_large at the first attempt, and absent."""
    await add_stream(server.url, StreamConfig(name="SIZE", subjects=["size.>"], max_msg_size=1_000))
    async with eventbus.connect(server.url) as bus:
        receipts = [await bus.publish("size.x", bytes(n)) for n in (10, 2_000, 20)]
        reports = await reports_of(receipts)
        assert [report.outcome for report in reports] == [ACKED, REJECTED, ACKED]
        assert (reports[1].error_kind, reports[1].attempts) == (ErrorKind.TOO_LARGE, 1)
        await check_against_stream(server.url, "SIZE", reports)


async def test_stream_that_never_acks(server: EmbeddedNats) -> None:
    """UNKNOWN after its timeouts, because it may be stored; here it is, once in spite of the retry."""
    await add_stream(server.url, StreamConfig(name="MUTE", subjects=["mute.>"], no_ack=True))
    async with eventbus.connect(server.url, retry=QUICK_RETRY, ack_timeout_s=0.2) as bus:
        receipts = await publish_many(bus, "mute.x", 50)
        reports = await reports_of(receipts)
        assert {(r.outcome, r.error_kind, r.attempts) for r in reports} == {(UNKNOWN, ErrorKind.TIMEOUT, 3)}
        assert bus.snapshot().ack_timeouts == 150
        await check_against_stream(server.url, "MUTE", reports)
        assert len(await read_back(server.url, "MUTE")) == 50


# ---- the server refuses us -----------------------------------------------------------------------------------------

_PASSWORD = "pa55-of-the-test"


def user(permissions: str = "", password: str = _PASSWORD) -> str:
    """A server that knows one user, and an administrator without limits."""
    return f"""authorization {{ users = [
        {{ user: app, password: "{password}", permissions: {{ {permissions} }} }},
        {{ user: admin, password: "{password}" }}
    ] }}"""


def as_user(server: EmbeddedNats, name: str = "app", password: str = _PASSWORD) -> str:
    return f"nats://{name}:{password}@127.0.0.1:{server.port}"


async def test_denied_subject() -> None:
    """REJECTED as permission at once, not at the ack timeout; what the user may publish is unharmed."""
    with started(user('publish: { deny: ["secret.>"] }')) as server:
        topics = [TopicConfig("secret.>"), TopicConfig("open.>")]
        async with eventbus.connect(as_user(server), topics=topics, ack_timeout_s=30) as bus:
            began = time.monotonic()
            receipts = []
            for n in range(200):
                receipts.append(await bus.publish("open.x", b"%d" % n))
                if n % 20 == 0:
                    receipts.append(await bus.publish(f"secret.{n % 40}"))
            reports = await reports_of(receipts)
            assert time.monotonic() - began < 2
            for report in reports:
                if report.topic == "open.x":
                    assert report.outcome is ACKED
                else:
                    assert (report.outcome, report.error_kind) == (REJECTED, ErrorKind.PERMISSION), report
            assert await read_back(as_user(server, "admin"), "SECRET") == []
            assert len(await read_back(as_user(server, "admin"), "OPEN")) == 200
            assert bus.snapshot().connection is ConnectionState.CONNECTED


async def test_denied_inbox() -> None:
    """Without the right to hear acks there is no bus: connect says so, and does not wait for its timeout."""
    with started(user('subscribe: { deny: ["_INBOX.>"] }')) as server:
        before = asyncio.all_tasks()
        began = time.monotonic()
        with pytest.raises(ConnectFailed, match=r"may not subscribe .* no ack can ever arrive"):
            await eventbus.connect(as_user(server), connection=ConnectionConfig(connect_timeout_s=10))
        assert time.monotonic() - began < 2
        assert tasks_besides(before) == []


async def test_wrong_password(caplog: pytest.LogCaptureFixture) -> None:
    """ConnectFailed long before the connect timeout; the password is neither in its text nor in the log."""
    with started(user()) as server:
        before = asyncio.all_tasks()
        began = time.monotonic()
        with pytest.raises(ConnectFailed, match=r"(?i)credentials") as raised, caplog.at_level("DEBUG"):
            await eventbus.connect(
                as_user(server, password="wr0ng-pa55"), connection=ConnectionConfig(connect_timeout_s=10)
            )
        assert time.monotonic() - began < 2
        assert str(server.port) in str(raised.value)
        assert "wr0ng" not in str(raised.value) + caplog.text
        assert tasks_besides(before) == []


async def test_password_rotated_while_connected(caplog: pytest.LogCaptureFixture) -> None:
    """A server that refuses us now is a DENIED state and event, not silence; it is tried again until it takes us."""
    events: list[eventbus.BusEvent] = []

    class Listener:
        every_outcome = False

        def settled(self, reports: object) -> None: ...

        def happened(self, event: eventbus.BusEvent) -> None:
            events.append(event)

    with started(user()) as server, caplog.at_level("DEBUG"):
        async with eventbus.connect(
            as_user(server), connection=RECONNECT_SOON, observers=[Listener()], topics=[TopicConfig("key.>")]
        ) as bus:
            assert _PASSWORD not in bus.url + repr(bus)
            await restart_with(server, user(password="another"))
            await eventually(lambda: bus.snapshot().connection is ConnectionState.DENIED, "the refusal is told")
            held = await bus.publish("key.x")
            await restart_with(server, user())
            assert (await held).outcome is ACKED
            assert bus.snapshot().connection is ConnectionState.CONNECTED
    assert "denied" in {event.kind for event in events}
    assert not any(_PASSWORD in event.text for event in events)
    assert _PASSWORD not in caplog.text


async def test_user_without_the_right_to_ask_for_streams() -> None:
    """Rights to its own subject are enough for a producer whose stream exists: acked at the first attempt."""
    rights = 'publish: ["orders.>"], subscribe: ["_INBOX.>"]'
    with started(user(rights)) as server:
        await add_stream(as_user(server, "admin"), StreamConfig(name="ORDERS", subjects=["orders.>"]))
        async with eventbus.connect(as_user(server)) as bus:
            began = time.monotonic()
            report = await (await bus.publish("orders.x"))
            assert time.monotonic() - began < 3
            assert (report.outcome, report.attempts) == (ACKED, 1)
            assert str(report.position) == "ORDERS@1"


# ---- the server is not there ---------------------------------------------------------------------------------------


async def test_no_server_at_connect() -> None:
    """ConnectFailed within the connect timeout, with the address; nothing goes on in the background."""
    with EmbeddedNats() as server:
        url = server.url
    before = asyncio.all_tasks()
    began = time.monotonic()
    with pytest.raises(ConnectFailed, match=url):
        await eventbus.connect(url, connection=ConnectionConfig(connect_timeout_s=0.4))
    assert time.monotonic() - began < 1
    assert tasks_besides(before) == []


async def test_frozen_server_at_connect(server: EmbeddedNats) -> None:
    """A server that takes the connection and says nothing is given up in time as well."""
    await asyncio.to_thread(server.pause)
    before = asyncio.all_tasks()
    began = time.monotonic()
    with pytest.raises(ConnectFailed):
        await eventbus.connect(server.url, connection=ConnectionConfig(connect_timeout_s=0.4))
    assert time.monotonic() - began < 1.5
    assert tasks_besides(before) == []


async def test_server_that_appears_while_connecting(server: EmbeddedNats) -> None:
    """Connect keeps trying until its timeout."""
    await kill(server)
    connecting = asyncio.create_task(_connect(server.url))
    await eventually(lambda: len(asyncio.all_tasks()) > 2, "it tries")
    await restart(server)
    bus = await connecting
    assert (await (await bus.publish("here.x"))).outcome is ACKED
    await bus.close()


async def _connect(url: str) -> EventBus:
    return await eventbus.connect(url)
