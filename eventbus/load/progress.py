"""Live progress of a run on standard error: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from eventbus.event import BusEvent, EventKind
from eventbus.load.plan import LoadPlan
from eventbus.load.summary import latency_text
from eventbus.observe import Sample

LINE_EACH_S = 2.0


class ShowsProgress(Protocol):
    """Where samples and events of a run are shown."""

    def sampled(self, sample: Sample) -> None:
        """One more sample."""

    def happened(self, event: BusEvent) -> None:
        """Something a person would want to know."""

    def say(self, text: str) -> None:
        """A line that stays."""

    def close(self) -> None:
        """Leave the terminal as it was. Idempotent."""


def progress_for(console: Console, plan: LoadPlan, total: int | None) -> ShowsProgress:
    """What suits ``console``. total: messages the run will send, if known."""
    return _Bar(console, plan, total) if console.is_terminal else _Lines(console)


def _told(event: BusEvent) -> str:
    # A stream on NATS, a topic on Kafka: the text says which.
    if event.kind is EventKind.CONNECTED:
        return event.text
    return f"{'created' if event.kind is EventKind.STREAM_CREATED else event.kind}: {event.text}"


class _Rate:
    """Acked messages per second between two samples."""

    def __init__(self) -> None:
        self._last: Sample | None = None

    def between(self, sample: Sample) -> float:
        last, self._last = self._last, sample
        if last is None:  # shown for the first time: since the start
            return sample.snapshot.acked / sample.elapsed_s if sample.elapsed_s else 0.0
        if sample.elapsed_s <= last.elapsed_s:
            return 0.0
        return max(0, sample.snapshot.acked - last.snapshot.acked) / (sample.elapsed_s - last.elapsed_s)


class _Lines:
    def __init__(self, console: Console) -> None:
        self._console = console
        self._rate = _Rate()
        self._next_s = LINE_EACH_S

    def sampled(self, sample: Sample) -> None:
        if sample.elapsed_s < self._next_s:
            return
        self._next_s = sample.elapsed_s + LINE_EACH_S * 0.9
        self.say(f"{sample.elapsed_s:6.1f} s  {_figures(sample, self._rate.between(sample))}")

    def happened(self, event: BusEvent) -> None:
        self.say(_told(event))

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def close(self) -> None:
        pass


class _Bar:
    def __init__(self, console: Console, plan: LoadPlan, total: int | None) -> None:
        self._console = console
        self._rate = _Rate()
        self._done: Callable[[Sample], float]
        goal: float | None
        if plan.sending_s is not None:
            sending_s = goal = plan.sending_s
            self._done = lambda sample: min(sample.elapsed_s, sending_s)
        else:
            goal = min((n for n in (plan.count, total) if n is not None), default=None)
            self._done = lambda sample: sample.snapshot.accepted
        # No refresh thread: each sample is one refresh.
        self._progress = Progress(
            SpinnerColumn(),
            BarColumn(bar_width=16),
            TimeElapsedColumn(),
            TextColumn("{task.description}", markup=False),
            console=console,
            auto_refresh=False,
            transient=True,
        )
        self._task = self._progress.add_task("connected", total=goal)
        self._progress.start()

    def sampled(self, sample: Sample) -> None:
        text = _figures(sample, self._rate.between(sample))
        self._progress.update(self._task, completed=self._done(sample), description=text, refresh=True)

    def happened(self, event: BusEvent) -> None:
        self.say(_told(event))

    def say(self, text: str) -> None:
        self._console.print(text, markup=False, highlight=False)

    def close(self) -> None:
        self._progress.stop()


def _figures(sample: Sample, acked_per_s: float) -> str:
    snapshot = sample.snapshot
    failed = snapshot.rejected + snapshot.unknown
    p99 = latency_text(snapshot.latency.percentile_s(99))
    # The most important first: a narrow terminal cuts the end.
    return (
        f"acked {snapshot.acked:,} ({acked_per_s:,.0f}/s)  pending {snapshot.pending:,}  failed {failed:,}"
        f"  p99 {p99}  offered {sample.offered:,}"
    )
