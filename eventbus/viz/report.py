"""One HTML file of a run, or of several beside each other: charts, tables, verdict. Pure.

The file needs nothing else: Plotly's script is in it once, it asks no network (a Content-Security-Policy says so to the
browser), and every foreign text is escaped. Light or dark is the reader's choice, by the system or by the button.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from eventbus.errors import ConfigError
from eventbus.event import BusEvent
from eventbus.observe.run import AlertChange, FailureGroup, RunInfo
from eventbus.viz.chart import BRIGHTER, THEMES, Chart, themed
from eventbus.viz.figures import comparison_charts, run_charts
from eventbus.viz.page import SCRIPT, STYLE
from eventbus.viz.steps import Step
from eventbus.viz.summary import FIGURES, Change, RunSummary, change
from eventbus.viz.table import pairs_of, table_of
from eventbus.viz.words import NOTHING, duration_text, figure_text, percent_text, relative_text, time_text, verdict_text

_POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:"
_SIGNS = {True: "✓", False: "✗", None: NOTHING}
_CARDS = (
    "acked_per_s",
    "failed_ratio",
    "ack_latency_p50_s",
    "ack_latency_p99_s",
    "scheduled_latency_p99_s",
    "pending_max",
)


@dataclass(frozen=True, slots=True)
class RunFacts:
    """All that a report tells of one run."""

    info: RunInfo
    summary: RunSummary
    steps: Sequence[Step]
    events: Sequence[BusEvent] = ()
    alerts: Sequence[AlertChange] = ()
    failures: Sequence[FailureGroup] = ()
    version: str = field(default="", kw_only=True)

    @property
    def title(self) -> str:
        """Its name, or its id where it has none."""
        return self.info.name or self.info.run_id


def run_page(facts: RunFacts) -> str:
    """The report of one run as HTML. Raises ConfigError where Plotly is missing."""
    info = facts.info
    timeout = info.settings.get("ack_timeout_s")
    charts = run_charts(
        facts.steps,
        ack=facts.summary.ack,
        scheduled=facts.summary.scheduled,
        events=facts.events,
        started_wall_s=info.started_wall_s,
        ack_timeout_s=timeout if isinstance(timeout, int | float) else None,
        verdict=info.verdict,
    )
    parts = [
        _header(facts),
        _cards(facts.summary),
        _verdict(info.verdict),
        _charts(charts),
        _failures(facts.failures),
        _totals(facts.summary),
        _alerts(facts.alerts, info.started_wall_s),
        _events(facts.events, info.started_wall_s),
        _values("Plan", info.settings),
        _values("Environment", info.environment),
    ]
    return _page(facts.title, parts, charts, facts.version)


def comparison_page(runs: Sequence[RunFacts]) -> str:
    """Runs beside each other, aligned at their beginnings; the first is what the others are compared with."""
    labels = [f"{number}. {facts.title}" for number, facts in enumerate(runs, 1)]
    charts = comparison_charts(
        {label: facts.steps for label, facts in zip(labels, runs, strict=True)},
        {label: facts.summary.ack for label, facts in zip(labels, runs, strict=True)},
    )
    title = " · ".join(facts.title for facts in runs)
    lines = "".join(
        f"<p class=sub>{escape(label)}: {_where(facts.info)}</p>" for label, facts in zip(labels, runs, strict=True)
    )
    parts = [
        f"<header><div><h1>Comparison</h1>{lines}</div>{_BUTTON}</header>",
        _compared(labels, runs),
        _charts(charts),
    ]
    return _page(f"Comparison: {title}", parts, charts, runs[0].version)


_BUTTON = "<button id=theme type=button aria-label='Change between light and dark'>◐</button>"


def _page(title: str, parts: Iterable[str], charts: Mapping[str, Chart], version: str) -> str:
    themes = {name: themed(name) for name in THEMES}
    return "\n".join(
        [
            "<!doctype html>",
            "<html lang=en>",
            "<head>",
            "<meta charset=utf-8>",
            f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
            "<meta name=viewport content='width=device-width, initial-scale=1'>",
            "<meta name=color-scheme content='light dark'>",
            f"<title>{escape(title)} · AckScope</title>",
            f"<style>{STYLE}</style>",
            "</head>",
            "<body><main>",
            *parts,
            f"<footer>AckScope {escape(version)}. Times in UTC. Figures leave the warm-up out.</footer>",
            "</main>",
            f"<script>{_plotly()}</script>",
            f"<script>const CHARTS = {script_json(charts)}, THEMES = {script_json(themes)},",
            f"  BRIGHTER = {script_json(BRIGHTER)};",
            f"{SCRIPT}</script>",
            "</body></html>",
            "",
        ]
    )


def script_json(value: Any) -> str:
    """JSON that is safe inside a script element; a float that JSON has no word for becomes null."""
    text = json.dumps(_finite(value), separators=(",", ":"), allow_nan=False, default=str)
    for sign in "<>&\u2028\u2029":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and (value != value or abs(value) == float("inf")) else value


def _plotly() -> str:
    try:
        from plotly.offline import get_plotlyjs
    except ImportError as error:
        raise ConfigError(f'a report needs {error.name or error}; pip install "ackscope[runs]"') from None
    return str(get_plotlyjs())


def _header(facts: RunFacts) -> str:
    info = facts.info
    badges = [
        _badge(str(info.status), {"finished": "good", "failed": "bad", "interrupted": "bad"}.get(info.status, ""))
    ]
    if info.verdict is not None:
        passed = info.verdict.get("passed")
        badges.append(_badge("✓ passed" if passed else "✗ failed", "good" if passed else "bad"))
    if info.baseline:
        badges.append(_badge("baseline", ""))
    error = f"<p class=error>✗ {escape(info.error)}</p>" if info.error else ""
    notes = f"<p class=notes>{escape(info.notes)}</p>" if info.notes else ""
    return (
        f"<header><div><h1>{escape(facts.title)} {' '.join(badges)}</h1><p class=sub>{_where(info)}</p>{error}{notes}"
        f"</div>{_BUTTON}</header>"
    )


def _where(info: RunInfo) -> str:
    end = NOTHING if info.ended_wall_s is None else duration_text(info.ended_wall_s - info.started_wall_s)
    words = [info.topic, f"on {info.url}", time_text(info.started_wall_s), f"took {end}"]
    if info.name:
        words.append(f"run {info.run_id}")
    return " · ".join(map(escape, words))


def _badge(text: str, kind: str) -> str:
    return f"<span class='badge {kind}'>{escape(text)}</span>"


def _cards(summary: RunSummary) -> str:
    cells = []
    for figure in FIGURES:
        if figure.name in _CARDS and (value := figure.value(summary)) is not None:
            text = figure_text(value, figure.unit)
            cells.append(f"<div class=card><span>{escape(figure.label)}</span><b>{escape(text)}</b></div>")
    return f"<section class=cards>{''.join(cells)}</section>"


def _verdict(verdict: Mapping[str, Any] | None) -> str:
    if not verdict:
        return ""
    rows = []
    for row in verdict.get("rows", ()):
        passed = row.get("passed")
        kind = {True: "good", False: "bad"}.get(passed, "")
        told = [verdict_text(str(row.get("text", "")), row.get(name)) for name in ("value", "threshold")]
        sign = f"<b class={kind or 'none'}>{_SIGNS.get(passed, NOTHING)}</b>"
        rows.append([sign, f"<code>{escape(str(row.get('text', '')))}</code>", *map(escape, told)])
    return table_of("Thresholds", ("", "expression", "value", "limit"), rows, right=(2, 3))


def _charts(charts: Mapping[str, Chart]) -> str:
    if not charts:
        return "<p class=empty>No samples were kept of this run.</p>"
    last_alone = (len(charts) - ("heatmap" in charts)) % 2 == 1
    boxes = []
    for name in charts:
        full = name == "heatmap" or (last_alone and name == list(charts)[-1])
        boxes.append(f"<figure id='chart-{escape(name)}' class='chart{' full' if full else ''}'></figure>")
    return f"<section class=charts>{''.join(boxes)}</section>"


def _failures(groups: Sequence[FailureGroup]) -> str:
    total = sum(group.count for group in groups)
    rows = [
        [
            escape(group.outcome),
            escape(group.kind.replace("_", " ") or NOTHING),
            escape(group.topic),
            escape(group.text),
            f"{group.count:,}",
            percent_text(group.count / total),
            time_text(group.first_wall_s)[11:19],
            time_text(group.last_wall_s)[11:19],
            f"<code>{escape(group.message_id)}</code>"
            + (f"<br><code>{escape(group.trace_id)}</code>" if group.trace_id else ""),
        ]
        for group in groups
    ]
    head = ("outcome", "kind", "topic", "text", "messages", "share", "first", "last", "newest message id, trace id")
    return table_of("Failures", head, rows, right=(4, 5))


def _totals(summary: RunSummary) -> str:
    pairs = [
        (figure.label, figure_text(figure.value(summary), figure.unit))
        for figure in FIGURES
        if figure.value(summary) is not None
    ]
    pairs += [(f"error: {kind.replace('_', ' ')}", f"{count:,} attempts") for kind, count in summary.errors.items()]
    return pairs_of("Figures", pairs)


def _alerts(alerts: Sequence[AlertChange], started_wall_s: float) -> str:
    rows = [
        [
            _at(alert.wall_s, started_wall_s),
            escape(("▲ " if alert.firing else "✓ ") + (alert.state or ("firing" if alert.firing else "resolved"))),
            escape(alert.rule),
            escape(alert.severity),
            escape(verdict_text("", alert.value)),
            escape(alert.text + (f" (muted: {alert.muted})" if alert.muted else "")),
        ]
        for alert in alerts
    ]
    return table_of("Alerts", ("time", "state", "rule", "severity", "value", "text"), rows, right=(4,))


def _events(events: Sequence[BusEvent], started_wall_s: float) -> str:
    rows = [
        [_at(event.wall_s, started_wall_s), escape(str(event.kind).replace("_", " ")), escape(event.text)]
        for event in events
    ]
    return table_of("Events", ("time", "what", "text"), rows)


def _at(wall_s: float, started_wall_s: float) -> str:
    return f"{time_text(wall_s)[11:19]} <span class=sub>+{wall_s - started_wall_s:.1f} s</span>"


def _values(title: str, values: Mapping[str, Any]) -> str:
    pairs = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            pairs += [(f"{name}: {inner}", _shown(of_it)) for inner, of_it in value.items()]
        elif value not in (None, "", [], ()):
            pairs.append((str(name), _shown(value)))
    return pairs_of(title, pairs)


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _compared(labels: Sequence[str], runs: Sequence[RunFacts]) -> str:
    signs = {Change.BETTER: "▲ better", Change.WORSE: "▼ worse"}
    rows = []
    for figure in FIGURES:
        values = [figure.value(facts.summary) for facts in runs]
        if all(value is None or value == 0 for value in values):
            continue
        cells = [escape(figure.label), escape(figure_text(values[0], figure.unit))]
        for value in values[1:]:
            found = change(figure, values[0], value)
            kind = {Change.BETTER: "good", Change.WORSE: "bad"}.get(found, "sub")
            told = relative_text(values[0], value, figure.unit)
            judged = f"<span class={kind}>{escape(told)} {signs.get(found, '')}</span>"
            cells.append(f"{escape(figure_text(value, figure.unit))} {judged}")
        rows.append(cells)
    return table_of("Figures", ("figure", *map(escape, labels)), rows, right=tuple(range(1, len(runs) + 1)))
