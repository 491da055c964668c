"""LoadControl: starts a worker process per run and sends it commands. It never touches a bus.

One control is shared by all sessions of the dashboard, so its methods may be called from any thread.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from dashboard.broker import SYSTEMS, Broker, BrokerStatus, OwnBroker
from dashboard.faults import FaultDesk
from dashboard.process import KILL_TIMEOUT_S, LoadRefused, WorkerProcess
from eventbus import EventKind
from eventbus.alerts import AlertNow, SinkStatus
from eventbus.telemetry.status import ExportStatus

START_TIMEOUT_S = 20.0
"""Longest wait for a worker to say that its run has begun, connecting and creating a stream included."""
CLOSE_TIMEOUT_S = 10.0
"""Longest wait for a worker to drain and end when the dashboard ends; after it SIGTERM, then SIGKILL."""


class Phase(StrEnum):
    """What the control is doing."""

    IDLE = "idle"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """What a run should do.

    url: a broker's, or ``embedded+nats://`` or ``embedded+kafka://`` for one that the dashboard brings along.
    rate: messages per second; None where the plan has no rate: a shape, workers, as fast as the window lets.
    by: the browser that starts it, and so holds the controls; empty for nobody in particular. by_name: for people.
    replay: a JSONL file whose lines are sent instead of made-up payloads of ``payload_size`` bytes; ``loop`` starts it
    again at its end. duration_s: None runs until stopped.
    breakable_network: an embedded server is reached through a proxy, which faults on the network need; it takes about a
    tenth of a core at 20,000 messages a second.
    more: other settings of a LoadPlan, plain values by their names, as ``LoadPlan.to_dict`` tells them; they win over
    the ones above. by, by_name: the browser that asks, as ``widgets.viewer`` knows it.
    """

    url: str
    topic: str
    rate: float | None
    payload_size: int = 128
    replay: Path | None = None
    loop: bool = True
    duration_s: float | None = None
    max_pending: int = 10_000
    ack_timeout_s: float = 5.0
    breakable_network: bool = False
    more: Mapping[str, Any] = field(default_factory=dict, repr=False)
    by: str = ""
    by_name: str = ""

    def command(self, url: str) -> dict[str, Any]:
        """The worker's start command; ``url`` is the one to really use."""
        command: dict[str, Any] = {
            "cmd": "start",
            "url": url,
            "topic": self.topic,
            "rate": self.rate,
            "payload_size": self.payload_size,
            "max_pending": self.max_pending,
            "ack_timeout_s": self.ack_timeout_s,
            "embedded": SYSTEMS.get(self.url),
        }
        if self.replay is not None:
            command |= {"replay": str(self.replay), "loop": self.loop}
        if self.duration_s is not None:
            command["duration_s"] = self.duration_s
        return {**command, **self.more}


@dataclass(frozen=True, slots=True)
class LoadStatus:
    """Where the control stands. run_id: of the newest run. error: why that run failed, or would not start.

    steerable: False where the run has no rate that could be changed, since its workers wait for acks.
    by: the browser that holds the controls, by_name for people, since_wall_s since when; empty where nobody does.
    telemetry: what the newest worker told last of its own, also after its end; empty before there was one, and where
    telemetry goes nowhere.
    """

    phase: Phase = Phase.IDLE
    run_id: str | None = None
    rate: float | None = None
    error: str | None = None
    telemetry: tuple[ExportStatus, ...] = ()
    by: str = ""
    by_name: str = ""
    since_wall_s: float | None = None
    steerable: bool = True

    @property
    def active(self) -> bool:
        """True while there is a worker at work."""
        return self.phase is not Phase.IDLE


class LoadControl:
    """The only one who starts and ends workers, and the owner of the dashboard's embedded brokers.

    brokers: by the URL that asks for one, how it is made; each is made when first needed. worker: the command line of
    the worker.
    """

    def __init__(
        self,
        store: Path,
        *,
        brokers: Mapping[str, Callable[[], Broker]],
        worker: Sequence[str] = (sys.executable, "-m", "eventbus", "worker"),
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        self._command = [*worker, "--store", str(store)]
        self._start_timeout_s = start_timeout_s
        self._turn = threading.Lock()  # held by whoever starts, stops or closes; looking needs no turn
        self._brokers = {url: OwnBroker(url, make) for url, make in brokers.items()}
        self._worker: WorkerProcess | None = None
        self._newest: WorkerProcess | None = None  # the same, or one whose run has not begun or never did
        self._starting = False
        self._rate: float | None = None
        self._error: str | None = None
        self._steerable = True
        self._holder: tuple[str, str, float] | None = None
        self._closed = False
        self.faults = FaultDesk(self._brokers, running=self._sending, note=self.note)
        """Breaks the brokers above on purpose, for all sessions."""

    def status(self) -> LoadStatus:
        """Where the control stands now. Never waits."""
        worker, newest = self._worker, self._newest
        telemetry = () if newest is None else newest.news.telemetry
        by, by_name, since_wall_s = self._holder or ("", "", None)
        if self._starting:
            status = LoadStatus(Phase.STARTING, None, self._rate)
        elif worker is None:
            status = LoadStatus(error=self._error)
        else:
            news = worker.news
            phase = Phase.IDLE if news.over else Phase.STOPPING if worker.stopping else Phase.RUNNING
            status = LoadStatus(phase, news.run_id, self._rate, news.error)
        return replace(
            status,
            telemetry=telemetry,
            by=by,
            by_name=by_name,
            since_wall_s=since_wall_s,
            steerable=self._steerable,
        )

    def alerts_now(self) -> tuple[AlertNow, ...]:
        """Every alert of the run of ``status().run_id``, as that told it last, at most a second ago while it goes on.

        Empty before its first sample, and before there was a run. Never waits.
        """
        worker = self._worker
        return () if worker is None else worker.news.alerts

    def sinks_now(self) -> tuple[SinkStatus, ...]:
        """What became of what the same run had to tell, for each of its sinks. Never waits."""
        worker = self._worker
        return () if worker is None else worker.news.sinks

    def take(self, by: str, by_name: str = "") -> None:
        """From now on this browser holds the controls. Whoever held them is shown who does."""
        self._holder = (by, by_name, time.time()) if by else None

    def broker_status(self, url: str) -> BrokerStatus | None:
        """How the embedded broker is that ``url`` asks for; None where it asks for none. Never waits."""
        broker = self._brokers.get(url)
        return None if broker is None else broker.status

    def start_broker(self, url: str) -> None:
        """Begin to start that embedded broker, in the background. ``broker_status`` tells how it went."""
        self._brokers[url].begin()

    def start(self, settings: LoadSettings) -> str:
        """Start a run and wait until it has begun; its id. Raises LoadRefused, and then nothing runs."""
        if not self._turn.acquire(blocking=False):
            raise LoadRefused("Another session is starting or stopping a run. Try again in a moment.")
        try:
            if self._closed:
                raise LoadRefused("The dashboard is shutting down.")
            if self.status().active:
                raise LoadRefused("A run is going on already. Stop it first.")
            self._starting, self._rate, self._error = True, settings.rate, None
            self._steerable = not settings.more.get("workers")
            self.take(settings.by, settings.by_name)
            return self._start(settings)
        except LoadRefused as refusal:
            self._error = str(refusal)
            raise
        finally:
            self._starting = False
            self._turn.release()

    def set_rate(self, rate: float) -> None:
        """Change the rate of the run, in messages per second. Raises LoadRefused if there is none."""
        self._going_on("rate could be changed").send({"cmd": "set", "rate": rate})
        self._rate = rate

    def set_shape(self, shape: Mapping[str, Any]) -> None:
        """Go on with another shape, as ``Shape.to_dict`` tells it. Raises LoadRefused if there is no run."""
        self._going_on("shape could be changed").send({"cmd": "set", "shape": dict(shape)})
        self._rate = None

    def silence(self, alerts: Sequence[str], for_s: float, by: str, comment: str = "") -> None:
        """Tell nobody of these alerts (``*`` for all) for so long. Raises LoadRefused if there is no run."""
        worker = self._going_on("alerts could be silenced")
        worker.send({"cmd": "silence", "alerts": list(alerts), "for_s": for_s, "by": by, "comment": comment})

    def acknowledge(self, alert: str, by: str) -> None:
        """Say that somebody looks at it. Raises LoadRefused if there is no run."""
        self._going_on("alerts could be acknowledged").send({"cmd": "acknowledge", "alert": alert, "by": by})

    def note(self, kind: EventKind, text: str) -> None:
        """Keep that a fault began or ended among the events of the run. Raises LoadRefused if there is no run."""
        self._going_on("events could be noted").send({"cmd": "note", "kind": str(kind), "text": text})

    def _sending(self) -> str | None:
        """The id of the run that is sending; one that drains is healed first."""
        seen = self.status()
        return seen.run_id if seen.phase is Phase.RUNNING else None

    def _going_on(self, what: str) -> WorkerProcess:
        worker = self._worker
        if worker is None or worker.news.over or worker.stopping:
            raise LoadRefused(f"There is no run whose {what}. Start one first.")
        return worker

    def stop(self) -> None:
        """Ask the run to stop sending and to wait for outstanding acks. Returns at once; idempotent."""
        worker = self._worker
        if worker is not None and not worker.news.over:
            worker.stop()

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """Heal what was broken, end worker and brokers: a drain within ``timeout_s``, then force. Idempotent."""
        self.faults.close()
        with self._turn:
            self._closed = True
            if self._worker is not None:
                self._worker.close(timeout_s)
        for broker in self._brokers.values():
            broker.close()

    def _start(self, settings: LoadSettings) -> str:
        broker = self._brokers.get(settings.url)
        url = settings.url if broker is None else broker.url(through_network=settings.breakable_network)
        old, self._worker = self._worker, None
        if old is not None:
            old.close(KILL_TIMEOUT_S)  # its run is over: it is about to end by itself
        worker = self._newest = WorkerProcess(self._command)
        try:
            worker.send(settings.command(url))
            run_id = worker.wait_started(self._start_timeout_s)
        except LoadRefused:
            worker.close(0.0)
            raise
        self._worker = worker
        return run_id
