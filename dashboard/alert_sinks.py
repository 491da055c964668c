"""Sinks for the Alerts page: where each leads, without anything secret, and whether a test notification arrives.

Without Streamlit.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from eventbus.alerts import SinkStatus, sinks_from_plain, try_sinks
from eventbus.clock import SystemClock
from eventbus.errors import ConfigError

TEST_TIMEOUT_S = 15.0
"""How long each sink may take for a test; all are tried at the same time."""
KINDS = {
    "log": "a line of the program's log",
    "webhook": "an HTTP POST, as Alertmanager sends it",
    "apprise": "Slack, mail, Telegram and many more",
}
Tables = Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class SinkRow:
    """A sink as it is listed. where: scheme, host and port at most. problem: why it cannot be used, or empty."""

    name: str
    kind: str
    where: str
    problem: str = ""


@dataclass(frozen=True, slots=True)
class SinkTest:
    """A test of all sinks: going on, or what became of it. at_s: when it began, seconds since the epoch.

    error: why nothing could be sent, or empty.
    """

    at_s: float
    running: bool
    statuses: tuple[SinkStatus, ...] = ()
    error: str = ""

    def of(self, name: str) -> SinkStatus | None:
        """What became of it at one sink."""
        return next((status for status in self.statuses if status.name == name), None)


def rows(tables: Tables) -> list[SinkRow]:
    """One row for each table. Sends nothing, looks nothing up; an ``env:NAME`` that is not set is a problem."""
    try:
        made = sinks_from_plain([dict(table) for table in tables])
    except ConfigError:
        return [_alone(table, index) for index, table in enumerate(tables)]
    return [SinkRow(sink.name, str(table["kind"]), sink.where) for sink, table in zip(made, tables, strict=True)]


def problem(tables: Tables) -> str:
    """Why these cannot be used together; empty where they can."""
    try:
        sinks_from_plain([dict(table) for table in tables])
    except ConfigError as error:
        return str(error)
    return ""


class SinkTests:
    """The newest test of the sinks, which all sessions see. One at a time; may be used from any thread.

    send: sends one test notification to each sink; replaced in tests.
    """

    def __init__(self, send: Callable[[Tables], Sequence[SinkStatus]] | None = None) -> None:
        self._send = send or _send
        self._lock = threading.Lock()
        self._newest: SinkTest | None = None
        self._thread: threading.Thread | None = None

    @property
    def newest(self) -> SinkTest | None:
        """None before there was one. Never waits."""
        return self._newest

    def begin(self, tables: Tables) -> None:
        """Send a test notification to each, in a thread. Returns at once; nothing happens while one is going on."""
        with self._lock:
            if self._newest is not None and self._newest.running:
                return
            self._newest = SinkTest(time.time(), running=True)
            self._thread = threading.Thread(
                target=self._run, args=(tuple(tables), self._newest.at_s), name="sink-test", daemon=True
            )
            self._thread.start()

    def wait(self, timeout_s: float) -> None:
        """Until the one that is going on is over, at most so long."""
        thread = self._thread
        if thread is not None:
            thread.join(timeout_s)

    def _run(self, tables: Tables, at_s: float) -> None:
        try:
            self._newest = SinkTest(at_s, running=False, statuses=tuple(self._send(tables)))
        except ConfigError as error:
            self._newest = SinkTest(at_s, running=False, error=str(error))
        finally:
            if self._newest is not None and self._newest.running:  # something of ours is broken: do not test for ever
                self._newest = SinkTest(at_s, running=False, error="The test broke off; the console says why.")


def _send(tables: Tables) -> Sequence[SinkStatus]:
    sinks = sinks_from_plain([dict(table) for table in tables])
    return asyncio.run(try_sinks(sinks, clock=SystemClock(), timeout_s=TEST_TIMEOUT_S))


def _alone(table: Mapping[str, Any], index: int) -> SinkRow:
    """One table for itself, since another one, or this one, cannot be used."""
    kind, name = str(table.get("kind", "?"))[:20], str(table.get("name") or table.get("kind", "?"))[:64]
    try:
        sink = sinks_from_plain([dict(table)])[0]
    except ConfigError as error:
        return SinkRow(name, kind, "", str(error).replace("sinks[0]", f"sinks[{index}]"))
    return SinkRow(sink.name, kind, sink.where)
