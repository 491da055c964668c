"""Every answer of the reply table that a nats-server can be made to give, asked of a real one and read by a real bus.

| code | how it is provoked, or why only recorded bytes are read (in test_replies.py) |
|---|---|
| ack, duplicate | published, and published again with the same id |
| 503 | nobody takes the subject |
| 10002 | an account with a small max_file |
| 10023 | a server with a small max_file |
| 10039 | an account without JetStream, when its topic is prepared; a publish there gets 503 |
| 10054 10060 10070 10071 10077 10097 10109 10111 | one publish each, `ONE_PUBLISH` |
| 10063 | recorded: a replica out of step with its group, which no request brings about |
| 10076 | recorded: a server without JetStream answers nothing but 503 |
| 10077 "store is closed" | recorded: a publish in the instant in which its stream is stopped |
| 10120 | recorded: needs an account with tiers, which takes an operator and signed claims |
| 10158 10164 | two publishes at once to three replicas, in test_nats_cluster.py |
| 10163 | recorded: nats-server 2.15 has the code and no longer sends it |
| 10165 10166 10168-10171 10188-10193 10203 10212 10223 10227 | one publish each, `ONE_PUBLISH` |
| 10167 | a burst to a server that buffers one message |
| 10172 | a counter whose sources a publisher has spoilt by a header |
| 10174-10177 10179 10185 10199-10201 | messages of a batch, by headers, `ATOMIC` |
| 10205-10208 10211 | messages of a batch, by reply subjects, `FAST`; not by a bus: it has reply subjects of its own |
| 10210 | more batches than the server keeps open |
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any, NamedTuple

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

import eventbus
from eventbus import AckOutcome, DeliveryReport, ErrorClass, ErrorKind, EventBus, RetryPolicy, TopicConfig, TopicError
from eventbus.embedded.nats import EmbeddedNats
from eventbus.ports import Failure
from eventbus.publishers.nats.replies import BY_CODE, read_reply
from tests.nats_tools import admin

pytestmark = pytest.mark.integration

TRANSIENT, AMBIGUOUS, FATAL = ErrorClass.TRANSIENT, ErrorClass.AMBIGUOUS, ErrorClass.FATAL
ONCE = RetryPolicy(max_attempts=1)
SERVER = """
jetstream { limits { batch { max_inflight_per_stream: 2 } } }
max_payload: 40MB
"""
"""A payload that only a stream refuses, and few open batches."""
LATER = "@at 2099-01-01T00:00:00Z"


class Case(NamedTuple):
    """One publish that is refused. headers and payload: of it; stream: its stream's settings; first: stored before."""

    code: int
    headers: dict[str, str] = {}  # noqa: RUF012  # never written to
    payload: bytes = b"x"
    stream: dict[str, Any] = {}  # noqa: RUF012  # the same
    first: int = 0
    words: str = ""
    row: tuple[ErrorClass, ErrorKind] | None = None


SCHEDULES = {"allow_msg_schedules": True}
COUNTER = {"allow_msg_counter": True}
FULL = (TRANSIENT, ErrorKind.STREAM_FULL)
ONE_PUBLISH = [
    Case(10054, payload=b"x" * 200, stream={"max_msg_size": 100}),
    Case(10060, {"Nats-Expected-Stream": "ANOTHER"}),
    Case(10070, {"Nats-Expected-Last-Msg-Id": "none"}),
    Case(10071, {"Nats-Expected-Last-Sequence": "7"}, first=1, words="wrong last sequence: 1"),
    Case(10071, {"Nats-Expected-Last-Subject-Sequence": "7"}, words="wrong last sequence: 0"),
    Case(10077, stream={"max_msgs": 1, "discard": "new"}, first=1, words="maximum messages exceeded", row=FULL),
    Case(
        10077,
        payload=bytes(500),
        stream={"max_bytes": 600, "discard": "new"},
        first=1,
        words="maximum bytes exceeded",
        row=FULL,
    ),
    Case(
        10077,
        stream={"max_msgs_per_subject": 1, "discard": "new", "discard_new_per_subject": True},
        first=1,
        words="maximum messages per subject exceeded",
        row=FULL,
    ),
    Case(10077, payload=bytes(33 * 1024 * 1024), words="message too large", row=(FATAL, ErrorKind.TOO_LARGE)),
    Case(10097, {"Long": "x" * 70_000}),
    Case(10109, stream={"sealed": True}),
    Case(10111, {"Nats-Rollup": "sub"}, words="rollup not permitted"),
    Case(10111, {"Nats-Rollup": "everything"}, stream={"allow_rollup_hdrs": True}, words="rollup value invalid"),
    Case(10165, {"Nats-TTL": "soon"}, stream={"allow_msg_ttl": True}),
    Case(10165, {"Nats-TTL": "10ms"}, stream={"allow_msg_ttl": True}),
    Case(10166, {"Nats-TTL": "10s"}),
    Case(10168, {"Nats-Incr": "+1"}, b""),
    Case(10169, stream=COUNTER),
    Case(10170, {"Nats-Incr": "+1"}, stream=COUNTER),
    Case(10171, {"Nats-Incr": "one"}, b"", stream=COUNTER),
    Case(10188, {"Nats-Schedule": LATER}),
    Case(10189, {"Nats-Schedule": "@sometimes"}, stream=SCHEDULES),
    Case(10190, {"Nats-Schedule": LATER}, stream=SCHEDULES),
    Case(10191, {"Nats-Schedule": LATER, "Nats-Schedule-TTL": "soon"}, stream=SCHEDULES),
    Case(10192, {"Nats-Schedule": LATER, "Nats-Schedule-Rollup": "everything"}, stream=SCHEDULES),
    Case(10193, {"Nats-Expected-Last-Subject-Sequence-Subject": "a.b"}),
    Case(
        10203,
        {"Nats-Schedule": LATER, "Nats-Schedule-Target": "{stream}.to", "Nats-Schedule-Source": "{stream}.*"},
        stream=SCHEDULES,
    ),
    Case(10212, {"Nats-Schedule-Next": "tomorrow"}, stream=SCHEDULES),
    Case(10212, {"Nats-Scheduler": "a.b"}, stream=SCHEDULES),
    Case(10223, {"Nats-Schedule": LATER, "Nats-Schedule-Time-Zone": "Nowhere"}, stream=SCHEDULES),
    Case(10227, {"Nats-Stream-Source": "ANOTHER 1"}),
]


def batch(sequence: str | None, name: str = "b", **more: str) -> dict[str, str]:
    headers = {"Nats-Batch-Id": name} | ({} if sequence is None else {"Nats-Batch-Sequence": sequence})
    return headers | {key.replace("_", "-"): value for key, value in more.items()}


BATCHES = {"allow_atomic": True}
ATOMIC = [
    Case(10174, batch("1")),
    Case(10175, batch(None), stream=BATCHES),
    Case(10176, batch("2"), stream=BATCHES),
    Case(10177, batch("1", Nats_Expected_Last_Msg_Id="x", Nats_Batch_Commit="1"), stream=BATCHES),
    Case(10179, batch("1", "b" * 65), stream=BATCHES),
    Case(10185, batch("1", Nats_Required_Api_Level="9999"), stream=BATCHES),
    Case(10199, batch("1001"), stream=BATCHES),
    Case(10200, batch("1", Nats_Batch_Commit="perhaps"), stream=BATCHES),
]


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedNats]:
    """One for all that needs nothing but a stream of its own."""
    with EmbeddedNats(extra_config=SERVER) as running:
        yield running


@pytest.fixture
async def client(server: EmbeddedNats) -> AsyncIterator[Client]:
    async with admin(server.url) as connected:
        yield connected


async def make(client: Client, stream: str, **settings: Any) -> None:
    """A stream for ``stream.*``, also with settings that nats-py does not know."""
    config = {"name": stream, "subjects": [f"{stream}.*"], "storage": "file", "num_replicas": 1, **settings}
    for verb in ("CREATE", "UPDATE") if config.pop("sealed", False) else ("CREATE",):
        if verb == "UPDATE":
            config["sealed"] = True
        answer = json.loads((await client.request(f"$JS.API.STREAM.{verb}.{stream}", json.dumps(config).encode())).data)
        assert "error" not in answer, answer["error"]


async def publish(
    bus: EventBus, topic: str, payload: bytes = b"x", headers: dict[str, str] | None = None
) -> DeliveryReport:
    return await (await bus.publish(topic, payload, headers=headers))


async def raw(client: Client, subject: str, reply: str, number: int = 1, wanted: int = 1) -> list[Msg]:
    """The answers to a message whose reply subject says what the message is."""
    answers: list[Msg] = []
    complete = asyncio.Event()

    async def take(message: Msg) -> None:
        answers.append(message)
        if len(answers) == wanted:
            complete.set()

    inbox = client.new_inbox()
    subscription = await client.subscribe(f"{inbox}.>", cb=take)
    for n in range(number):
        await client.publish(subject, b"x", reply=f"{inbox}.{reply.format(n=n)}")
    async with asyncio.timeout(10):
        await complete.wait()
    await subscription.unsubscribe()
    return answers


def assert_refused(report: DeliveryReport, case: Case) -> None:
    error_class, kind = case.row or BY_CODE[case.code][:2]
    assert report.error_text is not None
    assert report.error_text.endswith(f"({case.code})"), report
    assert case.words in report.error_text
    assert (report.error_class, report.error_kind) == (error_class, kind)
    assert report.outcome is AckOutcome.REJECTED
    assert report.position is None


def named(case: Case) -> str:
    return f"{case.code}-{case.words.replace(' ', '_')}".strip("-")


@pytest.mark.parametrize("case", [*ONE_PUBLISH, *ATOMIC], ids=named)
async def test_refused_publish(
    server: EmbeddedNats, client: Client, case: Case, request: pytest.FixtureRequest
) -> None:
    """REJECTED as the table says, nothing stored, and the next message without what was wrong is not harmed."""
    stream = "S" + "".join(filter(str.isalnum, request.node.callspec.id))
    await make(client, stream, **case.stream)
    async with eventbus.connect(server.url, retry=ONCE) as bus:
        for n in range(case.first):
            assert (await publish(bus, f"{stream}.x", b"%080d" % n)).outcome is AckOutcome.ACKED
        headers = {name: value.format(stream=stream) for name, value in case.headers.items()}
        assert_refused(await publish(bus, f"{stream}.x", case.payload, headers), case)
    assert (await client.jetstream().stream_info(stream)).state.messages == case.first


async def test_ack_and_duplicate(server: EmbeddedNats, client: Client) -> None:
    """The second publish of an id is ACKED as a duplicate, at the place of the first."""
    await make(client, "TWICE")
    async with eventbus.connect(server.url, retry=ONCE) as bus:
        first = await (await bus.publish("TWICE.x", message_id="one"))
        second = await (await bus.publish("TWICE.x", message_id="one"))
    assert (first.outcome, first.duplicate) == (AckOutcome.ACKED, False)
    assert (second.outcome, second.duplicate) == (AckOutcome.ACKED, True)
    assert first.position == second.position == eventbus.Position("TWICE", 1)


async def test_expectation_of_a_message_that_is_stored_already(server: EmbeddedNats, client: Client) -> None:
    """Without replicas the server looks at the expectation before the id: a second copy is refused, not a duplicate.

    That is why a refusal after a doubtful attempt cannot make a message REJECTED.
    """
    async with eventbus.connect(server.url, retry=ONCE) as bus:
        for expects in ("Nats-Expected-Last-Sequence", "Nats-Expected-Last-Subject-Sequence"):
            subject, empty = f"{expects.upper()}.x", {expects: "0"}
            await make(client, expects.upper())
            first = await (await bus.publish(subject, headers=empty, message_id="one"))
            assert first.outcome is AckOutcome.ACKED
            assert_refused(await (await bus.publish(subject, headers=empty, message_id="one")), Case(10071))


async def test_nobody_takes_the_subject(server: EmbeddedNats, client: Client) -> None:
    """Status 503, certainly not stored."""
    await make(client, "GONE")
    async with eventbus.connect(server.url, retry=ONCE, topics=[TopicConfig("GONE.*", create=False)]) as bus:
        assert (await publish(bus, "GONE.x")).outcome is AckOutcome.ACKED
        await client.jetstream().delete_stream("GONE")
        report = await publish(bus, "GONE.x")
    assert report.outcome is AckOutcome.REJECTED
    assert report.error_kind in (ErrorKind.NO_RESPONDERS, ErrorKind.NO_STREAM)
    assert bus.snapshot().errors[ErrorKind.NO_RESPONDERS] == 1


async def test_duplicate_within_a_batch(server: EmbeddedNats, client: Client) -> None:
    """10201 for the message that completes it. The one before is answered with nothing, which is no ack: UNKNOWN."""
    await make(client, "BATCH", **BATCHES)
    async with eventbus.connect(server.url, retry=ONCE) as bus:
        first = await (await bus.publish("BATCH.x", headers=batch("1"), message_id="one"))
        last = await (await bus.publish("BATCH.x", headers=batch("2", Nats_Batch_Commit="1"), message_id="one"))
    assert (first.outcome, first.error_kind) == (AckOutcome.UNKNOWN, ErrorKind.PROTOCOL)
    assert_refused(last, Case(10201))


async def test_spoilt_counter(server: EmbeddedNats, client: Client) -> None:
    """10172 for every increment after one that brought sources which cannot be read."""
    await make(client, "COUNTER", **COUNTER)
    async with eventbus.connect(server.url, retry=ONCE) as bus:
        spoiling = {"Nats-Incr": "+1", "Nats-Counter-Sources": "no JSON"}
        assert (await publish(bus, "COUNTER.x", b"", spoiling)).outcome is AckOutcome.ACKED
        assert_refused(await publish(bus, "COUNTER.x", b"", {"Nats-Incr": "+1"}), Case(10172))


async def test_more_batches_than_allowed(server: EmbeddedNats, client: Client) -> None:
    """The first that is too many gets 10210, which is TRANSIENT."""
    await make(client, "OPEN", **BATCHES)
    async with eventbus.connect(server.url, retry=ONCE) as bus:
        for n in range(2):
            assert (await publish(bus, "OPEN.x", headers=batch("1", f"{n}"))).outcome is AckOutcome.UNKNOWN
        assert_refused(await publish(bus, "OPEN.x", headers=batch("1", "too many")), Case(10210))


FAST = [
    # <id>.<flow>.<gap mode>.<sequence>.<operation: 0 opens, 1 appends>.$FI
    (10205, "b.10.fail.1.0.$FI", {}, 1),
    (10206, "b.10.never.1.0.$FI", {"allow_batched": True}, 1),
    (10207, "b" * 65 + ".10.fail.1.0.$FI", {"allow_batched": True}, 1),
    (10208, "b.10.fail.2.1.$FI", {"allow_batched": True}, 1),
    (10211, "{n}.10.fail.1.0.$FI", {"allow_batched": True}, 3),
]


@pytest.mark.parametrize(("code", "reply", "settings", "number"), FAST, ids=[str(row[0]) for row in FAST])
async def test_refused_in_a_fast_batch(
    client: Client, code: int, reply: str, settings: dict[str, Any], number: int
) -> None:
    """The table reads the answer to a message whose reply subject makes it part of a batch."""
    await make(client, f"FAST{code}", **settings)
    answers = await raw(client, f"FAST{code}.x", reply, number, number)
    read = read_reply(9, b"", answers[-1].data)
    assert isinstance(read, Failure)
    assert read.text.endswith(f"({code})")
    assert (read.error_class, read.kind) == BY_CODE[code][:2]


async def test_account_is_full() -> None:
    """10002: FATAL, of a kind worth an alert."""
    config = "accounts { A { jetstream { max_file: 4096 }, users: [{ user: a, password: a }] } }"
    with EmbeddedNats(extra_config=config) as server:
        url = server.url.replace("//", "//a:a@")
        async with eventbus.connect(url, retry=ONCE, topics=[TopicConfig("full.*")]) as bus:
            assert (await publish(bus, "full.x", bytes(3000))).outcome is AckOutcome.ACKED
            assert_refused(await publish(bus, "full.x", bytes(3000)), Case(10002))


async def test_server_is_full() -> None:
    """10023: TRANSIENT, it may get room."""
    with EmbeddedNats(extra_config="jetstream { max_file_store: 4096 }") as server:
        async with eventbus.connect(server.url, retry=ONCE, topics=[TopicConfig("full.*")]) as bus:
            assert (await publish(bus, "full.x", bytes(5000))).outcome is AckOutcome.ACKED
            assert_refused(await publish(bus, "full.x"), Case(10023))


async def test_account_without_jetstream() -> None:
    """10039 when its topic is prepared, so that nobody waits for acks that cannot come."""
    config = """accounts {
        A { jetstream: enabled, users: [{ user: a, password: a }] }
        B { users: [{ user: b, password: b }] }
    }"""
    with EmbeddedNats(extra_config=config) as server, pytest.raises(TopicError, match="10039") as caught:
        await eventbus.connect(server.url.replace("//", "//b:b@"), retry=ONCE, topics=[TopicConfig("x.*")])
    assert (caught.value.error_class, caught.value.kind) == BY_CODE[10039][:2]


async def test_burst_that_the_server_does_not_buffer() -> None:
    """10167, which comes with status 429 and a body: what was refused is absent, and what was acked is there."""
    number = 2_000
    with EmbeddedNats(extra_config="jetstream { max_buffered_msgs: 1 }") as server:
        async with eventbus.connect(server.url, retry=ONCE, topics=[TopicConfig("burst.*")]) as bus:
            receipts = [bus.publish_nowait("burst.x", bytes(100)) for _ in range(number)]
            reports = [await receipt for receipt in receipts]
        refused = [report for report in reports if report.outcome is not AckOutcome.ACKED]
        assert 0 < len(refused) < number
        for report in refused:
            assert_refused(report, Case(10167))
        async with admin(server.url) as client:
            assert (await client.jetstream().stream_info("BURST")).state.messages == number - len(refused)
