"""Chart: what all charts are made of, as Plotly's JSON: a dict of data and layout, which needs no Plotly to be made.

Colours are Okabe and Ito's, one for each outcome everywhere. Backgrounds are clear, so that a chart stands on a light
page and on a dark one; what differs between the two is in THEMES and BRIGHTER.
"""

from __future__ import annotations

import html
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from eventbus.errors import ConfigError

if TYPE_CHECKING:
    import plotly.graph_objects as go

Chart = dict[str, Any]

COLOURS = {
    "acked": "#0072B2",
    "duplicate": "#E69F00",
    "acked late": "#009E73",
    "rejected": "#CC79A7",
    "unknown": "#D55E00",
    "retry": "#56B4E9",
    "offered": "#8C929B",
    "sent": "#56B4E9",
    "pending": "#8C929B",
    "limit": "#D55E00",
    "scheduled": "#E69F00",
}
THEMES: Mapping[str, Mapping[str, str]] = {
    "light": {"text": "#0E161E", "grid": "#E3E8EE", "page": "#FFFFFF"},
    "dark": {"text": "#E8EDF2", "grid": "#2B3744", "page": "#0E141B"},
}
BRIGHTER = {"#0072B2": "#3D9FDE", "rgba(0,114,178,": "rgba(61,159,222,"}
"""On a dark page the palette's blue is hard to see."""
_HEIGHT = 300


def chart_of(title: str, subtitle: str, data: list[Chart], *, log: bool = False) -> Chart:
    """Traces under a title; the subtitle says what is measured. log: of the y axis, which else begins at 0."""
    axis: dict[str, Any] = {"zeroline": False, "automargin": True, "ticksuffix": " "}
    axis |= {"type": "log", "dtick": _log_step(data), "exponentformat": "none"} if log else {"rangemode": "tozero"}
    layout = {
        "title": {
            "text": f"<b>{title}</b>" + (f"  <span style='font-size:12px'>{subtitle}</span>" if subtitle else ""),
            "x": 0.01, "xanchor": "left", "y": 0.97, "yanchor": "top", "font": {"size": 15},
        },
        "height": _HEIGHT,
        "margin": {"l": 56, "r": 24, "t": 44, "b": 32},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "font": {"family": "system-ui, sans-serif", "size": 12},
        # Below: names can be long and pages narrow, and above the plot they would lie over the title.
        "legend": {"orientation": "h", "x": 0, "xanchor": "left", "y": -0.14, "yanchor": "top"},
        "showlegend": True,
        "hovermode": "x unified",
        "xaxis": {"ticksuffix": " s", "zeroline": False, "showgrid": False},
        "yaxis": axis,
    }  # fmt: skip
    if data and data[0]["type"] == "heatmap":
        layout["showlegend"] = False
    return {"data": data, "layout": layout}


def _log_step(data: Sequence[Chart]) -> int | str:
    """Ticks of a log axis: its decades; where it has hardly two, 2 and 5 between them as well."""
    values = [y for trace in data for y in trace["y"] if y is not None and y > 0]
    return 1 if values and max(values) / min(values) > 100 else "D2"


def line(name: str, x: Sequence[float], y: Sequence[float | None], colour: str, dash: str = "solid") -> Chart:
    """A line of a colour and style; None leaves a gap."""
    return {
        "type": "scatter",
        "mode": "lines",
        "name": plain_text(name),
        "x": list(x),
        "y": list(y),
        "line": {"color": colour, "width": 2, "dash": dash},
        "hovertemplate": "%{y:,.4~g}",
    }


def level(chart: Chart, value: float, label: str, *, log: bool = False) -> None:
    """A line across, with its name at the right; the axis reaches it."""
    style = {"color": COLOURS["limit"], "width": 1.5, "dash": "dash"}
    shape = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": value, "y1": value, "line": style}
    shape["label"] = {
        "text": plain_text(label), "textposition": "end", "yanchor": "bottom", "font": {"color": COLOURS["limit"]},
    }  # fmt: skip
    chart["layout"].setdefault("shapes", []).append(shape)
    known = [y for trace in chart["data"] for y in trace["y"] if y is not None]
    axis = chart["layout"]["yaxis"]
    if not log:
        axis["range"] = [0, max([value, *known]) * 1.12]
    elif value > 0:
        low, high = (find([value, *(y for y in known if y > 0)]) for find in (min, max))
        before = axis.get("range", [math.inf, -math.inf])  # of another line
        axis["range"] = [min(math.log10(low) - 0.1, before[0]), max(math.log10(high) + 0.25, before[1])]
        axis["dtick"] = 1 if high > 100 * low else "D2"


def upright(chart: Chart, at_s: float, colour: str, label: str) -> None:
    """A line from bottom to top, with its name along it, inside the plot: above it is the legend."""
    style = {"color": colour, "width": 1, "dash": "dot"}
    shape = {"type": "line", "yref": "paper", "x0": at_s, "x1": at_s, "y0": 0, "y1": 1, "line": style}
    name = {
        "text": plain_text(label), "x": at_s, "xanchor": "right", "yref": "paper", "y": 0.98, "yanchor": "top",
        "textangle": -90, "showarrow": False, "font": {"size": 10, "color": colour},
    }  # fmt: skip
    chart["layout"].setdefault("shapes", []).append(shape)
    chart["layout"].setdefault("annotations", []).append(name)


def as_figure(chart: Chart, theme: str | None = None) -> go.Figure:
    """A go.Figure of a chart. theme: "light" or "dark"; None for Plotly's own. ConfigError where Plotly is missing."""
    try:
        import plotly.graph_objects as go
    except ImportError as error:
        raise ConfigError(f'a figure needs {error.name or error}; pip install "ackscope[runs]"') from None
    if theme == "dark":
        text = json.dumps(chart)
        for colour, brighter in BRIGHTER.items():
            text = text.replace(colour, brighter)
        chart = json.loads(text)
    figure = go.Figure(data=chart["data"], layout=chart["layout"])
    if theme is not None:
        figure.update_layout(themed(theme) | {"paper_bgcolor": THEMES[theme]["page"]})
    return figure


def themed(theme: str) -> dict[str, Any]:
    """What a layout gets for a page of that theme, "light" or "dark": names as Plotly.relayout takes them."""
    colours = THEMES[theme]
    axes = {f"{axis}.{name}": colours["grid"] for axis in ("xaxis", "yaxis") for name in ("gridcolor", "linecolor")}
    return {
        "font.color": colours["text"],
        "hoverlabel.bgcolor": colours["page"],
        "hoverlabel.font.color": colours["text"],
        **axes,
    }


def plain_text(text: str) -> str:
    """Foreign text for a chart: Plotly reads tags in it."""
    return html.escape(text, quote=False)
