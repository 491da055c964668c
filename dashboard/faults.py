"""FaultDesk: breaks the dashboard's own brokers on purpose, one fault at a time; and what was seen of each.

One desk is shared by all sessions of the dashboard, so its methods may be called from any thread. One fault at a time,
so that what is seen has one cause.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast
from urllib.parse import urlsplit

from dashboard import style
from dashboard.broker import KAFKA_URL, NATS_URL, OwnBroker
from dashboard.process import LoadRefused
from dashboard.rates import Interval, merge
from eventbus import BusEvent, EventBusError, EventKind
from eventbus.faults import (
    EndedBy,
    Fault,
    FaultState,
    FaultStatus,
    Network,
    TimedFault,
    kafka_faults,
    nats_faults,
    network_faults,
)
from eventbus.observe.run import AlertChange, RunInfo

MIN_S, MAX_S, DEFAULT_S = 2, 60, 10
KEPT = 200
"""Faults remembered, over all runs; the events of a run keep them for good."""
AFTERMATH_S = 30.0
"""How long after its end what is seen is still put down to a fault: reconnects, retries and late acks take time."""
_URLS = {"nats": NATS_URL, "kafka": KAFKA_URL}
_DEFAULT_LIMIT = 64


class _NoBroker:
    """In the place of a broker that is not there, so that people see what could be broken."""

    url = ""


@dataclass(frozen=True, slots=True)
class Offer:
    """A fault that can be made now, or why not. network: it needs a run that goes through the proxy."""

    fault: Fault
    network: bool = False
    why_not: str | None = None


@dataclass(frozen=True, slots=True)
class Made:
    """A fault that was made in a run."""

    run_id: str
    status: FaultStatus


@dataclass(frozen=True, slots=True)
class Seen:
    """What happened in a run from the second in which a fault began. silent_s: the longest without any ack."""

    whole: Interval | None = None
    silent_s: float = 0.0
    alerts: Sequence[AlertChange] = ()
    events: Sequence[BusEvent] = ()


def own(system: str | None) -> str | None:
    """The URL that asks for the embedded broker of that system."""
    return _URLS.get(system or "")


class FaultDesk:
    """brokers: of the dashboard, by the URL that asks for one. running: the id of the run that is sending now, or None.

    note: keeps a sentence among that run's events; may raise LoadRefused where the run is over.
    """

    def __init__(
        self,
        brokers: Mapping[str, OwnBroker],
        *,
        running: Callable[[], str | None],
        note: Callable[[EventKind, str], None] = lambda kind, text: None,
    ) -> None:
        self._brokers, self._running, self._note = brokers, running, note
        self._turn = threading.Lock()
        self._current: tuple[str, TimedFault] | None = None
        self._made: list[Made] = []
        self._closed = False

    def offers(self, run: RunInfo | None) -> list[Offer]:
        """What can be broken for that run, each with why it cannot be now."""
        system = None if run is None else run.settings.get("embedded")
        own_broker = self._brokers.get(own(system) or "")
        broker = None if own_broker is None else own_broker.broker
        why_not = self.why_not(run)
        target: Any = _NoBroker() if why_not or broker is None else broker
        if system == "kafka":
            return [Offer(fault, why_not=why_not) for fault in kafka_faults(target)]
        topics, limit = (_topics(run), _limit(run.settings)) if run is not None else ([], _DEFAULT_LIMIT)
        offers = [Offer(fault, why_not=why_not) for fault in nats_faults(target, topics, limit_bytes=limit)]
        network = None if own_broker is None else own_broker.network
        if why_not is None and (network is None or not _through(network, cast(RunInfo, run))):
            why_not = "This run reaches the server directly. Start one with **Breakable network** switched on."
        way = Network(0) if network is None else network
        return offers + [Offer(fault, network=True, why_not=why_not) for fault in network_faults(way)]

    def why_not(self, run: RunInfo | None) -> str | None:
        """Why nothing can be broken for this run; None where something can."""
        if run is None or run.run_id != self._running():
            return "This run is not sending. Start one on **Live**: only an embedded broker in use can be broken."
        url = own(run.settings.get("embedded"))
        if url is None:
            return (
                "This run uses a broker that the dashboard did not start. Only its own embedded ones are broken here."
            )
        if url not in self._brokers or self._brokers[url].broker is None:
            return "The embedded broker of this run was started elsewhere."
        return None

    def apply(self, run: RunInfo, name: str, duration_s: float) -> FaultStatus:
        """Make the fault of that name. Raises LoadRefused, with what to do."""
        if not MIN_S <= duration_s <= MAX_S:
            raise LoadRefused(f"A fault lasts {MIN_S} to {MAX_S} s, not {duration_s:g}.")
        with self._turn:
            if self._closed:
                raise LoadRefused("The dashboard is shutting down.")
            if self.active() is not None:
                raise LoadRefused("Something is broken already. Undo it first, so that what is seen has one cause.")
            offer = next((offer for offer in self.offers(run) if offer.fault.name == name), None)
            if offer is None or offer.why_not is not None:
                raise LoadRefused("There is no such fault." if offer is None else offer.why_not or "")
            timed = TimedFault(
                offer.fault,
                duration_s,
                over=lambda: self._running() != run.run_id,
                told=lambda status: self._ended(run.run_id, status),
            )
            try:
                status = timed.begin()
            except EventBusError as error:
                raise LoadRefused(f"{offer.fault.title}: {error}") from error
            self._current = (run.run_id, timed)
        self._tell(EventKind.FAULT_BEGAN, f"{status.title}: begun, for {duration_s:g} s")
        return status

    def undo(self) -> None:
        """End what is broken now, and wait until it is healed. Idempotent."""
        current = self._current
        if current is not None:
            current[1].undo()

    def active(self) -> Made | None:
        """What is broken now. Never waits."""
        current = self._current
        if current is None or (status := current[1].status) is None or status.state is not FaultState.ACTIVE:
            return None
        return Made(current[0], status)

    def made(self, run_id: str) -> list[FaultStatus]:
        """Every fault that was made in this run, newest first, the active one among them."""
        active = self.active()
        now = [active] if active is not None else []
        return [made.status for made in [*now, *reversed(self._made)] if made.run_id == run_id]

    def close(self) -> None:
        """Heal what is broken, and break nothing any more. Idempotent."""
        with self._turn:
            self._closed = True
        self.undo()

    def _ended(self, run_id: str, status: FaultStatus) -> None:
        self._made = [*self._made, Made(run_id, status)][-KEPT:]
        self._tell(EventKind.FAULT_ENDED, ending(status))

    def _tell(self, kind: EventKind, text: str) -> None:
        with contextlib.suppress(LoadRefused):  # the run is over, and keeps no events any more
            self._note(kind, text)


def ending(status: FaultStatus) -> str:
    """How a fault ended, in a sentence."""
    if status.state is FaultState.FAILED:
        return f"{status.title}: could not be undone: {status.error}"
    lasted_s = (status.ended_wall_s or status.began_wall_s) - status.began_wall_s
    return f"{status.title}: undone after {lasted_s:.1f} s, {status.ended_by or EndedBy.TIME}"


def seen(
    status: FaultStatus,
    run: RunInfo,
    intervals: Sequence[Interval],
    alerts: Sequence[AlertChange] = (),
    events: Sequence[BusEvent] = (),
) -> Seen:
    """What of a run falls into the time of a fault and AFTERMATH_S after it. ``intervals`` must reach back to it."""
    chosen, until_wall_s = _during(status, run, intervals), _until_wall_s(status)
    return Seen(
        merge(chosen) if chosen else None,
        _silent_s(chosen),
        [
            one
            for one in alerts
            if one.firing and one.previous != one.state and _within(one.wall_s, status, until_wall_s)
        ],
        [one for one in events if _within(one.wall_s, status, until_wall_s)],
    )


def in_short(status: FaultStatus, run: RunInfo, intervals: Sequence[Interval]) -> str:
    """What became of messages from the begin of a fault to AFTERMATH_S after its end, in a few words.

    ``intervals`` must reach back to it.
    """
    chosen = _during(status, run, intervals)
    if not chosen:
        return "nothing measured yet"
    told = [
        f"{style.count(number)} {word}"
        for word, number in (
            ("rejected", sum(one.rejected for one in chosen)),
            ("unknown", sum(one.unknown for one in chosen)),
            ("acked late", sum(one.late_acks for one in chosen)),
            ("duplicates", sum(one.duplicates for one in chosen)),
            ("tried again", sum(one.retries for one in chosen)),
        )
        if number
    ]
    silent_s = _silent_s(chosen)
    if silent_s >= 1:
        told.append(f"no ack for {style.duration(silent_s)}")
    return f"{style.count(sum(one.acked for one in chosen))} acked, {', '.join(told) or 'nothing else'}"


def _during(status: FaultStatus, run: RunInfo, intervals: Sequence[Interval]) -> list[Interval]:
    from_s = int(status.began_wall_s - run.started_wall_s)
    return [one for one in intervals if one.end_s > from_s and one.wall_s <= _until_wall_s(status)]


def _until_wall_s(status: FaultStatus) -> float:
    return float("inf") if status.ended_wall_s is None else status.ended_wall_s + AFTERMATH_S


def _silent_s(intervals: Sequence[Interval]) -> float:
    """The longest without any ack."""
    longest = silent = 0.0
    for one in intervals:
        silent = 0.0 if one.acked else silent + one.span_s
        longest = max(longest, silent)
    return longest


def _within(wall_s: float, status: FaultStatus, until_wall_s: float) -> bool:
    return status.began_wall_s - 0.5 <= wall_s <= until_wall_s  # two processes, two looks at the clock


def _through(network: Network, run: RunInfo) -> bool:
    return urlsplit(run.url).port == network.port


def _topics(run: RunInfo) -> list[str]:
    several = run.settings.get("topics") or ()
    return [topic["name"] for topic in several] or [run.topic]


def _limit(settings: Mapping[str, Any]) -> int:
    """A size that some of what the run sends is beyond: half of it where all is of one size."""
    least, most = settings.get("payload_size") or 0, settings.get("payload_size_max")
    if settings.get("replay") or settings.get("template"):
        return _DEFAULT_LIMIT
    return int(max(1, least // 2 if most is None else (least + most) // 2))
