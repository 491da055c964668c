"""Charts of runs: what each shows, from steps and histograms. Pure. Percentiles differ by the style of their line."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eventbus.event import BusEvent, EventKind
from eventbus.latency import LatencyHistogram, bucket_bounds_ns
from eventbus.viz.chart import COLOURS, Chart, chart_of, level, line, plain_text, upright
from eventbus.viz.frames import OUTCOMES, PERCENTILES, outcomes
from eventbus.viz.steps import Step

RUN_COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7")
"""For runs beside each other; more than four are too many to tell apart."""
_SERIES = ("#D55E00", "#56B4E9", "#CC79A7", "#009E73", "#E69F00", "#0072B2", "#8C929B")
_DASHES = ("dot", "dash", "solid", "dashdot")
_MARKS = frozenset(
    {
        EventKind.CONNECTED,
        EventKind.DISCONNECTED,
        EventKind.DENIED,
        EventKind.PRODUCER_REPLACED,
        EventKind.TOPIC_FAILED,
        EventKind.PAUSED,
        EventKind.PROCESS_LOST,
        EventKind.RATE_CHANGED,
        EventKind.SHAPE_CHANGED,
        EventKind.FAULT_BEGAN,
        EventKind.FAULT_ENDED,
    }
)
_FATES = {name: COLOURS[name] for name in OUTCOMES} | {
    "no ack asked for": COLOURS["pending"],
    "pending at the end": "#C3C8CE",
}
"""What becomes of messages that were sent, and its colour."""
FIRST_MARK_S = 0.5
"""Every run begins with a connect, which needs no mark."""
MAX_MARKS = 30
"""Events that are drawn; of more, a chart would be all lines."""
_THRESHOLD = re.compile(r"p([\d.]+)\(ack_latency\b")


def run_charts(
    steps: Sequence[Step],
    *,
    ack: LatencyHistogram,
    scheduled: LatencyHistogram,
    events: Sequence[BusEvent] = (),
    started_wall_s: float = 0.0,
    ack_timeout_s: float | None = None,
    verdict: Mapping[str, Any] | None = None,
) -> dict[str, Chart]:
    """All charts of one run, by name; those that would show nothing are left out."""
    if not steps:
        return {}
    charts = {
        "rates": rates(steps),
        "outcomes": outcome_chart(steps),
        "latency": latency(steps, thresholds=latency_thresholds(verdict)),
        "percentiles": percentile_curve({"from the send": ack, "from the schedule": scheduled}),
        "heatmap": heatmap(steps),
        "pending": pending(steps),
        "age": oldest_age(steps, ack_timeout_s),
        "errors": error_chart(steps),
        "lag": lag(steps),
    }
    charts = {name: chart for name, chart in charts.items() if chart["data"]}
    for name, chart in charts.items():
        if name != "percentiles":
            _mark(chart, events, started_wall_s, steps)
    return charts


def rates(steps: Sequence[Step]) -> Chart:
    """Offered, sent and acked messages a second."""
    x = _times(steps)
    return chart_of(
        "Rates",
        "messages/s",
        [
            line("offered", x, [s.per_second(s.offered) for s in steps], COLOURS["offered"], dash="dot"),
            line("sent", x, [s.per_second(s.sent) for s in steps], COLOURS["sent"], dash="dash"),
            line("acked", x, [s.per_second(s.counts["acked"]) for s in steps], COLOURS["acked"]),
        ],
    )


def outcome_chart(steps: Sequence[Step]) -> Chart:
    """What became of messages, a second: stacked; outcomes that never came are left out."""
    x = _times(steps)
    told = [outcomes(step) for step in steps]
    data = []
    for outcome in OUTCOMES:
        values = [step.per_second(counts[outcome]) for step, counts in zip(steps, told, strict=True)]
        if any(values):
            colour = COLOURS[outcome]
            thin = {"color": colour, "width": 0.5}
            data.append(
                line(outcome, x, values, colour) | {"line": thin, "stackgroup": "all", "fillcolor": colour + "B0"}
            )
    return chart_of("Outcomes", "messages/s", data)


def error_chart(steps: Sequence[Step]) -> Chart:
    """Failed attempts a second, by kind of error."""
    kinds = sorted({kind for step in steps for kind in step.errors})
    x = _times(steps)
    data = [
        line(
            kind.replace("_", " "), x, [s.per_second(s.errors.get(kind, 0)) for s in steps], _SERIES[at % len(_SERIES)]
        )
        for at, kind in enumerate(kinds)
    ]
    return chart_of("Errors by kind", "failed attempts/s, repeated ones too", data)


def latency(steps: Sequence[Step], *, thresholds: Sequence[tuple[str, float]] = ()) -> Chart:
    """Percentiles of the ack latency on a log axis. thresholds: a label and seconds, each a line."""
    x = _times(steps)
    data = []
    for percent, dash in zip(PERCENTILES, _DASHES, strict=True):
        values = [_ms(step.ack.percentile_s(percent)) for step in steps]
        if any(value is not None for value in values):
            data.append(line(f"p{percent:g}", x, values, COLOURS["acked"], dash=dash))
    chart = chart_of("Ack latency", "ms, send to ack, log scale", data, log=True)
    for label, seconds in thresholds:
        level(chart, seconds * 1e3, label, log=True)
    return chart


def percentile_curve(histograms: Mapping[str, LatencyHistogram]) -> Chart:
    """Latency over percentiles up to p99.999, more room to each nine. One line a histogram that is not empty."""
    points = [p for p in (0, 25, 50, 75, 90, 95, 98, 99, 99.5, 99.8, 99.9, 99.95, 99.99, 99.999)]
    colours = [COLOURS["acked"], COLOURS["scheduled"], *RUN_COLOURS[2:]]
    data = []
    for (name, histogram), colour in zip(histograms.items(), colours, strict=False):
        known = [p for p in points if p == 0 or _one_lies_above(p, histogram.total)]
        if histogram.total:
            y = [_ms(histogram.percentile_s(p)) for p in known]
            trace = line(name, [100 / (100 - p) for p in known], y, colour)
            data.append(trace | {"text": [f"p{p:g}" for p in known], "hovertemplate": "%{text}: %{y:.3g} ms"})
    chart = chart_of("Latency distribution", "ms, log scale", data, log=True)
    ticks = (50, 90, 99, 99.9, 99.99, 99.999)
    chart["layout"]["xaxis"] |= {
        "type": "log",
        "ticksuffix": "",
        "tickmode": "array",
        "tickvals": [100 / (100 - p) for p in ticks],
        "ticktext": [f"p{p:g}" for p in ticks],
    }
    chart["layout"]["hovermode"] = "closest"
    return chart


def _one_lies_above(percent: float, total: int) -> bool:
    """Whether at least one message of ``total`` lies above a percentile, which else means nothing."""
    return round(total * (100 - percent), 6) >= 100  # 1000 * (100 - 99.9) is a little less than 100


def heatmap(steps: Sequence[Step]) -> Chart:
    """How many acks took how long, over time; eight rows to each doubling of latency, darker is more."""
    cells = [_by_eighth(step.ack) for step in steps]
    known = sorted({row for column in cells for row in column})
    if not known:
        return chart_of("Latency heatmap", "", [])
    rows = range(known[0], known[-1] + 1)
    data = {
        "type": "heatmap",
        "x": _times(steps),
        "y": [_eighth_ms(row) for row in rows],
        "z": [[column.get(row) for column in cells] for row in rows],
        "colorscale": [[0, "rgba(0,114,178,0.12)"], [0.35, "rgba(0,114,178,0.75)"], [1, "#E69F00"]],
        "showscale": False,
        "hovertemplate": "%{x:.0f} s, %{y:.3g} ms: %{z:,} acks<extra></extra>",
    }
    chart = chart_of("Latency heatmap", "ms, log scale; colour: number of acks", [data], log=True)
    chart["layout"]["hovermode"] = "closest"
    return chart


def pending(steps: Sequence[Step]) -> Chart:
    """Messages that await their ack, the peak of each step, against the window's limit."""
    x = _times(steps)
    data = [line("pending, peak", x, [s.pending_max for s in steps], COLOURS["acked"]) | {"fill": "tozeroy"}]
    data[0]["fillcolor"] = "rgba(0,114,178,0.2)"
    chart = chart_of("Pending", "messages awaiting their ack", data)
    limit = steps[-1].max_pending if steps else 0
    if limit and max(s.pending_max for s in steps) > limit / 5:  # else the line would press the figures flat
        level(chart, limit, f"window limit {limit:,}")
    return chart


def oldest_age(steps: Sequence[Step], ack_timeout_s: float | None) -> Chart:
    """How long the oldest pending message waits, and how long publishers wait for room."""
    x = _times(steps)
    oldest = [step.oldest_pending_age_max_s for step in steps]
    data = [line("oldest pending, peak", x, oldest, COLOURS["acked"])]
    if any(step.stalled_s for step in steps):
        stalled = [step.per_second(step.stalled_s) for step in steps]
        data.append(line("stalled, s per s", x, stalled, COLOURS["duplicate"], dash="dot"))
    chart = chart_of("Oldest pending message", "s", data)
    if ack_timeout_s and max(oldest, default=0.0) > ack_timeout_s / 5:
        level(chart, ack_timeout_s, f"ack timeout {ack_timeout_s:g} s")
    return chart


def lag(steps: Sequence[Step]) -> Chart:
    """The measurement's own doubt: how late the event loop and the schedule were."""
    x = _times(steps)
    data = [line("event loop, peak", x, [_ms(s.loop_lag_max_s) for s in steps], COLOURS["pending"])]
    if any(step.schedule_lag_max_s for step in steps):
        values = [_ms(step.schedule_lag_max_s) for step in steps]
        data.append(line("schedule, peak", x, values, COLOURS["scheduled"]))
    return chart_of("Lag of the load itself", "ms", data)


def comparison_charts(runs: Mapping[str, Sequence[Step]], ack: Mapping[str, LatencyHistogram]) -> dict[str, Chart]:
    """Charts of several runs beside each other, by name, aligned at their beginnings. runs: by the label to show."""
    sides = list(zip(runs.items(), RUN_COLOURS * 9, strict=False))

    def over(title: str, sub: str, value: Any, *, log: bool = False) -> Chart:
        data = [line(label, _times(steps), [value(s) for s in steps], colour) for (label, steps), colour in sides]
        return chart_of(title, sub, data, log=log)

    colours = {plain_text(label): colour for (label, _), colour in sides}
    curve = percentile_curve(ack)
    for trace in curve["data"]:
        trace["line"]["color"] = colours[trace["name"]]  # a run without acks has no line here
    return {
        "fates": fates(runs),
        "sent": over("Sent", "messages/s", lambda s: s.per_second(s.sent)),
        "acked": over("Ack rate", "messages/s", lambda s: s.per_second(s.counts["acked"])),
        "p99": over("Ack latency p99", "ms, log scale", lambda s: _ms(s.ack.percentile_s(99)), log=True),
        "pending": over("Pending", "messages, peak", lambda s: s.pending_max),
        "failed": over(
            "Failures", "messages/s, rejected and unknown",
            lambda s: s.per_second(s.counts["rejected"] + s.counts["unknown"]),
        ),
        "percentiles": curve,
    }  # fmt: skip


def fates(runs: Mapping[str, Sequence[Step]]) -> Chart:
    """What became of the messages that each run sent, as shares: a bar a run. Fates that never came are left out."""
    told = {label: _fates(steps) for label, steps in runs.items()}
    data: list[Chart] = []
    for fate, colour in _FATES.items():
        counts = [found[fate] for found in told.values()]
        if any(counts):
            shares = [count / max(1, sum(found.values())) for count, found in zip(counts, told.values(), strict=True)]
            data.append(
                {
                    "type": "bar", "orientation": "h", "name": fate, "y": list(map(plain_text, told)), "x": shares,
                    "customdata": counts, "marker": {"color": colour},
                    "hovertemplate": "%{customdata:,} messages, %{x:.2%}",
                }
            )  # fmt: skip
    chart = chart_of("What became of the messages", "shares", data)
    chart["layout"] |= {"barmode": "stack", "hovermode": "closest", "bargap": 0.35}
    chart["layout"]["xaxis"] |= {"ticksuffix": "", "tickformat": ".0%", "range": [0, 1], "dtick": 0.25}
    chart["layout"]["yaxis"] = {"automargin": True, "autorange": "reversed", "ticksuffix": " "}
    return chart


def _fates(steps: Sequence[Step]) -> dict[str, int]:
    total = {name: sum(outcomes(step)[name] for step in steps) for name in OUTCOMES}
    total["unknown"] = max(0, total["unknown"] - total["acked late"])
    sent_blind = sum(step.counts["unacknowledged"] for step in steps)
    open_still = steps[-1].pending if steps else 0
    return total | {"no ack asked for": sent_blind, "pending at the end": open_still}


def latency_thresholds(verdict: Mapping[str, Any] | None) -> list[tuple[str, float]]:
    """Of a verdict's rows, those that bound an ack latency: a label and seconds."""
    found = []
    for row in (verdict or {}).get("rows", ()):
        match, threshold = _THRESHOLD.match(str(row.get("text", ""))), row.get("threshold")
        if match and isinstance(threshold, int | float):
            found.append((f"p{match[1]} {threshold * 1e3:g} ms", float(threshold)))
    return found


def _mark(chart: Chart, events: Iterable[BusEvent], started_wall_s: float, steps: Sequence[Step]) -> None:
    """Dashed lines where something happened, and where the warm-up ended."""
    last_s = steps[-1].end_s if steps else 0.0
    told = [
        event for event in events if event.kind in _MARKS and FIRST_MARK_S < event.wall_s - started_wall_s <= last_s
    ]
    for event in told[:MAX_MARKS]:
        colour = COLOURS["acked late"] if event.kind is EventKind.CONNECTED else COLOURS["unknown"]
        upright(chart, event.wall_s - started_wall_s, colour, str(event.kind).replace("_", " "))
    warm_s = max((step.end_s for step in steps if step.warming_up), default=None)
    if warm_s is not None:
        upright(chart, warm_s, COLOURS["pending"], "end of warm-up")


def _times(steps: Sequence[Step]) -> list[float]:
    return [round(step.end_s, 3) for step in steps]


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else float(f"{seconds * 1e3:.5g}")


def _by_eighth(histogram: LatencyHistogram) -> dict[int, int]:
    """Counts by eighths of a doubling: eight buckets of the histogram each."""
    cells: dict[int, int] = {}
    for index, count in histogram.counts.items():
        cells[index // 8] = cells.get(index // 8, 0) + count
    return cells


def _eighth_ms(row: int) -> float:
    return (bucket_bounds_ns(row * 8)[0] + bucket_bounds_ns(row * 8 + 7)[1]) / 2e6
