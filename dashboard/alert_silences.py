"""What people of this dashboard silenced and acknowledged, so that every session shows it.

The worker tells it too, up to a second later and without its end; here it is at once. Both forget it with the run,
since a worker lives no longer than the dashboard that started it. Who it was and until when is also in the history,
with each change that nobody was told of.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

ALL = "*"
DURATIONS_S = {"5 min": 300.0, "15 min": 900.0, "30 min": 1800.0, "1 h": 3600.0, "4 h": 14_400.0, "24 h": 86_400.0}
MAX_KEPT = 1_000


@dataclass(frozen=True, slots=True)
class Silence:
    """Nobody is told of ``rule`` ("*": of all) until ``until_s``, seconds since the epoch."""

    run_id: str
    rule: str
    until_s: float
    by: str
    comment: str = ""


class SilenceBook:
    """Silences and acknowledgements of the newest runs. May be used from any thread. wall_s: the time, injected."""

    def __init__(self, wall_s: Callable[[], float] = time.time) -> None:
        self._wall_s = wall_s
        self._lock = threading.Lock()
        self._silences: dict[tuple[str, str], Silence] = {}
        self._acknowledged: dict[tuple[str, str], tuple[float, str]] = {}

    def silence(self, run_id: str, rules: Sequence[str], for_s: float, by: str, comment: str = "") -> None:
        """Note a silence that the worker was told of. A later one of the same rule takes its place."""
        until_s = self._wall_s() + for_s
        with self._lock:
            for rule in rules:
                self._silences[run_id, rule] = Silence(run_id, rule, until_s, by, comment)
            _trim(self._silences)

    def unsilence(self, run_id: str, rule: str) -> None:
        """Note that a silence was ended before its time."""
        with self._lock:
            self._silences.pop((run_id, rule), None)

    def silences(self, run_id: str) -> Sequence[Silence]:
        """Those that hold now, the first to end first."""
        now_s = self._wall_s()
        with self._lock:
            held = [one for one in self._silences.values() if one.run_id == run_id and one.until_s > now_s]
        return sorted(held, key=lambda one: one.until_s)

    def of(self, run_id: str, rule: str) -> Silence | None:
        """The silence that holds for ``rule`` now: its own, else that of all."""
        held = {one.rule: one for one in self.silences(run_id)}
        return held.get(rule) or held.get(ALL)

    def acknowledge(self, run_id: str, rule: str, by: str) -> None:
        """Note that somebody looks after an alert that fires."""
        with self._lock:
            self._acknowledged[run_id, rule] = (self._wall_s(), by)
            _trim(self._acknowledged)

    def acknowledged(self, run_id: str, rule: str, since_s: float) -> str:
        """Who looks after the alert that began to fire at ``since_s``; empty where nobody does."""
        with self._lock:
            at_s, by = self._acknowledged.get((run_id, rule), (0.0, ""))
        return by if at_s >= since_s else ""


def _trim(kept: dict[tuple[str, str], Any]) -> None:
    while len(kept) > MAX_KEPT:
        del kept[next(iter(kept))]
