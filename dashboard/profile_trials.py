"""Whether the broker of a profile answers: tried in a thread, with a deadline, by the look that ``doctor`` takes."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from dashboard.plan_form import DEFAULTS
from eventbus.connect import inspect
from eventbus.errors import ConnectFailed, EventBusError
from eventbus.inspection import ClusterFacts, Inspection
from eventbus.load.connection import connection_of

TRIAL_TIMEOUT_S = 15.0
"""Connecting, and some requests; a connection alone has 5 s."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a broker said. what: its kind and version. round_trip_s: median of several. warning: or empty."""

    what: str
    round_trip_s: float
    encrypted: bool
    warning: str = ""


@dataclass(frozen=True, slots=True)
class Trial:
    """One profile tried: going on, or what became of it. at_s: when it began, seconds since the epoch.

    error: why there is no answer, or empty.
    """

    name: str
    at_s: float
    running: bool
    answer: Answer | None = None
    error: str = ""


class Trials:
    """The newest trial of each profile, which all sessions see. One at a time; may be used from any thread.

    ask: connects to a URL, by a connection as a LoadPlan has it, and says what answered; replaced in tests. Raises
    EventBusError.
    """

    def __init__(self, ask: Callable[[str, Mapping[str, str]], Answer] | None = None) -> None:
        self._ask = ask or _ask
        self._lock = threading.Lock()
        self._newest: dict[str, Trial] = {}
        self._thread: threading.Thread | None = None

    @property
    def running(self) -> bool:
        """Whether one is going on."""
        return any(trial.running for trial in tuple(self._newest.values()))

    def of(self, name: str) -> Trial | None:
        """The newest of this profile; None before there was one, and after it was changed."""
        return self._newest.get(name)

    def forget(self, *names: str) -> None:
        """These profiles are others now."""
        with self._lock:
            for name in names:
                self._newest.pop(name, None)

    def begin(self, name: str, url: str, connection: Mapping[str, str]) -> None:
        """Try it, in a thread. Returns at once; nothing happens while one is going on. url: with the secret."""
        with self._lock:
            if self.running:
                return
            trial = self._newest[name] = Trial(name, time.time(), running=True)
            self._thread = threading.Thread(
                target=self._run, args=(trial, url, connection), name="profile-trial", daemon=True
            )
            self._thread.start()

    def wait(self, timeout_s: float) -> None:
        """Until the one that is going on is over, at most so long."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    def _run(self, trial: Trial, url: str, connection: Mapping[str, str]) -> None:
        ended = Trial(trial.name, trial.at_s, running=False, error="The trial broke off; the console says why.")
        try:
            ended = Trial(trial.name, trial.at_s, running=False, answer=self._ask(url, connection))
        except EventBusError as error:
            ended = Trial(trial.name, trial.at_s, running=False, error=str(error))
        finally:
            with self._lock:
                if self._newest.get(trial.name) is trial:  # else the profile was changed meanwhile
                    self._newest[trial.name] = ended


def _ask(url: str, connection: Mapping[str, str]) -> Answer:
    return asyncio.run(_looked(url, connection))


async def _looked(url: str, connection: Mapping[str, str]) -> Answer:
    try:
        async with asyncio.timeout(TRIAL_TIMEOUT_S):
            return _answer(await inspect(url, DEFAULTS["topic"], connection=connection_of(url, connection)))
    except TimeoutError as error:
        raise ConnectFailed(f"no answer within {TRIAL_TIMEOUT_S:.0f} s") from error


def _answer(seen: Inspection) -> Answer:
    server = seen.server
    if isinstance(server, ClusterFacts):
        brokers = f"{len(server.brokers)} {'broker' if len(server.brokers) == 1 else 'brokers'}"
        return Answer(f"Kafka, {brokers}", server.round_trip_s, server.tls)
    warning = "" if server.jetstream else "JetStream is not enabled there, and without it there are no acks"
    return Answer(f"nats-server {server.version}", server.round_trip_s, server.tls, warning)
