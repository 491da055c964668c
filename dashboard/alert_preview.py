"""What a rule would have done in a run: its value over time, and when it would have fired. Pure; without Streamlit.

Computed by the engine that runs use, from the samples that the store keeps.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dashboard import style
from eventbus.alerts import AlertEngine, AlertPhase, AlertRule, Comparison, History

MAX_SAMPLES = 5_000
"""The newest so many samples of a run are looked at: some 20 minutes, in about a second."""
MAX_POINTS = 300
"""Points of a line of the chart; each is the most extreme of its share, so that no peak is lost."""
FIRING, PENDING = style.UNKNOWN, style.DUPLICATE
Option = dict[str, Any]
Point = tuple[float, float | None, float | None]
"""Wall time in seconds since the epoch, value, threshold."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A time in which the alert would have been pending, or firing for people (recovering included)."""

    firing: bool
    from_s: float
    to_s: float


@dataclass(frozen=True, slots=True)
class Preview:
    """points: in time order, at most 300. peak: the value that came closest to firing, None without any.

    samples: how many were looked at.
    """

    rule: AlertRule
    points: Sequence[Point] = ()
    stretches: Sequence[Stretch] = ()
    peak: float | None = None
    samples: int = 0

    @property
    def firings(self) -> Sequence[Stretch]:
        return [stretch for stretch in self.stretches if stretch.firing]

    @property
    def firing_s(self) -> float:
        """How long it would have fired in all."""
        return sum(stretch.to_s - stretch.from_s for stretch in self.firings)


def preview(rule: AlertRule, samples: Iterable[Any]) -> Preview:
    """``rule`` over ``samples`` (Sample, in time order), as the run would have evaluated it; nothing inhibits it."""
    engine = AlertEngine([replace(rule, inhibited_by=())])
    history = History.covering([rule.expression])
    points: list[Point] = []
    turns: list[tuple[float, AlertPhase]] = []
    measuring = False
    for sample in samples:
        if not measuring and not sample.warming_up:
            measuring = True
            history.begin(sample)
        history.add(sample)
        for change in engine.evaluate(history, sample.elapsed_s, sample.wall_s):
            turns.append((change.wall_s, AlertPhase(change.state)))
        state = engine.states()[0]
        points.append((sample.wall_s, state.value, state.threshold))
    extreme = max if rule.fires_above else min
    values = [value for _, value, _ in points if value is not None]
    return Preview(
        rule=rule,
        points=_thinned(points, extreme),
        stretches=_stretches(turns, points[-1][0]) if points else (),
        peak=extreme(values) if values else None,
        samples=len(points),
    )


def verdict(seen: Preview) -> str:
    """What the chart shows, in a sentence."""
    shown = seen.rule.expression.shown
    if not seen.samples:
        return "The run has no samples yet."
    if seen.firings:
        times = len(seen.firings)
        often = "once" if times == 1 else f"{times} times"
        return f"Would have fired {often}, for {style.duration(max(seen.firing_s, 0.25))} in all."
    if seen.peak is None:
        return "Would not have fired: the expression says nothing in this run."
    which = "highest" if seen.rule.fires_above else "lowest"
    waited = "" if not seen.stretches else ", though it held for a while (pending)"
    return f"Would not have fired{waited}; the {which} value was {shown(seen.peak)}."


def option(seen: Preview) -> Option:
    """The chart: the left side as a line, the right side dashed, where to clear dotted, stretches as bands."""
    comparison = seen.rule.expression
    peak = max(
        [abs(one) for _, value, limit in seen.points for one in (value, limit) if one is not None]
        + [abs(one) for one in (comparison.constant, seen.rule.clear) if one is not None],
        default=0.0,
    )
    factor, unit = _scale(comparison, peak)
    measured = comparison.constant is None
    rows = [
        [round(wall_s * 1000), _scaled(value, factor), *([_scaled(limit, factor)] if measured else [])]
        for wall_s, value, limit in seen.points
    ]
    names = ["value", *(["threshold"] if measured else [])]
    series = [_line("value", style.ACKED, "solid") | _marks(seen, factor)]
    if measured:
        series.append(_line("threshold", style.UNKNOWN, "dashed"))
    return {
        "animation": False,
        "dataset": {"dimensions": ["time", *names], "source": rows},
        "grid": {"left": 66, "right": 20, "top": 28, "bottom": 22, "outerBoundsMode": "none"},
        "legend": {"show": measured, "top": 0, "left": 0, "itemHeight": 8, "selectedMode": False},
        "tooltip": {
            "trigger": "axis",
            "valueFormatter": f"%,.4g{' ' if unit else ''}{unit.replace('%', '%%')}",
            "confine": True,
        },
        "xAxis": {
            "type": "time",
            "splitNumber": 3,
            "splitLine": {"show": False},
            "axisLabel": {"formatter": "{HH}:{mm}:{ss}", "hideOverlap": True, "showMinLabel": False},
        },
        "yAxis": {
            "type": "value",
            "min": 0 if all(value is None or value >= 0 for _, value, _ in seen.points) else None,
            "max": peak * factor * 1.2 or 1,
            "splitNumber": 4,
            "axisLabel": {"formatter": f"{{value}} {unit}".strip(), "hideOverlap": True, "showMaxLabel": False},
        },
        "series": series,
    }


def _line(name: str, colour: str, dash: str) -> Option:
    return {
        "type": "line",
        "name": name,
        "symbol": "none",
        "color": colour,
        "lineStyle": {"width": 1.8, "type": dash, "color": colour},
        "encode": {"x": "time", "y": name},
    }


def _marks(seen: Preview, factor: float) -> Option:
    """Level lines for threshold and clear, upright ones where it begins to fire, and bands for how long."""
    comparison, clear = seen.rule.expression, seen.rule.clear
    levels: list[Option] = []
    if comparison.constant is not None:
        levels.append(
            _level(
                comparison.constant * factor, f"fires {comparison.op} {comparison.shown(comparison.constant)}", "dashed"
            )
        )
    if clear is not None:
        levels.append(_level(clear * factor, f"clear {comparison.shown(clear)}", "dotted", below=True))
    begins = [
        {
            "xAxis": round(stretch.from_s * 1000),
            "lineStyle": {"color": FIRING, "type": "solid", "width": 1.5},
            "label": {"show": True, "formatter": "▲ fires" if number == 0 else "▲", "position": "end", "color": FIRING},
        }
        for number, stretch in enumerate(seen.firings)
    ]
    bands = [
        [
            {
                "xAxis": round(stretch.from_s * 1000),
                "itemStyle": {"color": FIRING if stretch.firing else PENDING, "opacity": 0.22},
            },
            {"xAxis": round(stretch.to_s * 1000)},
        ]
        for stretch in seen.stretches
    ]
    return {
        "markLine": {"silent": True, "symbol": "none", "animation": False, "data": [*levels, *begins]},
        "markArea": {"silent": True, "animation": False, "data": bands},
    }


def _level(at: float, text: str, dash: str, *, below: bool = False) -> Option:
    return {
        "yAxis": at,
        "lineStyle": {"color": style.UNKNOWN, "type": dash, "width": 1.5},
        "label": {
            "formatter": text,
            "position": "insideEndBottom" if below else "insideStartTop",
            "color": style.UNKNOWN,
        },
    }


def _scale(comparison: Comparison, peak: float) -> tuple[float, str]:
    """What to multiply values with, and the unit that they then have."""
    if comparison.unit == "s":
        return (1.0, "s") if peak >= 1 else (1e3, "ms") if peak >= 1e-3 else (1e6, "µs")
    if comparison.unit == "ratio":
        return 100.0, "%"
    if comparison.unit == "B":
        sizes = ((1024.0**3, "GiB"), (1024.0**2, "MiB"), (1024.0, "KiB"))
        return next(((1 / size, name) for size, name in sizes if peak >= size), (1.0, "B"))
    return 1.0, comparison.unit if comparison.unit != "?" else ""


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else float(f"{value * factor:.5g}")


def _stretches(turns: Sequence[tuple[float, AlertPhase]], end_s: float) -> list[Stretch]:
    found: list[Stretch] = []
    ends = [*(wall_s for wall_s, _ in turns), end_s][1:]
    for (from_s, phase), to_s in zip(turns, ends, strict=True):
        if not (phase.fires or phase is AlertPhase.PENDING):
            continue
        last = found[-1] if found else None
        if last is not None and last.firing is phase.fires and last.to_s == from_s:
            found[-1] = replace(last, to_s=to_s)  # it recovers, or fires again
        else:
            found.append(Stretch(phase.fires, from_s, to_s))
    return found


def _thinned(points: Sequence[Point], extreme: Any) -> list[Point]:
    """At most MAX_POINTS: of each share the one whose value is the most extreme, at its own time."""
    step = -(-len(points) // MAX_POINTS)
    if step <= 1:
        return list(points)
    shares = [points[at : at + step] for at in range(0, len(points), step)]
    return [
        extreme((point for point in share if point[1] is not None), key=lambda point: point[1], default=share[0])
        for share in shares
    ]
