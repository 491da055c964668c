"""RunSource: what the pages may ask about runs, and RunHistory, which remembers what was read of them.

The worker writes, pages read; nothing here changes a run. All sessions of the dashboard share one history, so a run is
read once, and then only what is new of it.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from dashboard.rates import Edit, Interval, Timeline
from eventbus import BusEvent
from eventbus.observe.run import AlertChange, FailedMessage, RunInfo, Sample

KEPT_TIMELINES = 4
FIRST_READ = 20_000
"""Samples read of a run that is new to us: 83 minutes at four a second; what was before is one interval."""


class RunSource(Protocol):
    """Runs and what is known of each; StoreReader is one. Any method may raise StoreError."""

    def runs(self, limit: int = 50) -> Sequence[RunInfo]:
        """Newest first."""

    def samples(self, run_id: str, since_wall_s: float | None = None, limit: int = 5000) -> Sequence[Sample]:
        """In time order: those later than ``since_wall_s``, of these the newest ``limit``."""

    def events(self, run_id: str, limit: int = 500) -> Sequence[BusEvent]:
        """In time order."""

    def failed(self, run_id: str, limit: int = 500) -> Sequence[FailedMessage]:
        """Newest first."""

    def alerts(self, run_id: str) -> Sequence[AlertChange]:
        """In time order."""


@dataclass(frozen=True, slots=True)
class RunView:
    """One run as a page shows it, all of the same moment.

    intervals: what the charts show. recent: the newest seconds as one, None before there is a whole second.
    total: all of the run. sample: the newest. edits: every change of the target rate.
    """

    intervals: Sequence[Interval] = ()
    edits: Sequence[Edit] = ()
    recent: Interval | None = None
    total: Interval | None = None
    sample: Sample | None = None
    elapsed_s: float = 0.0


class RunHistory:
    """What was read of the runs last looked at. May be used from any thread."""

    def __init__(self, source: RunSource) -> None:
        self._source = source
        self._timelines: OrderedDict[str, Timeline] = OrderedDict()
        self._lock = threading.Lock()

    def view(
        self, run_id: str, window_s: float | None, *, recent_s: float, over: bool, until_s: float | None = None
    ) -> RunView:
        """Read what is new of a run, and give what a page shows of its newest ``window_s`` (None: all).

        over: nothing more will come, so that an unfinished second counts. until_s: as it was that far into the run.
        Raises StoreError.
        """
        with self._lock:
            timeline = self._timelines.get(run_id)
            if timeline is None:
                timeline = self._timelines[run_id] = Timeline()
                while len(self._timelines) > KEPT_TIMELINES:
                    self._timelines.popitem(last=False)
            self._timelines.move_to_end(run_id)
            last = timeline.last
            timeline.extend(
                self._source.samples(run_id, limit=FIRST_READ)
                if last is None
                else self._source.samples(run_id, since_wall_s=last.wall_s)
            )
            return RunView(
                intervals=timeline.intervals(window_s, until_s=until_s, whole=over),
                edits=tuple(timeline.edits),
                recent=timeline.latest(recent_s, until_s=until_s),
                total=timeline.total(),
                sample=timeline.last,
                elapsed_s=timeline.elapsed_s,
            )
