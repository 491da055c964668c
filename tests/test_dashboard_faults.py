"""The Faults page, the desk that breaks the dashboard's own brokers, and the way to them through a proxy."""

from __future__ import annotations

import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from dashboard import faults, style
from dashboard.broker import KAFKA_URL, NATS_URL, OwnBroker, embedded_nats
from dashboard.control import LoadStatus, Phase
from dashboard.faults import AFTERMATH_S, FaultDesk, Made, Offer, ending, in_short, seen
from dashboard.process import LoadRefused
from dashboard.rates import Timeline
from dashboard.source import RunHistory
from eventbus import BusEvent, EventKind
from eventbus.embedded.kafka import EmbeddedKafka
from eventbus.faults import EndedBy, Fault, FaultState, FaultStatus
from eventbus.observe import AlertChange, RunInfo, RunStatus
from tests.dashboard_fakes import START_S, MemorySource, StubControl, run_info, sample, steady

pytest.importorskip("streamlit", reason="the dashboard's tests need: pip install -r requirements-dev.txt")

from streamlit.testing.v1 import AppTest

posix = pytest.mark.skipif(sys.platform == "win32", reason="embedded brokers need Linux or macOS")
OURS = {"ack_timeout_s": 5.0, "payload_size": 128, "replay": None, "embedded": "nats"}


def until(condition: Callable[[], bool], what: str) -> None:
    deadline, pause = time.monotonic() + 15, threading.Event()
    while not condition():
        assert time.monotonic() < deadline, f"waited 15 s in vain: {what}"
        pause.wait(0.01)


# ---- the way to the broker -----------------------------------------------------------------------------------------


def says(url: str) -> bytes:
    """The first word of the server there."""
    host, _, port = url.removeprefix("nats://").partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        return connection.recv(4)


@pytest.fixture
def nats() -> Iterator[OwnBroker]:
    own = OwnBroker(NATS_URL, embedded_nats)
    yield own
    own.close()


@posix
@pytest.mark.integration
def test_broker_is_reached_directly_unless_asked_otherwise(nats: OwnBroker) -> None:
    """The proxy is made when first asked for, its address stays, and it ends with the broker."""
    direct = nats.url()
    assert nats.network is None
    proxied = nats.url(through_network=True)
    assert proxied != direct
    assert nats.network is not None
    assert (nats.url(), nats.url(through_network=True)) == (direct, proxied)
    assert says(direct) == says(proxied) == b"INFO"
    nats.close()
    with pytest.raises(ConnectionRefusedError):
        says(proxied)


@posix
@pytest.mark.integration
def test_broker_that_died_gets_another_way_to_it(nats: OwnBroker) -> None:
    """A server that starts afresh has another port: a proxy that led to the old one is replaced."""
    nats.url(through_network=True)
    assert nats.broker is not None
    nats.broker.stop()
    assert says(nats.url(through_network=True)) == b"INFO"


@posix
@pytest.mark.integration
def test_mock_of_kafka_is_always_reached_directly() -> None:
    """Its brokers tell clients their own addresses, past any proxy."""
    own = OwnBroker(KAFKA_URL, EmbeddedKafka)
    try:
        assert own.url(through_network=True) == own.url()
        assert own.network is None
    finally:
        own.close()


# ---- the desk ------------------------------------------------------------------------------------------------------


@dataclass
class Load:
    """A run that goes on for as long as ``run_id`` says so, with its desk."""

    own: OwnBroker
    run_id: str | None = "run-1"
    notes: list[str] = field(default_factory=list)

    def desk(self) -> FaultDesk:
        return FaultDesk(
            {NATS_URL: self.own}, running=lambda: self.run_id, note=lambda kind, text: self.notes.append(text)
        )

    def run(self, **changes: Any) -> RunInfo:
        return run_info(**{"settings": OURS, "url": self.own.url()} | changes)


@pytest.fixture
def load(nats: OwnBroker) -> Load:
    nats.url()
    return Load(nats)


def why_not(desk: FaultDesk, run: RunInfo | None) -> dict[str, str | None]:
    return {offer.fault.name: offer.why_not for offer in desk.offers(run)}


@posix
@pytest.mark.integration
def test_desk_offers_what_can_be_broken(load: Load) -> None:
    """Of a run that goes directly: the server; of one through the proxy: the network as well."""
    desk = load.desk()
    direct = why_not(desk, load.run())
    assert [name for name, reason in direct.items() if reason is None] == [
        "freeze",
        "kill",
        "delete_stream",
        "fill_stream",
        "limit_size",
        "deny_subject",
    ]
    assert "directly" in (direct["blackhole"] or "")
    assert set(why_not(desk, load.run(url=load.own.url(through_network=True))).values()) == {None}


@posix
@pytest.mark.integration
@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"run_id": "run-0"}, "not sending"),
        ({"settings": {**OURS, "embedded": None}}, "did not start"),
        ({"settings": {**OURS, "embedded": "kafka"}}, "started elsewhere"),
    ],
)
def test_desk_says_why_nothing_can_be_broken(load: Load, changes: dict[str, Any], reason: str) -> None:
    """Everything is still shown, with the reason, and an attempt is refused with it."""
    desk, run = load.desk(), load.run(**changes)
    assert all(reason in (text or "") for text in why_not(desk, run).values())
    assert len(why_not(desk, run)) >= 7
    with pytest.raises(LoadRefused, match=reason):
        desk.apply(run, "freeze", 10)
    assert len(why_not(desk, None)) == 10


@posix
@pytest.mark.integration
def test_desk_breaks_one_thing_at_a_time_and_heals_it(load: Load) -> None:
    """It tells what is broken, refuses a second fault, undoes by hand, and keeps both ends among the run's events."""
    desk, run = load.desk(), load.run()
    status = desk.apply(run, "freeze", 10)
    assert desk.active() == Made("run-1", status)
    with pytest.raises(LoadRefused, match="Undo it first"):
        desk.apply(run, "kill", 10)
    desk.undo()
    desk.undo()
    assert desk.active() is None
    assert says(load.own.url()) == b"INFO"
    (made,) = desk.made("run-1")
    assert (made.state, made.ended_by) == (FaultState.UNDONE, EndedBy.HAND)
    assert desk.made("run-0") == []
    assert load.notes == ["Freeze the broker: begun, for 10 s", ending(made)]
    assert ending(made).endswith("s, by hand")


@posix
@pytest.mark.integration
def test_fault_ends_with_its_run(load: Load) -> None:
    """As soon as the run sends no more, what is broken is healed; closing the desk heals too, and it breaks no more."""
    desk, run = load.desk(), load.run()
    desk.apply(run, "kill", 60)
    assert load.own.broker is not None
    assert not load.own.broker.is_running()
    load.run_id = None
    until(lambda: desk.active() is None, "the fault ends")
    assert load.own.broker.is_running()
    assert desk.made("run-1")[0].ended_by is EndedBy.RUN
    load.run_id = "run-1"
    desk.apply(run, "kill", 60)
    desk.close()
    assert load.own.broker.is_running()
    with pytest.raises(LoadRefused, match="shutting down"):
        desk.apply(run, "freeze", 10)


@posix
@pytest.mark.integration
def test_desk_breaks_the_mock_of_kafka() -> None:
    """It has faults of its own, and no network to break."""
    own = OwnBroker(KAFKA_URL, EmbeddedKafka)
    try:
        run = run_info(settings={**OURS, "embedded": "kafka"}, url=own.url())
        desk = FaultDesk({KAFKA_URL: own}, running=lambda: "run-1")
        offers = desk.offers(run)
        assert {offer.why_not for offer in offers} == {None}
        assert not any(offer.network for offer in offers)
        port = int(own.url().rpartition(":")[2])
        desk.apply(run, "kafka_down", 60)
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", port)) != 0
        desk.undo()
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            assert desk.made("run-1")[0].state is FaultState.UNDONE
    finally:
        own.close()


@posix
@pytest.mark.integration
def test_fault_that_cannot_be_made_is_refused(load: Load) -> None:
    """With its own reason; a duration or a name that is not there as well. Nothing is broken then."""
    desk, run = load.desk(), load.run()
    with pytest.raises(LoadRefused, match=r"Fill the stream: no stream takes demo\.events yet"):
        desk.apply(run, "fill_stream", 10)
    for duration_s in (1, 61):
        with pytest.raises(LoadRefused, match="2 to 60 s"):
            desk.apply(run, "freeze", duration_s)
    with pytest.raises(LoadRefused, match="no such fault"):
        desk.apply(run, "earthquake", 10)
    assert desk.active() is None
    assert load.notes == []


# ---- what was seen -------------------------------------------------------------------------------------------------


def status_of(began_s: float = 4.0, ended_s: float | None = None, **changes: Any) -> FaultStatus:
    ended = None if ended_s is None else START_S + ended_s
    status = FaultStatus("freeze", "Freeze the broker", "No ack comes.", START_S + began_s, 10.0, ended_wall_s=ended)
    if ended is not None:
        status = replace(status, state=FaultState.UNDONE, ended_by=EndedBy.TIME)
    return replace(status, **changes)


def intervals(seconds: int, **counts: Any) -> Sequence[Any]:
    timeline = Timeline()
    timeline.extend([sample(quarter / 4, rate=20, **counts) for quarter in range(seconds * 4 + 1)])
    return timeline.intervals(None)


def test_what_was_seen_begins_with_the_fault() -> None:
    """Counts from its second on, the longest silence, and what happened within its time."""
    timeline = Timeline()
    frozen = {"acked": 4_000, "pending": 500}
    timeline.extend([sample(n / 4, **(frozen if n > 16 else {}), accepted=n * 250) for n in range(41)])
    events = [BusEvent(START_S + s, EventKind.DISCONNECTED, f"at {s}") for s in (1, 5)]
    alerts = [AlertChange(START_S + s, "pending", True, 9, 5, state="firing") for s in (2, 6)]
    found = seen(status_of(), run_info(), timeline.intervals(None), alerts, events)
    assert found.whole is not None
    assert (found.whole.accepted, found.whole.acked, found.whole.pending_max) == (6_000, 0, 500)
    assert found.silent_s == 6.0
    assert [event.text for event in found.events] == ["at 5"]
    assert [alert.wall_s - START_S for alert in found.alerts] == [6]


def test_what_was_seen_ends_soon_after_the_fault() -> None:
    """What happens long after it has other causes."""
    found = seen(status_of(2.0, 4.0), run_info(), intervals(60))
    assert found.whole is not None
    assert found.whole.end_s <= 4.0 + AFTERMATH_S
    assert seen(status_of(2.0), run_info(), []).whole is None


def test_what_was_seen_in_short() -> None:
    """Only what there was, with the longest time without acks; nothing is made up before anything was measured."""
    timeline = Timeline()
    timeline.extend(
        [
            sample(n / 4, accepted=n * 250, **({"acked": 4_000, "rejected": n - 16, "retries": 9} if n > 16 else {}))
            for n in range(41)
        ]
    )
    told = in_short(status_of(), run_info(), timeline.intervals(None)).replace("\N{NARROW NO-BREAK SPACE}", " ")
    assert told == "0 acked, 24 rejected, 9 tried again, no ack for 6.00 s"
    assert in_short(status_of(), run_info(), []) == "nothing measured yet"


@pytest.mark.parametrize(
    ("settings", "limit"),
    [
        ({"payload_size": 128}, 64),
        ({"payload_size": 100, "payload_size_max": 300}, 200),
        ({"payload_size": 0}, 1),
        ({"payload_size": 128, "replay": "x.jsonl"}, 64),
    ],
)
def test_limit_of_size_lies_within_what_is_sent(settings: dict[str, Any], limit: int) -> None:
    """Else "oversize messages" would find none, or all where some could be spared."""
    assert faults._limit(settings) == limit


# ---- the page ------------------------------------------------------------------------------------------------------


class Quake(Fault):
    name, title, breaks, expect = "quake", "Shake *all*", "It shakes.", "Things fall."

    def apply(self) -> None:
        """Not called: the desk is a stub."""

    def undo(self) -> None:
        """Not called either."""


class StubDesk:
    """A desk that notes what it was asked for."""

    def __init__(self, *, reason: str | None = None, made: Sequence[FaultStatus] = (), refusal: str = "") -> None:
        self.reason, self.told, self.refusal = reason, list(made), refusal
        self.applied: list[tuple[str, str, float]] = []
        self.undone = 0

    def offers(self, run: RunInfo | None) -> list[Offer]:
        network = "Start one with the network."
        return [Offer(Quake(), why_not=self.reason), Offer(Wave(), network=True, why_not=self.reason or network)]

    def why_not(self, run: RunInfo | None) -> str | None:
        return self.reason

    def apply(self, run: RunInfo, name: str, duration_s: float) -> FaultStatus:
        if self.refusal:
            raise LoadRefused(self.refusal)
        self.applied.append((run.run_id, name, duration_s))
        self.told.insert(0, status_of(began_s=time.time() - START_S))
        return self.told[0]

    def undo(self) -> None:
        self.undone += 1

    def active(self) -> Made | None:
        lasting = [status for status in self.told if status.state is FaultState.ACTIVE]
        return Made("run-1", lasting[0]) if lasting else None

    def made(self, run_id: str) -> list[FaultStatus]:
        return self.told


class Wave(Quake):
    name = "wave"


def app(source, history, control, desk, by):  # its source is copied: no name of this file is known there
    from dashboard.views import faults

    faults.page(source, history, control, desk, by)


def shown(source: MemorySource, desk: StubDesk, status: LoadStatus | None = None, by: str = "") -> AppTest:
    control = StubControl(status or LoadStatus(Phase.RUNNING, "run-1", 1000.0))
    at = AppTest.from_function(app, args=(source, RunHistory(source), control, desk, by), default_timeout=30).run()
    assert not at.exception
    return at


def running(**more: Any) -> MemorySource:
    return MemorySource(run_info(settings=OURS), steady(10), **more)


def text_of(at: AppTest) -> str:
    return " ".join(one.value for one in at.markdown).replace("\\", "")


def test_page_offers_faults_of_the_run() -> None:
    """Each with what it breaks and what to expect; what cannot be done now says why; a press applies it."""
    desk = StubDesk()
    at = shown(running(), desk)
    assert "Nothing is broken" in at.success[0].value
    said = text_of(at)
    assert "Shake *all*" in said
    assert "**Expect:** Things fall." in said
    assert "nothing yet" in said
    assert said.count("**Seen:** not made in this run.") == 2
    assert ":material/lock: Start one with the network." in said
    assert at.button(key="apply_wave").disabled
    assert at.button(key="apply_wave").help == "Start one with the network."
    assert at.button(key="fault_undo").disabled
    at.slider(key="fault_duration").set_value(20).run()
    at.button(key="apply_quake").click().run()
    assert not at.exception
    assert desk.applied == [("run-1", "quake", 20.0)]
    assert "undone by itself in 10 s" in at.error[0].value
    assert at.button(key="apply_quake").disabled
    at.button(key="fault_undo").click().run()
    assert desk.undone == 1


def test_page_shows_what_was_seen() -> None:
    """Outcomes since the fault began, alerts and events, and the history of the run."""
    source = running(
        events=[BusEvent(START_S + 5, EventKind.DISCONNECTED, "connection lost; reconnecting")],
        alerts=[AlertChange(START_S + 6, "pending", True, 9, 5, text="Too *many* wait", state="firing")],
    )
    at = shown(
        source,
        StubDesk(
            made=[
                status_of(4.0, 7.0, name="quake"),
                status_of(1.0, 2.0, name="quake", state=FaultState.FAILED, error="stuck"),
            ]
        ),
    )
    figures = {one.label: one.value for one in at.metric}
    assert (figures["Accepted"], figures["Acked"], figures["Rejected"]) == ("6,000", "6,000", "0")
    notes = {one.label: one.delta for one in at.metric}
    assert notes["Acked"] == "0 duplicates, 0 late"
    said = text_of(at)
    assert f"**Seen:** {style.clock(START_S + 4.0)}, 6,000 acked, nothing else." in said
    assert "undone after 3.0 s, time over" in said
    assert "connection lost" in said
    assert "Too *many* wait" in said
    ends = list(at.dataframe[0].value["How it ended"])
    assert ends == ["✓ time over", "✗ could not be undone: stuck"]
    assert list(at.dataframe[0].value["Lasted (s)"]) == ["3.0", "1.0"]


def test_page_without_runs() -> None:
    """It says what to do, still shows what there is to break, and lets nobody break it."""
    at = shown(MemorySource(), StubDesk(reason="Start a run first."), LoadStatus())
    assert any("Start" in one.value for one in at.info)
    assert at.button(key="apply_quake").disabled
    assert at.button(key="apply_quake").help == "Start a run first."
    assert {one.value for one in at.metric} == {style.NOTHING}
    assert not any(sign.isdigit() for one in at.metric for sign in one.delta)


def test_page_of_an_interrupted_run() -> None:
    """What was made in it is still told; nothing can be broken."""
    source = MemorySource(run_info(RunStatus.INTERRUPTED, settings=OURS), steady(10))
    at = shown(source, StubDesk(reason="This run is not sending.", made=[status_of(4.0, 7.0)]), LoadStatus())
    assert "not sending" in at.info[0].value
    assert at.button(key="apply_quake").disabled
    assert len(at.dataframe[0].value) == 1


def test_page_with_a_store_that_cannot_be_read() -> None:
    """The trouble is told without a traceback, and what is broken can still be healed."""
    desk = StubDesk(made=[status_of(began_s=time.time() - START_S)])
    at = shown(MemorySource(trouble="the file is locked"), desk)
    assert any("the file is locked" in one.value.replace("\\", "") for one in at.error)
    at.button(key="fault_undo").click().run()
    assert desk.undone == 1


def test_refusal_is_told() -> None:
    """Another session was faster, or the broker did not obey: a toast says so."""
    at = shown(running(), StubDesk(refusal="Something is broken already."))
    at.button(key="apply_quake").click().run()
    assert not at.exception
    assert "Something is broken already" in at.toast[0].value.replace("\\", "")


def test_controls_held_by_another_browser() -> None:
    """Who does not hold the controls of the run breaks nothing, is told who does, and can still heal."""
    held = LoadStatus(Phase.RUNNING, "run-1", 1000.0, by="other", by_name="Firefox")
    at = shown(running(), StubDesk(), held, by="me")
    assert "Firefox" in at.info[0].value
    assert at.button(key="apply_quake").disabled
    assert not shown(running(), StubDesk(), held, by="other").button(key="apply_quake").disabled
