"""LoadControl: starts a worker process per run and sends it commands. It never touches a bus.

One control is shared by all sessions of the dashboard, so its methods may be called from any thread.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Protocol

from dashboard.process import KILL_TIMEOUT_S, LoadRefused, WorkerProcess
from eventbus import EventBusError

EMBEDDED_URL = "embedded+nats://"
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


class BrokerState(StrEnum):
    """What the dashboard's own broker is doing."""

    OFF = "off"
    STARTING = "starting"
    READY = "ready"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class BrokerStatus:
    """The dashboard's own broker; ``error`` says why it FAILED."""

    state: BrokerState
    url: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """What a run should do.

    url: a broker's, or ``embedded+nats://`` for the one that the dashboard brings along. rate: messages per second.
    replay: a JSONL file whose lines are sent instead of made-up payloads of ``payload_size`` bytes; ``loop`` starts it
    again at its end. duration_s: None runs until stopped.
    """

    url: str
    topic: str
    rate: float
    payload_size: int = 128
    replay: Path | None = None
    loop: bool = True
    duration_s: float | None = None
    max_pending: int = 10_000
    ack_timeout_s: float = 5.0

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
        }
        if self.replay is not None:
            command |= {"replay": str(self.replay), "loop": self.loop}
        if self.duration_s is not None:
            command["duration_s"] = self.duration_s
        return command


@dataclass(frozen=True, slots=True)
class LoadStatus:
    """Where the control stands. run_id: of the newest run. error: why that run failed, or would not start."""

    phase: Phase = Phase.IDLE
    run_id: str | None = None
    rate: float | None = None
    error: str | None = None

    @property
    def active(self) -> bool:
        """True while there is a worker at work."""
        return self.phase is not Phase.IDLE


class Broker(Protocol):
    """The part of EmbeddedNats that is used here."""

    @property
    def url(self) -> str: ...

    def start(self) -> None: ...

    def stop(self) -> None: ...

    def is_running(self) -> bool: ...


class LoadControl:
    """The only one who starts and ends workers, and the owner of the dashboard's embedded broker.

    worker: the command line of the worker. broker: made when first needed.
    """

    def __init__(
        self,
        store: Path,
        *,
        broker: Callable[[], Broker],
        worker: Sequence[str] = (sys.executable, "-m", "eventbus", "worker"),
        start_timeout_s: float = START_TIMEOUT_S,
    ) -> None:
        self._command = [*worker, "--store", str(store)]
        self._make_broker = broker
        self._start_timeout_s = start_timeout_s
        self._turn = threading.Lock()  # held by whoever starts, stops or closes; looking needs no turn
        self._broker_turn = threading.Lock()
        self._broker: Broker | None = None
        self._broker_status = BrokerStatus(BrokerState.OFF)
        self._worker: WorkerProcess | None = None
        self._starting = False
        self._rate: float | None = None
        self._error: str | None = None
        self._closed = False

    def status(self) -> LoadStatus:
        """Where the control stands now. Never waits."""
        worker = self._worker
        if self._starting:
            return LoadStatus(Phase.STARTING, None, self._rate)
        if worker is None:
            return LoadStatus(error=self._error)
        news = worker.news
        if news.over:
            return LoadStatus(Phase.IDLE, news.run_id, self._rate, news.error)
        return LoadStatus(Phase.STOPPING if worker.stopping else Phase.RUNNING, news.run_id, self._rate, news.error)

    def broker_status(self) -> BrokerStatus:
        """How the embedded broker is. Never waits."""
        return self._broker_status

    def start_broker(self) -> None:
        """Begin to start the embedded broker, in the background. ``broker_status`` tells how it went."""

        def start() -> None:
            with contextlib.suppress(LoadRefused):  # kept in the status, where pages find it
                self._broker_url()

        if self._broker_status.state is BrokerState.OFF:
            threading.Thread(target=start, name="broker-start", daemon=True).start()

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
            return self._start(settings)
        except LoadRefused as refusal:
            self._error = str(refusal)
            raise
        finally:
            self._starting = False
            self._turn.release()

    def set_rate(self, rate: float) -> None:
        """Change the rate of the run, in messages per second. Raises LoadRefused if there is none."""
        worker = self._worker
        if worker is None or worker.news.over or worker.stopping:
            raise LoadRefused("There is no run whose rate could be changed. Start one first.")
        worker.send({"cmd": "set", "rate": rate})
        self._rate = rate

    def stop(self) -> None:
        """Ask the run to stop sending and to wait for outstanding acks. Returns at once; idempotent."""
        worker = self._worker
        if worker is not None and not worker.news.over:
            worker.stop()

    def close(self, timeout_s: float = CLOSE_TIMEOUT_S) -> None:
        """End worker and broker: a drain within ``timeout_s``, then force. Idempotent; bounded."""
        with self._turn:
            self._closed = True
            if self._worker is not None:
                self._worker.close(timeout_s)
        with self._broker_turn:
            broker, self._broker = self._broker, None
            self._broker_status = BrokerStatus(BrokerState.OFF)
            if broker is not None:
                broker.stop()

    def _start(self, settings: LoadSettings) -> str:
        url = self._broker_url() if settings.url == EMBEDDED_URL else settings.url
        old, self._worker = self._worker, None
        if old is not None:
            old.close(KILL_TIMEOUT_S)  # its run is over: it is about to end by itself
        worker = WorkerProcess(self._command)
        try:
            worker.send(settings.command(url))
            run_id = worker.wait_started(self._start_timeout_s)
        except LoadRefused:
            worker.close(0.0)
            raise
        self._worker = worker
        return run_id

    def _broker_url(self) -> str:
        """Where the embedded broker listens; starts it if it does not run. Raises LoadRefused."""
        with self._broker_turn:
            if self._closed:
                raise LoadRefused("The dashboard is shutting down.")
            try:
                if self._broker is None or not self._broker.is_running():
                    self._broker_status = BrokerStatus(BrokerState.STARTING)
                    if self._broker is not None:
                        self._broker.stop()  # what is left of one that died
                    else:
                        self._broker = self._make_broker()
                    self._broker.start()
                url = self._broker.url
            except (EventBusError, OSError) as error:
                self._broker_status = BrokerStatus(BrokerState.FAILED, error=str(error))
                raise LoadRefused(
                    f"The embedded broker did not start: {error}. Give the URL of a running one instead, "
                    "such as nats://127.0.0.1:4222."
                ) from error
            self._broker_status = BrokerStatus(BrokerState.READY, url)
            return url
