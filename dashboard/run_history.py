"""Brief: what a list tells of one run, and Briefs, which remembers those of runs that are over. Pure.

A brief is of a run's last sample, and of the one that ended its warm-up: a list of many runs cannot walk through all
samples of each. So it has totals and a percentile, which those two tell exactly, and no peaks.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any, Protocol

from dashboard import style
from eventbus import runs
from eventbus.observe.run import RunInfo, Sample

KEPT_BRIEFS = 2_000
_BEFORE_S = 2.0
"""How long before the end of a warm-up is looked for its last sample: samples are 0.25 s apart."""


class SampleSource(Protocol):
    """What is asked of StoreReader."""

    def latest(self, run_id: str) -> Sample | None: ...

    def each_sample(self, run_id: str, since_wall_s: float | None = None) -> Iterator[Sample]: ...


@dataclass(frozen=True, slots=True)
class Brief:
    """A run in short. elapsed_s: how long it took, or takes.

    sent: messages accepted, or sent without an ack. acked_ratio: of those; None where nothing was sent. p99_s: of the
    ack latency, without the warm-up; None where nothing was acked.
    """

    elapsed_s: float = 0.0
    sent: int = 0
    acked_ratio: float | None = None
    p99_s: float | None = None


class Briefs:
    """Briefs of the runs of one store. May be used from any thread; raises StoreError."""

    def __init__(self, source: SampleSource) -> None:
        self._source = source
        self._kept: OrderedDict[str, Brief] = OrderedDict()
        self._lock = threading.Lock()

    def of(self, run: RunInfo) -> Brief:
        """The brief of ``run``; one that goes on is read again each time."""
        with self._lock:
            known = self._kept.get(run.run_id)
        if known is not None:
            return known
        made = self._read(run)
        if run.status.is_over:
            with self._lock:
                self._kept[run.run_id] = made
                while len(self._kept) > KEPT_BRIEFS:
                    self._kept.popitem(last=False)
        return made

    def _read(self, run: RunInfo) -> Brief:
        last = self._source.latest(run.run_id)
        if last is None:
            return Brief()
        judged, now = runs.summarize([*self._warm(run, last), last]), last.snapshot
        sent = now.accepted + now.unacknowledged
        return Brief(
            elapsed_s=last.elapsed_s,
            sent=sent,
            acked_ratio=now.acked / sent if sent else None,
            p99_s=judged.ack.percentile_s(99),
        )

    def _warm(self, run: RunInfo, last: Sample) -> list[Sample]:
        """The last sample of the warm-up, if there was one, and anything came after it."""
        warm_up_s = run.settings.get("warm_up_s")
        if not isinstance(warm_up_s, int | float) or not warm_up_s or last.warming_up:
            return []
        end_s = last.wall_s - last.elapsed_s + warm_up_s
        near = self._source.each_sample(run.run_id, since_wall_s=end_s - _BEFORE_S)
        return list(takewhile(lambda sample: sample.warming_up, near))[-1:]


def load_words(settings: Mapping[str, Any]) -> str:
    """How fast a run was to send, in words: ``2,000 /s``, ``ramp``, ``8 workers``, ``unlimited``."""
    shape, workers, rate = (settings.get(name) for name in ("shape", "workers", "rate"))
    if isinstance(workers, int):
        words = f"{style.count(workers)} worker{'s' * (workers != 1)}"
    elif isinstance(shape, Mapping):
        words = str(shape.get("kind", "shape"))
    elif isinstance(rate, int | float):
        words = style.rate(rate)
    elif settings.get("replay_at") == "recorded":
        words = "as recorded"
    else:
        words = "unlimited"
    strategy = settings.get("strategy", "unified")
    return words if strategy == "unified" else f"{words}, {style.words(str(strategy))}"


def verdict_words(run: RunInfo) -> str:
    """Of a run's thresholds: a sign and a word, or nothing where there were none."""
    passed = None if run.verdict is None else run.verdict.get("passed")
    return {True: "✓ passed", False: "✗ failed"}.get(passed, "") if isinstance(passed, bool) else ""


def matching(found: Sequence[RunInfo], text: str) -> list[RunInfo]:
    """Those in whose name, notes, topic, broker, status or id every word of ``text`` is, in any case of letters."""
    wanted = text.lower().split()

    def told(run: RunInfo) -> str:
        pinned = "baseline pinned" if run.baseline else ""
        words = (run.run_id, run.name, run.notes, run.topic, run.url, run.status, verdict_words(run), pinned)
        return " ".join([*map(str, words), load_words(run.settings), str(run.settings.get("embedded") or "")]).lower()

    return [run for run in found if all(word in told(run) for word in wanted)]


def setting_rows(values: Mapping[str, Any], before: str = "") -> list[dict[str, str]]:
    """Settings or an environment as rows for a table: tables within are told by names with dots; empty ones are left

    out.
    """
    rows: list[dict[str, str]] = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            rows += setting_rows(value, f"{before}{name}.")
        elif value not in (None, "", [], ()):
            rows.append({"Name": f"{before}{name}", "Value": _value_text(value)})
    return rows


def _value_text(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        return f"{value:,}" if isinstance(value, int) else f"{value:,g}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "; ".join(str(one.get("text", one)) if isinstance(one, Mapping) else str(one) for one in value)
    return str(value)
