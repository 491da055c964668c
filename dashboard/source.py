"""RunSource: what the pages may ask about runs, and RunHistory, which remembers what was read of them.

The worker writes, pages read; nothing here changes a run. All sessions of the dashboard share one history, so a run is
read once, and then only what is new of it.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Protocol

from dashboard.rates import Interval, Timeline
from eventbus import BusEvent
from eventbus.observe.run import AlertChange, FailedMessage, FailureGroup, RunInfo, Sample, StoreError

KEPT_TIMELINES = 4
FIRST_READ = 400
"""Samples read at once of a run that is new to us, the newest: more than the shortest window of a page needs. What lies
before is read in COARSE steps at first, and in the background once more in full, for the sake of its peaks."""
COARSE = 360
"""Ten seconds each in an hour, as much as a chart can show."""
CHUNK = 500
"""Samples taken in at a time there."""


class RunSource(Protocol):
    """Runs and what is known of each; StoreReader is one. Any method may raise StoreError."""

    def runs(self, limit: int = 50) -> Sequence[RunInfo]:
        """Newest first."""

    def samples(self, run_id: str, since_wall_s: float | None = None, limit: int = 5000) -> Sequence[Sample]:
        """In time order: those later than ``since_wall_s``, of these the newest ``limit``."""

    def each_sample(self, run_id: str, since_wall_s: float | None = None, limit: int | None = None) -> Iterable[Sample]:
        """The same one by one, without a limit where none is given."""

    def coarse_samples(self, run_id: str, most: int = COARSE, until_wall_s: float | None = None) -> Sequence[Sample]:
        """Few of them, from the first one on, in time order."""

    def events(self, run_id: str, limit: int = 500) -> Sequence[BusEvent]:
        """In time order."""

    def failed(self, run_id: str, limit: int = 500) -> Sequence[FailedMessage]:
        """Newest first."""

    def failure_groups(self, run_id: str) -> Sequence[FailureGroup]:
        """Exact counts, the largest group first."""

    def alerts(self, run_id: str) -> Sequence[AlertChange]:
        """In time order."""


@dataclass(frozen=True, slots=True)
class RunView:
    """One run as a page shows it, all of the same moment.

    intervals: what the charts show. recent: the newest seconds as one, None before there is a whole second.
    total: all of the run. sample: the newest. complete: False while peaks of what lies further back are still being
    read; all else is there.
    """

    intervals: Sequence[Interval] = ()
    recent: Interval | None = None
    total: Interval | None = None
    sample: Sample | None = None
    elapsed_s: float = 0.0
    complete: bool = True


class RunHistory:
    """What was read of the runs last looked at. May be used from any thread. first_read: see FIRST_READ."""

    def __init__(self, source: RunSource, *, first_read: int = FIRST_READ) -> None:
        self._source = source
        self._first_read = first_read
        self._timelines: OrderedDict[str, Timeline] = OrderedDict()
        self._reading: dict[str, threading.Thread] = {}
        self._lock = threading.Lock()

    def view(
        self,
        run_id: str,
        window_s: float | None,
        *,
        recent_s: float,
        over: bool,
        until_s: float | None = None,
    ) -> RunView:
        """Read what is new of a run, and give what a page shows of its newest ``window_s`` (None: all).

        over: nothing more will come, so that an unfinished second counts. until_s: as it was that far into the run.
        Raises StoreError.
        """
        with self._lock:
            timeline = self._timeline(run_id)
            return RunView(
                intervals=timeline.intervals(window_s, until_s=until_s, whole=over),
                recent=timeline.latest(recent_s, until_s=until_s),
                total=timeline.total(),
                sample=timeline.last,
                elapsed_s=timeline.elapsed_s,
                complete=run_id not in self._reading,
            )

    def wait_complete(self, run_id: str, timeout_s: float) -> bool:
        """Wait until nothing of the run is being read in the background any more; False where that takes longer."""
        thread = self._reading.get(run_id)
        if thread is not None:
            thread.join(timeout_s)
        return run_id not in self._reading

    def _timeline(self, run_id: str) -> Timeline:
        timeline = self._timelines.get(run_id)
        if timeline is None:
            first = self._source.samples(run_id, limit=self._first_read)
            more = len(first) == self._first_read
            before = self._source.coarse_samples(run_id, COARSE, first[0].wall_s) if more else ()
            timeline = self._timelines[run_id] = Timeline()
            timeline.extend([*before, *first])
            while len(self._timelines) > KEPT_TIMELINES:
                self._timelines.popitem(last=False)
            if more and run_id not in self._reading:
                self._read_all(run_id)
        elif timeline.last is None:
            timeline.extend(self._source.samples(run_id, limit=self._first_read))
        else:
            timeline.extend(self._source.samples(run_id, since_wall_s=timeline.last.wall_s))
        self._timelines.move_to_end(run_id)
        return timeline

    def _read_all(self, run_id: str) -> None:
        """Read a run from its beginning, in the background, and put it in the place of what was read first."""

        def read() -> None:
            timeline = Timeline()
            try:
                with contextlib.suppress(StoreError):  # whoever looks next reads the store as well, and tells
                    samples = iter(self._source.each_sample(run_id))
                    while chunk := list(islice(samples, CHUNK)):
                        timeline.extend(chunk)
                    with self._lock:
                        if timeline.last is not None and run_id in self._timelines:
                            self._timelines[run_id] = timeline
            finally:
                self._reading.pop(run_id, None)

        thread = self._reading[run_id] = threading.Thread(target=read, name="run-history", daemon=True)
        thread.start()
