"""The result as one picture: throughput, CPU per message, ack latency. Needs matplotlib, and no browser."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.catalog import Race

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Row = dict[str, Any]

_OURS, _THEIRS, _FLOOR, _TEXT, _GRID = "#0072B2", "#E69F00", "#8C929B", "#17212B", "#D5DCE4"


def missing() -> str | None:
    """Why there can be no picture, or None if there can."""
    return None if importlib.util.find_spec("matplotlib") else "no plot: `pip install matplotlib`"


def draw(race: Race, rows: Sequence[Row], settings: dict[str, Any], machine: str, path: Path) -> None:
    """Write the picture to ``path``; its suffix says the format (.svg, .png, .pdf)."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    rows = [row for row in reversed(rows) if row["messages_per_s"]]
    with mpl.rc_context({"text.color": _TEXT, "font.size": 9, "svg.fonttype": "path", "svg.hashsalt": "benchmarks"}):
        figure = Figure(figsize=(12, 1.6 + 0.32 * len(rows)), layout="constrained", facecolor="white")
        speed, cpu, latency = figure.subplots(1, 3, width_ratios=[3, 2, 2])
        for axes in (speed, cpu, latency):
            _dress(axes, len(rows))
        speed.set_yticks(range(len(rows)), [_name(race, row) for row in rows])
        _bars(speed, rows, "messages_per_s", "messages per second, thousands", _thousands)
        speed.xaxis.set_major_formatter(_thousands)
        _bars(cpu, rows, "cpu_us_per_message", "CPU per message, µs", "{:.1f}".format)
        _latency(latency, rows, settings["rate"])
        figure.suptitle(
            f"{race.title}: {settings['payload_bytes']}-byte messages, window {settings['window']:,}, "
            f"{settings['setup']}",
            x=0.01, ha="left", fontsize=11, fontweight="bold",
        )  # fmt: skip
        figure.supxlabel(
            f"Median of {settings['rounds']} interleaved rounds, whiskers from least to most. {machine}",
            x=0.01, ha="left", fontsize=7,
        )  # fmt: skip
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150, metadata={"Date": None} if path.suffix == ".svg" else None)


def _name(race: Race, row: Row) -> str:
    traits = [] if row["loop"] == "asyncio" else [row["loop"]]
    if not row["acknowledged"]:
        traits.append("not acked")
    elif race.has_ids and not row["message_ids"]:
        traits.append("no ids")
    return f"{row['label']} ({', '.join(traits)})" if traits else str(row["label"])


def _thousands(value: float, place: int = 0) -> str:
    return f"{value / 1000:,.1f}" if 0 < value < 20_000 else f"{value / 1000:,.0f}"


def _colour(row: Row) -> str:
    if row["name"].startswith("floor"):
        return _FLOOR
    return _OURS if row["label"].startswith("AckScope") else _THEIRS


def _dress(axes: Axes, rows: int) -> None:
    axes.set_axisbelow(True)
    axes.grid(axis="x", color=_GRID, linewidth=0.6)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.spines["bottom"].set_color(_GRID)
    axes.tick_params(which="both", length=0, labelsize=8)
    axes.tick_params(axis="y", labelsize=9)
    axes.set_yticks(range(rows), [""] * rows)
    axes.set_ylim(-0.6, rows - 0.4)


def _bars(axes: Axes, rows: Sequence[Row], name: str, title: str, form: Callable[[float], str]) -> None:
    values = [row[name]["median"] for row in rows]
    below = [row[name]["median"] - row[name]["min"] for row in rows]
    above = [row[name]["max"] - row[name]["median"] for row in rows]
    axes.barh(
        range(len(rows)), values, color=[_colour(row) for row in rows], height=0.66,
        xerr=[below, above], error_kw={"elinewidth": 1, "ecolor": _TEXT, "capsize": 2},
    )  # fmt: skip
    furthest = max(row[name]["max"] for row in rows)
    for place, row in enumerate(rows):
        axes.text(row[name]["max"] + furthest * 0.015, place, form(row[name]["median"]), va="center", fontsize=8)
    axes.set_xlim(0, furthest * 1.18)
    axes.set_title(title, loc="left", fontsize=9)


def _latency(axes: Axes, rows: Sequence[Row], rate: float) -> None:
    """A line from p50 to p99 for each contestant that keeps the rate."""
    axes.set_title(f"ms to ack at {rate:,.0f} msg/s: ● p50, | p99", loc="left", fontsize=9)
    timed = [(place, row) for place, row in enumerate(rows) if row["p50_ms"]]
    if not timed:
        return
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    for place, row in timed:
        p50, p99 = row["p50_ms"]["median"], row["p99_ms"]["median"]
        axes.plot([p50, p99], [place, place], color=_colour(row), linewidth=2.5, solid_capstyle="butt")
        axes.plot([p50], [place], marker="o", markersize=6, color=_colour(row))
        axes.plot([p99], [place], marker="|", markersize=11, markeredgewidth=2.5, color=_colour(row))
        axes.text(p99 * 1.12, place, f"{p50:.2f} | {p99:.2f}", va="center", fontsize=8)
    lowest, highest = min(row["p50_ms"]["median"] for _, row in timed), max(r["p99_ms"]["median"] for _, r in timed)
    axes.set_xlim(lowest / 1.4, highest * 5)
