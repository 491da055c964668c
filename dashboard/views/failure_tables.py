"""The tables of the Failures page: groups and single messages, one of them explained, ids to copy, files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import streamlit as st

from dashboard import failure_words, failures, style, widgets
from dashboard.failures import Failures, Filter, GroupKey
from dashboard.rates import Interval
from eventbus.observe.run import FailedMessage, FailureGroup, RunInfo
from eventbus.observe.schema import MAX_FAILED_PER_RUN

TABLE_HEIGHT = 290
MAX_ROWS = 100
"""Rows of a table, since all of them travel at each refresh; files have all."""
NEWEST_SHOWN = 5


def _height(run: RunInfo, rows: int) -> int:
    """Of a table: while the run goes on always the same, so that nothing below it moves."""
    return min(TABLE_HEIGHT, 38 + 35 * rows) if run.status.is_over else TABLE_HEIGHT


def _no_match() -> None:
    st.info("No failure of this run is taken by these filters. Take one of them away.", icon=":material/filter_alt:")


def _download(label: str, data: Callable[[], str], run: RunInfo, what: str) -> None:
    st.download_button(
        label,
        data,
        file_name=f"{run.run_id}-{what}.csv",
        mime="text/csv",
        key=f"csv_{what}",
        icon=":material/download:",
        on_click="ignore",
        help="All that the filters take, times in UTC.",
    )


# ---- groups -----------------------------------------------------------------------------------------------------


def groups_table(found: Failures, chosen: Filter, run: RunInfo, intervals: Sequence[Interval]) -> None:
    """The groups that a filter takes, and one of them in detail. intervals: of the whole run."""
    groups = chosen.groups(found)
    if not groups:
        _no_match()
        return
    bins = failures.trends(found, intervals, left=chosen.left)
    all_of_them, traces = sum(group.count for group in groups), any(group.trace_id for group in groups)
    st.dataframe(
        [_group_row(group, all_of_them, bins, traces=traces) for group in groups[:MAX_ROWS]],
        key="failure_groups",
        height=_height(run, len(groups)),
        hide_index=True,
        alt="Failed messages in groups of the same kind, topic, outcome and text; the largest first",
        column_config=_group_columns(traces=traces),
    )
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        more = f"; the table shows the largest {MAX_ROWS}" if len(groups) > MAX_ROWS else ""
        st.caption(
            f"{style.count(all_of_them)} told in {len(groups)} group{'s' * (len(groups) != 1)}{more}. "
            + _exactness(groups, bins)
        )
        _download("CSV of the groups", lambda: failures.groups_csv(groups), run, "groups")
    _detail(found, groups, run)


def _exactness(groups: Sequence[FailureGroup], bins: Mapping[GroupKey, Sequence[int]]) -> str:
    """What can be relied on."""
    without = sum(failures.key_of(group) not in bins for group in groups)
    if not without:
        return "Counts and trends are exact."
    which = "one of them" if without == 1 else f"{without} of them"
    return (
        f"Counts are exact. Of {which} there is no trend: messages are kept one by one up to "
        f"{style.count(MAX_FAILED_PER_RUN)} of a run, and the rest is counted by group, not by time."
    )


def _group_row(
    group: FailureGroup, total: int, bins: Mapping[GroupKey, Sequence[int]], *, traces: bool
) -> Mapping[str, object]:
    return {
        "Count": group.count,
        "Share": group.count / total,
        "Trend": bins.get(failures.key_of(group)),
        "Outcome": group.outcome,
        "Kind": style.words(group.kind) or "none",
        "Topic": group.topic,
        "Text": group.text,
        "First": widgets.clock(group.first_wall_s),
        "Last": widgets.clock(group.last_wall_s),
        "Newest message id": group.message_id,
        **({"Its trace id": group.trace_id or ""} if traces else {}),
    }


def _group_columns(*, traces: bool) -> dict[str, Any]:
    """Widths that fill a page of 1280 px; what is cut of an id is below the table, to be copied."""
    text, number = st.column_config.TextColumn, st.column_config.NumberColumn
    return {
        "Count": number(width=70, format="localized"),
        "Share": number(width=68, format="percent", help="Of what the table shows."),
        "Trend": st.column_config.BarChartColumn(width=110, y_min=0, help="Over the time of the run."),
        "Outcome": text(width=84),
        "Kind": text(width=96),
        "Topic": text(width=120),
        "Text": text(width=212 if traces else 232),
        "First": text(width=74),
        "Last": text(width=74),
        "Newest message id": text(width=140 if traces else 200),
        "Its trace id": text(width=78),
    }


def _detail(found: Failures, groups: Sequence[FailureGroup], run: RunInfo) -> None:
    """One group: what it means, what was done about it, and ids to look for elsewhere."""
    known = {"\n".join(failures.key_of(group)): group for group in groups[:MAX_ROWS]}
    open_ones = [at for at, group in enumerate(known.values()) if group.outcome != failure_words.ACKED_LATE]
    key = st.selectbox(
        "Group in detail",
        list(known),
        open_ones[0] if open_ones else 0,
        # without its count: the words must stay the same while it grows
        format_func=lambda key: _group_name(key, known),
        key="failure_group",
        filter_mode="contains",
    )
    group = known.get(key or "", groups[0])
    kept = failures.messages_by_group(found).get(failures.key_of(group), [])
    with st.grid(2, min_column_width=320):
        with st.container(border=True, height="stretch"):
            _explain(group.outcome, group.kind, failures.attempts_of(kept), run)
        with st.container(border=True, height="stretch", gap="xsmall"):
            _ids(group, kept)


def _group_name(key: str, known: Mapping[str, FailureGroup]) -> str:
    group = known.get(key)
    if group is None:
        return key
    return f"{style.words(group.kind) or 'no kind'} · {group.outcome} · {group.topic} · {group.text}"


def _explain(outcome: str, kind: str, attempts: failure_words.Attempts | None, run: RunInfo) -> None:
    colour, icon, certain = failure_words.OUTCOMES.get(outcome, ("gray", "help", ""))
    meaning = failure_words.meaning(kind, None if attempts is None else attempts.error_class)
    badges = [widgets.badge(colour, icon, outcome), widgets.badge("gray", "label", style.words(kind) or "no kind")]
    error_class = None if attempts is None else attempts.error_class
    if error_class is not None:
        badges.append(widgets.badge("gray", "category", f"class {error_class}"))
    st.markdown(" ".join(badges))
    st.markdown(f"**What it means.** {widgets.plain(certain)} {widgets.plain(meaning.says)}")
    if error_class is not None and outcome != failure_words.ACKED_LATE:
        word = failure_words.class_words(error_class, kind)
        st.markdown(f":small[:gray[The last failure was of class *{widgets.plain(error_class)}*: {word}.]]")
    done = failure_words.handled(outcome, kind, attempts, kafka=failures.on_kafka(run))
    st.markdown(f"**What AckScope did.** {widgets.plain(done)}")
    st.markdown(f"**What to do.** {widgets.plain(meaning.advice)}")


def _ids(group: FailureGroup, kept: Sequence[FailedMessage]) -> None:
    widgets.heading("Newest message", f"at {widgets.clock(group.last_wall_s)}")
    _copyable("Message id", group.message_id)
    _copyable("Trace id", group.trace_id)
    others = [one.message_id for one in kept[: NEWEST_SHOWN + 1] if one.message_id != group.message_id]
    if others:
        st.markdown(":small[Others that are kept, newest first]")
        st.code("\n".join(others[:NEWEST_SHOWN]), language=None)


def _copyable(name: str, value: str | None) -> None:
    st.markdown(f":small[{name}]")
    if value:
        st.code(value, language=None)
    else:
        st.markdown(
            f":small[:gray[None: {'no spans were recorded' if name == 'Trace id' else 'it was sent without one'}.]]"
        )


# ---- single messages --------------------------------------------------------------------------------------------


def messages_table(found: Failures, chosen: Filter, run: RunInfo) -> None:
    """The messages that a filter takes, newest first; where it is one, all that is known of it."""
    messages = chosen.messages(found)
    if not messages:
        _no_match()
        return
    st.dataframe(
        [_message_row(message) for message in messages[:MAX_ROWS]],
        key="failed_messages",
        height=_height(run, len(messages)),
        hide_index=True,
        alt="Failed messages one by one, newest first",
        column_config={
            "Time": st.column_config.TextColumn(width=75),
            "Outcome": st.column_config.TextColumn(width=85),
            "Kind": st.column_config.TextColumn(width=110),
            "Class": st.column_config.TextColumn(width=90),
            "Attempts": st.column_config.NumberColumn(width=75),
        },
    )
    with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
        st.caption(_extent(found, messages))
        _download("CSV of the messages", lambda: failures.messages_csv(messages), run, "messages")
    ids = {message.message_id for message in messages}
    if len(ids) == 1:
        _one(messages, run)
    else:
        st.caption("A message's id in the search shows all that is known of it.")


def _message_row(message: FailedMessage) -> Mapping[str, object]:
    return {
        "Time": widgets.clock(message.wall_s),
        "Outcome": failures.outcome_of(message),
        "Kind": style.words(message.error_kind or "none"),
        "Class": message.error_class or "",
        "Topic": message.topic,
        "Attempts": message.attempts,
        "Text": message.error_text or "",
        "Message id": message.message_id,
        "Trace id": message.trace_id or "",
    }


def _extent(found: Failures, messages: Sequence[FailedMessage]) -> str:
    """How many there are, and how many are shown and kept."""
    told = f"{style.count(len(messages))} told, newest first"
    if len(messages) > MAX_ROWS:
        told += f"; the table shows {MAX_ROWS}"
    if found.truncated:
        told += (
            f". One by one only the first {style.count(MAX_FAILED_PER_RUN)} of {style.count(found.total)} are kept; "
            "groups are exact"
        )
    return told + ". A message that was acked late is told twice."


def _one(messages: Sequence[FailedMessage], run: RunInfo) -> None:
    """All that is known of one message."""
    newest = messages[0]
    attempts = failure_words.Attempts(newest.attempts, newest.attempts, newest.error_class)
    with st.grid(2, min_column_width=320):
        with st.container(border=True, height="stretch"):
            _explain(failures.outcome_of(newest), newest.error_kind or "", attempts, run)
        with st.container(border=True, height="stretch", gap="xsmall"):
            _copyable("Message id", newest.message_id)
            _copyable("Trace id", newest.trace_id)
