"""What Compare measures beside a run's own figures: memory, what the broker stored, faults; and their charts. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dashboard.comparison import strategy_of
from dashboard.stored_count import stored_in
from eventbus import AckStrategy, BusEvent, EventKind
from eventbus.observe import Sample
from eventbus.runs import Run
from eventbus.viz.chart import COLOURS, Chart, chart_of, line, plain_text, upright
from eventbus.viz.figures import RUN_COLOURS

ALIKE_S = 1.0
"""Faults of the same name that began within so much of each other, each in its own run, are one mark."""
UNTIMED = ("fates", "percentiles")
"""Charts whose x axis is no time."""
LOST = "lost unseen"
_UNASKED = "no ack asked for"


@dataclass(frozen=True, slots=True)
class Memory:
    """Resident memory of the process that published, in bytes. first: in the first sample that tells it.

    curve: seconds of the run and the peak of a step.
    """

    first: int
    peak: int
    curve: Sequence[tuple[float, int]] = ()

    @property
    def growth(self) -> int:
        """From the first sample to the peak: what the messages took, without the program itself."""
        return self.peak - self.first


def memory_of(samples: Iterable[Sample], step_s: float) -> Memory | None:
    """Of a run, by steps of so many seconds; None where no sample tells it, as in runs of an older AckScope."""
    first = None
    peaks: dict[int, int] = {}
    for sample in samples:
        octets = sample.resident_bytes
        if octets is not None:
            first = octets if first is None else first
            step = int(sample.elapsed_s / step_s)
            peaks[step] = max(peaks.get(step, 0), octets)
    if first is None:
        return None
    return Memory(first, max(peaks.values()), [(step * step_s, peak) for step, peak in peaks.items()])


@dataclass(frozen=True, slots=True)
class Side:
    """A run beside others, with what is measured beside its own figures. memory: None where it is not known."""

    run: Run
    memory: Memory | None = None

    @property
    def strategy(self) -> AckStrategy | None:
        """Of the run; None where it is one that is not known here."""
        return strategy_of(self.run)

    @property
    def stored(self) -> int | None:
        """Messages that came into the broker's store in the whole run; None where nobody counted them."""
        return stored_in(self.run.info.notes)

    @property
    def sent(self) -> int | None:
        """Messages of the whole run, its warm-up included, that were not rejected; None where its end was not written.

        So many the broker may have stored: more can only be duplicates.
        """
        return self._reported("acked", "unknown", "unacknowledged")

    @property
    def lost_acked(self) -> int | None:
        """Messages that were acked and that the broker does not have; None where that cannot be known."""
        return self._missing(self._reported("acked"))

    @property
    def unasked(self) -> int | None:
        """Messages that were sent without an ack to come; None where that cannot be known."""
        return self._reported("unacknowledged")

    @property
    def lost_unseen(self) -> int | None:
        """Of those, how many the broker does not have; None where that cannot be known."""
        return self._missing(self.unasked) if self.strategy is AckStrategy.IGNORE else None

    def _reported(self, *names: str) -> int | None:
        counts = [(self.run.info.report or {}).get(name) for name in names]
        return sum(count for count in counts if isinstance(count, int)) if None not in counts else None

    def _missing(self, count: int | None) -> int | None:
        return None if count is None or self.stored is None else max(0, count - self.stored)


# ---- faults -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FaultSpan:
    """A fault in seconds of a run. until_s: None where its end was not told."""

    title: str
    from_s: float
    until_s: float | None = None


@dataclass(frozen=True, slots=True)
class FaultMark:
    """The same fault at about the same moment of some runs. runs: their places. from_s, until_s: of all of them."""

    title: str
    from_s: float
    until_s: float
    runs: tuple[int, ...]


def fault_spans(events: Iterable[BusEvent], started_wall_s: float) -> list[FaultSpan]:
    """The faults that were noted among the events of a run, in their order. An end without a beginning is left out."""
    found: list[FaultSpan] = []
    for event in events:
        title, at_s = event.text.partition(": ")[0], max(0.0, event.wall_s - started_wall_s)
        if event.kind is EventKind.FAULT_BEGAN:
            found.append(FaultSpan(title, at_s))
        elif event.kind is EventKind.FAULT_ENDED:
            lasting = [at for at, one in enumerate(found) if one.title == title and one.until_s is None]
            if lasting:
                found[lasting[-1]] = FaultSpan(title, found[lasting[-1]].from_s, max(found[lasting[-1]].from_s, at_s))
    return found


def fault_marks(spans: Sequence[Sequence[FaultSpan]], ends_s: Sequence[float]) -> list[FaultMark]:
    """What is drawn of the faults of several runs. ends_s: when each run was over, where the end of a fault was not

    told.
    """
    told = sorted(
        ((one.title, one.from_s, ends_s[place] if one.until_s is None else one.until_s, place)
         for place, found in enumerate(spans) for one in found),
        key=lambda one: (one[0], one[1]),
    )  # fmt: skip
    marks: list[FaultMark] = []
    for title, from_s, until_s, place in told:
        last = marks[-1] if marks else None
        until_s = max(from_s, until_s)
        if (
            last is not None
            and (last.title == title and from_s - last.from_s <= ALIKE_S)
            and place not in last.runs  # two in one run are two, however close
        ):
            places = tuple(sorted((*last.runs, place)))
            marks[-1] = FaultMark(title, last.from_s, max(last.until_s, until_s), places)
        else:
            marks.append(FaultMark(title, from_s, until_s, (place,)))
    return marks


def draw_faults(charts: Mapping[str, Chart], marks: Sequence[FaultMark], runs: int) -> None:
    """A band with a name in each chart over time. runs: how many there are, to name those that had it where not all."""
    for name, chart in charts.items():
        if name in UNTIMED:
            continue
        for mark in marks:
            whose = "" if len(mark.runs) == runs else f" ({', '.join(str(place + 1) for place in mark.runs)})"
            band = {
                "type": "rect", "yref": "paper", "x0": mark.from_s, "x1": mark.until_s, "y0": 0, "y1": 1,
                "fillcolor": "rgba(213,94,0,0.10)", "line": {"width": 0}, "layer": "below",
            }  # fmt: skip
            chart["layout"].setdefault("shapes", []).append(band)
            upright(chart, mark.from_s, COLOURS["unknown"], mark.title + whose)


# ---- charts -----------------------------------------------------------------------------------------------------


def memory_chart(memories: Mapping[str, Memory | None]) -> Chart:
    """Resident memory over time, a line a run of which it is known. memories: by the label to show."""
    data = [
        line(label, [at_s for at_s, _ in memory.curve], [octets / 2**20 for _, octets in memory.curve], colour)
        for (label, memory), colour in zip(memories.items(), RUN_COLOURS * 9, strict=False)
        if memory is not None
    ]
    return chart_of("Memory", "MiB, resident", data)


def show_lost(fates: Chart, lost: Mapping[str, int]) -> None:
    """In the chart of fates, part those that the broker does not have from messages without an ack to come.

    lost: by the label of the run.
    """
    unasked = next((trace for trace in fates["data"] if trace["name"] == _UNASKED), None)
    if unasked is None or not any(lost.values()):
        return
    counts = [
        min(lost.get(label, 0), count)
        for label, count in zip(_unescaped(unasked, lost), unasked["customdata"], strict=True)
    ]
    shares = [
        share * part / count if count else 0.0
        for share, part, count in zip(unasked["x"], counts, unasked["customdata"], strict=True)
    ]
    marker = {
        "color": COLOURS["unknown"],
        "pattern": {"shape": "/", "bgcolor": COLOURS["unknown"], "fgcolor": "#FFFFFF"},
    }
    fates["data"].append({**unasked, "name": LOST, "x": shares, "customdata": counts, "marker": marker})
    unasked["x"] = [share - part for share, part in zip(unasked["x"], shares, strict=True)]
    unasked["customdata"] = [count - part for count, part in zip(unasked["customdata"], counts, strict=True)]


def _unescaped(trace: Chart, labels: Mapping[str, int]) -> list[str]:
    """The labels that a chart shows, as they were given."""
    known = {plain_text(label): label for label in labels}
    return [known.get(shown, "") for shown in trace["y"]]
