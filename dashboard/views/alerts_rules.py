"""The rules of the next run: a table, a form for each, and what a rule would have done in the chosen run."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from dashboard import alert_edits, alert_preview, alert_rules, style, widgets
from dashboard.alert_drafts import Checked, Draft, brief, caret, check
from dashboard.alert_rules import AlertFile, Listed, Origin
from dashboard.alert_states import SIGNS
from dashboard.source import RunSource
from dashboard.views import alerts_notice, run_choice
from dashboard.views.alerts_rule_form import rule_form
from eventbus.alerts import AlertRule
from eventbus.alerts.quantity import duration_text
from eventbus.errors import ConfigError
from eventbus.observe.run import RunInfo, StoreError

NEW = ""
"""In the list: a rule that does not exist yet."""
CHART_HEIGHT = 230
EXAMPLES = "\n".join(
    [
        ":gray[Here stands, as soon as the expression can be read, what it would have done in this run. As in:]\n",
        "- `p99(ack_latency, 10s) > 250ms` &nbsp;:gray[acks are slow]",
        "- `ratio(failed, settled, 1m) > 1%` &nbsp;:gray[messages are lost]",
        "- `rate(acked, 10s) < 95% * rate(offered, 10s)` &nbsp;:gray[acks fall behind]",
        "- `pending >= 90% * window_limit` &nbsp;:gray[the window fills]",
        "- `increase(ack_timeouts, 1m) > 0 and connected == 1` &nbsp;:gray[both at the same time]",
    ]
)
"""What to type, where nothing was typed yet; each can be read."""
_REVISION, _NEXT = "alert_form", "alert_rule_next"
"""Session state: counted up with each save, so that the form begins again with what is kept; the rule to show then."""


def rules_tab(source: RunSource, control: run_choice.Control, path: Path) -> None:
    """Draw the tab. Nothing in it draws itself again: who types is left in peace."""
    try:
        file = alert_rules.read(path)
    except ConfigError as error:
        file_trouble(path, error)
        return
    alerts_notice.tell()
    listed = file.listed()
    _table(listed)
    names = [one.rule.name for one in listed]
    if _NEXT in st.session_state:
        st.session_state["alert_rule"] = st.session_state.pop(_NEXT)
    if st.session_state.get("alert_rule") not in (None, NEW, *names):
        st.session_state["alert_rule"] = NEW  # somebody else deleted it
    chosen = st.selectbox(
        "Rule to edit",
        [NEW, *names],
        format_func=lambda name: name or "New rule…",
        key="alert_rule",
        width=320,
        filter_mode="contains",
        help="A default rule that is changed stays changed until it is put back.",
    )
    of = next((one for one in listed if one.rule.name == chosen), None)
    left, right = st.columns([2, 3], gap="large")
    with left:
        draft, below = rule_form(of, names, st.session_state.get(_REVISION, 0))
        checked = check(draft, [name for name in names if of is None or name != of.rule.name])
        _problems(draft, checked, below)
        _actions(file, of, draft, checked)
    with right:
        _preview(source, control, checked)
    st.caption(f"Kept in `{str(path).replace('`', '')}`. What an expression can say: `docs/expressions.md`.")


def file_trouble(path: Path, error: ConfigError) -> None:
    """Tell that the file of rules and sinks cannot be used, and what to do."""
    st.error(
        f"{widgets.plain(str(error))}\n\nSet it right in an editor and reload the page, or move the file away to begin "
        "again with the default rules. Until then nothing is written to it.",
        title=f"{path.name} cannot be used",
        icon=":material/error:",
    )


def _table(listed: Sequence[Listed]) -> None:
    st.dataframe(
        [_row(one) for one in listed],
        key="alert_rules",
        height=246,
        hide_index=True,
        alt="Alert rules of the next run",
        column_config={
            "Used": st.column_config.TextColumn(width=65, help="Whether the next run gets it."),
            "Severity": st.column_config.TextColumn(width=95),
            "Rule": st.column_config.TextColumn(width=160),
            "Fires while": st.column_config.TextColumn(width=330),
            "For": st.column_config.TextColumn(width=70),
            "From": st.column_config.TextColumn(width=120),
        },
    )
    st.caption(
        "Default rules are shown for a window of 10,000 messages and an ack timeout of 5 s: each run gets them with "
        "limits that fit its own. Changes are used from the next run on."
    )


def _row(one: Listed) -> Mapping[str, Any]:
    rule = one.rule
    return {
        "Used": "✓ on" if one.on else "○ off",
        "Severity": f"{SIGNS.get(rule.severity, '•')} {rule.severity}",
        "Rule": rule.name,
        "Fires while": rule.expression.text,
        "For": duration_text(rule.for_s) if rule.for_s else "at once",
        "From": str(one.origin),
        "What it says": rule.summary,
    }


# ---- the form ---------------------------------------------------------------------------------------------------


_FIELDS = {
    "name": "Name",
    "when": "Fires while",
    "clear": "Over at",
    "for": "For",
    "keep_firing_for": "Keep firing",
    "repeat": "Told again each",
}


def _problems(draft: Draft, checked: Checked, below: DeltaGenerator) -> None:
    """What is wrong with the expression is told below it, with a mark at its place; the rest below the form."""
    if draft == Draft():
        return  # nobody has typed anything yet
    for name, problem in checked.problems.items():
        if name != "when" or not draft.when.strip():
            st.warning(f"**{_FIELDS.get(name, name)}:** {widgets.plain(problem)}", icon=":material/edit:")
            continue
        marked = caret(draft.when, problem)
        with below:
            if marked is not None:
                st.code(marked, language=None)
            st.warning(widgets.plain(brief(problem)), icon=":material/edit:")


def _actions(file: AlertFile, of: Listed | None, draft: Draft, checked: Checked) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        pressed = st.button(
            "Save",
            key="save_rule",
            type="primary",
            icon=":material/save:",
            disabled=checked.rule is None,
            help="Set right what is marked first." if checked.rule is None else "Used from the next run on.",
        )
        if of is not None and of.origin is not Origin.DEFAULT:
            what = "Delete" if of.origin is Origin.OWN else "Back to the default"
            with st.popover(what, icon=":material/delete:"):
                sure = st.button(f"{what}: {of.rule.name}", key="drop_rule", type="primary")
            if sure:
                _save(file, lambda: alert_edits.without_rule(file.text, of.rule.name), f"{what}: done.", _left(of))
    if pressed and checked.rule is not None:
        _save(file, lambda: _saved(file, of, draft), "Saved. The next run uses it.", draft.name.strip())


def _left(of: Listed) -> str:
    """What the list shows once the rule was dropped."""
    return NEW if of.origin is Origin.OWN else of.rule.name


def _saved(file: AlertFile, of: Listed | None, draft: Draft) -> str:
    """The file with ``draft``. A default rule that is only switched stays a default one, whose limits fit each run."""
    if of is not None and of.origin is Origin.DEFAULT and draft.table() == Draft.of(of.rule, draft.on).table():
        return alert_edits.with_switch(file.text, of.rule.name, draft.on)
    replaces = None if of is None else of.rule.name
    return alert_edits.with_rule(file.text, draft.table(), replaces=replaces, on=draft.on)


def _save(file: AlertFile, change: Callable[[], str], done: str, then: str) -> None:
    try:
        alert_edits.save(file, change())
    except ConfigError as error:
        st.error(widgets.plain(str(error)), title="Nothing was saved", icon=":material/error:")
        return
    st.session_state[_REVISION] = st.session_state.get(_REVISION, 0) + 1
    st.session_state[_NEXT] = then
    alerts_notice.note(done)
    st.rerun()


# ---- the preview ------------------------------------------------------------------------------------------------


def _preview(source: RunSource, control: run_choice.Control, checked: Checked) -> None:
    """What the rule would have done in the chosen run."""
    try:
        run = run_choice.choose(source, control)
        if run is None:
            return
        rule = checked.rule or _bare(checked)
        with st.container(border=True, gap="xsmall"):
            widgets.heading("Would it have fired?", rule.expression.text if rule else "")
            if rule is None:
                with st.container(height=CHART_HEIGHT, border=False):
                    st.markdown(EXAMPLES)
                return
            _drawn(run, alert_preview.preview(rule, source.each_sample(run.run_id, limit=alert_preview.MAX_SAMPLES)))
    except StoreError as error:
        run_choice.store_trouble(error)


def _bare(checked: Checked) -> AlertRule | None:
    """The expression alone, where something else of the rule is wrong."""
    return None if checked.comparison is None else AlertRule("preview", checked.comparison)


def _drawn(run: RunInfo, seen: alert_preview.Preview) -> None:
    fired = bool(seen.firings)
    colour, icon, word = ("red", "notifications_active", "fires") if fired else ("green", "check_circle", "quiet")
    st.markdown(f"{widgets.badge(colour, icon, word)} {widgets.plain(alert_preview.verdict(seen))}")
    st.echarts_chart(
        alert_preview.option(seen),
        key="rule_preview",
        height=CHART_HEIGHT,
        alt=f"Value of the expression over the run, with its threshold. {alert_preview.verdict(seen)}",
    )
    firsts = ", ".join(widgets.clock(stretch.from_s) for stretch in seen.firings[:5])
    notes = [f"Fires at {firsts}{' …' if len(seen.firings) > 5 else ''}."] if fired else []
    notes.append("Left side as a line; band: :orange[pending], :red[firing].")
    if seen.samples >= alert_preview.MAX_SAMPLES:
        notes.append(f"The newest {style.count(seen.samples)} samples of the run.")
    if not run.status.is_over:
        notes.append("The run goes on: any change here looks again.")
    st.caption(" ".join(notes))
