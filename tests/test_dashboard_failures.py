"""The Failures page: its groups, filters and words, and the page over a run source in memory."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import pytest

from dashboard import failure_words, failures
from dashboard.chart_frame import Span
from dashboard.failure_words import ACKED_LATE, CLASSES, KINDS, Attempts, class_words, handled, meaning
from dashboard.failures import FailureHistory, Failures, Filter, attempts_of, left_of, trends
from dashboard.rates import Interval
from eventbus import ErrorClass, ErrorKind
from eventbus.observe import FailedMessage, FailureGroup, RunStatus, Sample
from eventbus.observe.failures import OTHERS, TEXT_LENGTH
from tests.dashboard_fakes import START_S, MemorySource, StubControl, run_info, sample

pytest.importorskip("streamlit", reason="the dashboard's tests need: pip install -r requirements-dev.txt")

from streamlit.testing.v1 import AppTest

from dashboard.source import RunHistory


def message(number: int, **changes: Any) -> FailedMessage:
    values: dict[str, Any] = {
        "wall_s": START_S + number,
        "message_id": f"m-{number}",
        "topic": "demo.events",
        "outcome": "unknown",
        "late": False,
        "attempts": 3,
        "error_class": "ambiguous",
        "error_kind": "timeout",
        "error_text": "no ack in time",
    }
    return FailedMessage(**values | changes)


def full(number: int, **changes: Any) -> FailedMessage:
    values: dict[str, Any] = {
        "outcome": "rejected",
        "topic": "full.up",
        "error_class": "transient",
        "error_kind": "stream_full",
        "error_text": "maximum messages exceeded (10077)",
        "trace_id": "ab" * 16,
    }
    return message(number, **values | changes)


def late(number: int, **changes: Any) -> FailedMessage:
    return message(number, outcome="acked", late=True, **changes)


def grouped(messages: Sequence[FailedMessage]) -> list[FailureGroup]:
    """What a store makes of them; messages are newest first."""
    groups: dict[Any, FailureGroup] = {}
    for one in reversed(messages):
        group = FailureGroup(
            one.error_kind or "", one.topic, failures.outcome_of(one), one.error_text or "", 1,
            one.wall_s, one.wall_s, one.message_id, one.trace_id,
        )  # fmt: skip
        key = failures.key_of(group)
        groups[key] = groups[key].merged(group) if key in groups else group
    return sorted(groups.values(), key=lambda group: (-group.count, -group.last_wall_s))


MESSAGES = [
    full(9),
    full(8),
    full(7, message_id="m-x", attempts=2),
    late(6, message_id="m-1"),
    *map(message, (3, 2, 1)),
]
"""Newest first: three refused, and three doubts of which one was acked late."""
FOUND = Failures(grouped(MESSAGES), MESSAGES)


class FailingSource(MemorySource):
    """Its groups as well; counts what is read."""

    def __init__(self, *args: Any, failed: Sequence[FailedMessage] = (), **more: Any) -> None:
        super().__init__(*args, failed=failed, **more)
        self.groups = grouped(failed)
        self.reads = 0

    def each_sample(self, run_id: str, since_wall_s: float | None = None, limit: int | None = None) -> Iterator[Sample]:
        yield from self.samples(run_id, since_wall_s, limit or len(self.kept))

    def failure_groups(self, run_id: str) -> Sequence[FailureGroup]:
        return self.groups

    def failed(self, run_id: str, limit: int = 500) -> Sequence[FailedMessage]:
        self.reads += 1
        return self.told_failed[:limit]


# ---- what is read and shown -------------------------------------------------------------------------------------


def test_messages_are_read_again_only_where_there_are_more() -> None:
    """Groups tell how many there are, so that a run without new failures costs one small look at each refresh."""
    source = FailingSource(run_info(), failed=MESSAGES[1:])
    history = FailureHistory(source)
    assert len(history.of("run-1").messages) == 6
    history.of("run-1")
    assert source.reads == 1
    source.told_failed, source.groups = MESSAGES, grouped(MESSAGES)
    assert len(history.of("run-1").messages) == 7
    assert source.reads == 2


def test_run_without_failures_is_not_searched_for_messages() -> None:
    """No group, no message."""
    source = FailingSource(run_info())
    assert FailureHistory(source).of("run-1") == Failures()
    assert source.reads == 0


def test_what_is_left_is_doubt_less_what_was_acked_late() -> None:
    """A late ack ends one doubt of the same kind, topic and text; what is ended altogether is gone."""
    left = {failures.key_of(group)[2]: group.count for group in left_of(FOUND.groups)}
    assert left == {"rejected": 3, "unknown": 2}
    assert left_of(grouped([late(2, message_id="m-1"), message(1)])) == []
    assert [one.message_id for one in Filter(left=True).messages(FOUND)] == ["m-9", "m-8", "m-x", "m-3", "m-2"]


@pytest.mark.parametrize(
    ("chosen", "groups", "messages"),
    [
        (Filter(), 3, 7),
        (Filter(outcomes=frozenset({ACKED_LATE})), 1, 1),
        (Filter(outcomes=frozenset({"rejected", "unknown"})), 2, 6),
        (Filter(kinds=frozenset({"stream_full"})), 1, 3),
        (Filter(topics=frozenset({"demo.events"})), 2, 4),
        (Filter(text="EXCEEDED 10077"), 1, 3),
        (Filter(text="m-9"), 1, 1),
        (Filter(text="abab"), 1, 3),
        (Filter(text="nothing of the kind"), 0, 0),
        (Filter(kinds=frozenset({"stream_full"}), topics=frozenset({"demo.events"})), 0, 0),
    ],
)
def test_filters_take_both_alike(chosen: Filter, groups: int, messages: int) -> None:
    """Outcome, kind, topic, words of the text, ids: groups and single messages by the same."""
    assert len(chosen.groups(FOUND)) == groups
    assert len(chosen.messages(FOUND)) == messages


def seconds(count: int, **changes: Sequence[int]) -> list[Interval]:
    """Each second of a run; changes: what a second counts, by name."""
    counted: list[dict[str, Any]] = [{name: values[at] for name, values in changes.items()} for at in range(count)]
    return [Interval(at, at + 1.0, START_S + at + 1, **values) for at, values in enumerate(counted)]


def key(message: FailedMessage) -> failures.GroupKey:
    return failures.key_of(grouped([message])[0])


def test_trend_shows_when_messages_of_a_group_came() -> None:
    """Each group over the same time, so that what came together stands at the same place."""
    bins = trends(FOUND, seconds(failures.TREND_BINS))
    refused = bins[key(full(9))]
    assert [at + 1 for at, count in enumerate(refused) if count] == [7, 8, 9]
    assert sum(map(sum, bins.values())) == len(MESSAGES)
    assert {len(counts) for counts in trends(FOUND, seconds(100)).values()} == {20}


def test_trend_of_what_is_left() -> None:
    """The doubt that a late ack ended is not drawn where it is not counted."""
    bins = trends(FOUND, seconds(failures.TREND_BINS), left=True)
    doubts = bins[key(message(1))]
    assert [at + 1 for at, count in enumerate(doubts) if count] == [2, 3]
    assert key(late(6)) not in bins


def test_trend_of_more_than_are_kept_is_what_the_run_counted() -> None:
    """10,000 are kept one by one. Where one group of an outcome has more, the run's counts tell its course."""
    kept = [message(1)] * 8 + [message(2, topic="other")]
    (mine, other) = grouped(kept)
    found = Failures([replace(mine, count=50), other], kept)
    bins = trends(found, seconds(4, unknown=[8, 1, 0, 42]))
    assert bins == {key(message(1)): [8, 0, 0, 42], key(message(1, topic="other")): [0, 1, 0, 0]}
    assert trends(found, seconds(4, unknown=[8, 1, 0, 42]), left=True).keys() == {key(message(1, topic="other"))}


def test_trend_that_cannot_be_exact_is_not_drawn() -> None:
    """Two groups of an outcome have more messages than are kept: which came when was counted for both together."""
    kept = [message(1), message(2, topic="other"), full(3)]
    found = Failures([replace(one, count=9) if one.outcome == "unknown" else one for one in grouped(kept)], kept)
    assert trends(found, seconds(4, unknown=[1, 1, 0, 16])).keys() == {key(full(3))}
    assert trends(FOUND, []) == {}


def test_messages_are_sorted_out_as_a_store_groups_them() -> None:
    """By the first 200 characters; beyond 1,000 groups a store counts by kind and outcome alone."""
    assert (failures.TEXT_LENGTH, failures.OTHERS) == (TEXT_LENGTH, OTHERS)
    kept = [message(1, error_text="x" * 300), message(2, topic="rare")]
    groups = [replace(one, text=one.text[:200]) for one in grouped(kept[:1])]
    groups.append(replace(grouped(kept[1:])[0], topic="(others)", text="(others)"))
    found = failures.messages_by_group(Failures(groups, kept))
    assert {group[1]: [one.message_id for one in messages] for group, messages in found.items()} == {
        "demo.events": ["m-1"],
        "(others)": ["m-2"],
    }


def test_attempts_are_those_of_the_kept_messages() -> None:
    """Least, most, and the class of the last failure; none is made up where no message was kept."""
    assert attempts_of(failures.messages_by_group(FOUND)[key(full(9))]) == Attempts(2, 3, "transient")
    assert attempts_of([]) is None


def test_files_have_all_and_cannot_be_formulas() -> None:
    """Columns with units, times in UTC; a text that a spreadsheet would run is quoted."""
    groups = list(csv.DictReader(StringIO(failures.groups_csv(FOUND.groups))))
    assert [row["messages"] for row in groups] == ["3", "3", "1"]
    assert groups[0]["first"].endswith("+00:00")
    rows = list(csv.DictReader(StringIO(failures.messages_csv([*MESSAGES, message(0, error_text="=1+1")]))))
    assert [row["message_id"] for row in rows][:2] == ["m-9", "m-8"]
    assert rows[3]["outcome"] == ACKED_LATE
    assert rows[-1]["error_text"] == "'=1+1"
    assert failures.messages_csv([]).startswith("time,message_id,topic,")


def test_chart_is_of_failures_alone() -> None:
    """A chart of all outcomes would hide them; without any it is a sentence."""
    row = Interval(0.0, 1.0, START_S + 1, acked=9000, rejected=5, late_acks=1)
    option = failures.outcomes([row], Span(START_S, START_S + 1))
    assert option["dataset"]["dimensions"] == ["time", "rejected", ACKED_LATE]
    assert option["dataset"]["source"][0][1:] == [5.0, 1.0]
    assert "title" in failures.outcomes([], Span(0, 1))


# ---- words ------------------------------------------------------------------------------------------------------


def test_every_kind_and_class_is_explained() -> None:
    """ErrorKind and ErrorClass are closed sets: a new one needs its words here."""
    assert set(KINDS) == set(ErrorKind)
    assert set(CLASSES) == set(ErrorClass)
    assert all(one.says.endswith(".") and one.advice.endswith((".", "?")) for one in KINDS.values())


def test_kind_of_a_newer_version_is_told_as_such() -> None:
    """A store may know more than this program, and an old one may know nothing."""
    assert "does not know" in meaning("moon_phase").says
    assert meaning("") is failure_words.NO_KIND


@pytest.mark.parametrize("page", ["nats-replies.md", "kafka-replies.md"])
def test_words_agree_with_the_reply_tables(page: str) -> None:
    """What a kind says fits each class that the documentation gives it."""
    told = (Path(__file__).parents[1] / "docs" / page).read_text(encoding="utf-8")
    pairs = set(re.findall(r"\| (TRANSIENT|AMBIGUOUS|FATAL) \| `([a-z_]+)` \|", told))
    assert len(pairs) > 10
    for error_class, kind in pairs:
        says = meaning(kind, error_class.lower()).says.lower()
        if error_class == "AMBIGUOUS":
            assert "certainly not stored" not in says, kind
        elif kind != "not_enough_replicas":  # whose words tell of both
            assert "may have it" not in says, kind
            assert "may be stored" not in says, kind
    assert "certainly not stored" in class_words("transient", "stream_full")
    assert "may be stored" in class_words("ambiguous", "timeout")
    assert "stored" not in class_words("fatal", "closed")


@pytest.mark.parametrize(
    ("outcome", "kind", "attempts", "words"),
    [
        ("rejected", "permission", Attempts(1, 1, "fatal"), "Sent once. The refusal is final"),
        ("rejected", "stream_full", Attempts(2, 3, "transient"), "Sent 2 to 3 times. Each refusal"),
        ("rejected", "stream_full", Attempts(2, 3, "transient"), "with the same message id"),
        ("rejected", "disconnected", Attempts(0, 0, "fatal"), "never sent: at the end of its lifetime"),
        ("rejected", "no_stream", Attempts(0, 0, "fatal"), "never sent: its topic could not be prepared"),
        ("rejected", "closed", Attempts(0, 0, "fatal"), "never sent: the bus was closed"),
        ("rejected", "closed", Attempts(2, 2, "fatal"), "closed before another attempt"),
        ("unknown", "timeout", Attempts(5, 5, "ambiguous"), "with the same message id"),
        ("unknown", "timeout", Attempts(1, 1, "ambiguous"), "Not sent again"),
        ("unknown", "closed", Attempts(1, 2, "fatal"), "when the bus was closed"),
        (ACKED_LATE, "timeout", Attempts(5, 5, "ambiguous"), "but remembered"),
        ("unknown", "timeout", None, "was not kept"),
    ],
)
def test_what_was_done_is_told_by_outcome_and_attempts(
    outcome: str, kind: str, attempts: Attempts | None, words: str
) -> None:
    """Given up at once, tried again, held, awaited, remembered."""
    assert words in handled(outcome, kind, attempts)


@pytest.mark.parametrize(
    ("outcome", "kind", "attempts", "words"),
    [
        ("unknown", "timeout", Attempts(1, 1, "ambiguous"), "Kafka knows no message ids"),
        ("unknown", "timeout", Attempts(2, 2, "ambiguous"), "allows duplicates"),
        ("rejected", "timeout", Attempts(5, 5, "transient"), "Tried 5 times. Each time it was taken back"),
        ("rejected", "too_large", Attempts(1, 1, "fatal"), "halved until it was alone"),
        ("rejected", "not_enough_replicas", Attempts(5, 5, "transient"), "and another attempt, until"),
    ],
)
def test_what_was_done_on_kafka(outcome: str, kind: str, attempts: Attempts, words: str) -> None:
    """It knows no message ids, so nothing is said of them but that."""
    told = handled(outcome, kind, attempts, kafka=True)
    assert words in told
    assert "same message id" not in told


# ---- the page ---------------------------------------------------------------------------------------------------


def samples(seconds: int = 10) -> list[Sample]:
    """A run with three refusals, three doubts and one late ack in it, all in the counts."""
    return [
        sample(
            quarter / 4, rate=100.0, rejected=3, unknown=2, late_acks=1, retries=12, errors={"timeout": 9},
            accepted=quarter * 25 + 5,
        )
        for quarter in range(seconds * 4 + 1)
    ]  # fmt: skip


def app(source, history, control, found):  # its source is copied: no name of this file is known there
    from dashboard.views import failures

    failures.page(source, history, control, found)


def shown(source: FailingSource) -> AppTest:
    args = (source, RunHistory(source), StubControl(), FailureHistory(source))
    return AppTest.from_function(app, args=args, default_timeout=30).run()


def failing(status: RunStatus = RunStatus.RUNNING) -> FailingSource:
    return FailingSource(run_info(status), samples(), failed=MESSAGES)


def text_of(at: AppTest) -> str:
    return " ".join(one.value for one in at.markdown).replace("\\", "").replace("\N{NARROW NO-BREAK SPACE}", " ")


def metrics(at: AppTest) -> dict[str, str]:
    return {one.label: one.value for one in at.metric}


def test_without_any_run_the_page_says_what_to_do() -> None:
    """An empty store is the normal first sight."""
    at = shown(FailingSource())
    assert not at.exception
    assert "Start" in at.info[0].value
    assert not at.metric


def test_run_without_failures_is_said_to_be_fine() -> None:
    """An empty table would leave doubt; that attempts were repeated is told."""
    at = shown(FailingSource(run_info(), [sample(quarter / 4, retries=7) for quarter in range(9)]))
    assert not at.exception
    assert "No message was rejected, left unknown or acked late until now" in at.success[0].value
    assert "were repeated" in at.success[0].value
    assert not at.dataframe


def test_run_without_acks_cannot_know_of_failures() -> None:
    """Nothing failed that could be seen, which is not the same as fine."""
    bare = [sample(quarter / 4, rate=0.0, unacknowledged=quarter * 10) for quarter in range(9)]
    at = shown(FailingSource(run_info(), bare))
    assert "sent without acks" in at.warning[0].value
    assert not at.success


def test_groups_are_exact_and_explained() -> None:
    """Figures, the largest group first, what it means, what was done, ids that can be copied, a file."""
    at = shown(failing())
    assert not at.exception
    assert metrics(at) == {"Rejected": "3", "Left unknown": "2", "Acked late": "1", "Failed attempts": "9"}
    table = at.dataframe[0].value
    assert list(table["Count"]) == [3, 3, 1]
    assert list(table["Share"]) == pytest.approx([3 / 7, 3 / 7, 1 / 7])
    assert sum(table["Trend"][0]) == 3
    said = text_of(at)
    assert "What it means." in said
    assert "Each refusal was answered by a pause" in said
    assert "Let consumers catch up" in said
    assert {"m-9", "ab" * 16} <= {one.value for one in at.code}
    assert at.get("download_button")


def test_another_group_can_be_looked_at() -> None:
    """The list of groups has no counts in it, so that its words stay the same while they grow."""
    source = failing()
    at = shown(source)
    choice = at.selectbox(key="failure_group")
    assert choice.options[0].startswith("stream full · rejected · full.up")
    choice.set_value("timeout\ndemo.events\nunknown\nno ack in time").run()
    assert "Compare p99 on Latency with the ack timeout" in text_of(at)
    assert "no spans were recorded" in text_of(at)
    source.groups = grouped([*MESSAGES, message(0), message(0)])
    source.told_failed = [*MESSAGES, message(0), message(0)]
    at.run()
    assert not at.exception
    assert at.selectbox(key="failure_group").value == "timeout\ndemo.events\nunknown\nno ack in time"


def test_page_filters_groups_and_messages_alike() -> None:
    """Outcome, kind, words and what is left; a filter that takes nothing says so."""
    at = shown(failing())
    at.toggle(key="failures_left").set_value(True).run()
    assert list(at.dataframe[0].value["Count"]) == [3, 2]
    at.segmented_control(key="failures_as").set_value("Single messages").run()
    assert not at.exception
    assert list(at.dataframe[0].value["Message id"]) == ["m-9", "m-8", "m-x", "m-3", "m-2"]
    at.multiselect(key="failures_kind").set_value(["timeout"]).run()
    assert list(at.dataframe[0].value["Message id"]) == ["m-3", "m-2"]
    at.text_input(key="failures_text").set_value("no such words").run()
    assert not at.dataframe
    assert "Take one of them away" in at.info[0].value


def test_one_message_is_told_in_full() -> None:
    """Its id in the search shows what is known of it, both its doubt and its late ack."""
    at = shown(failing())
    at.segmented_control(key="failures_as").set_value("Single messages").run()
    at.text_input(key="failures_text").set_value("m-1").run()
    assert list(at.dataframe[0].value["Outcome"]) == ["acked late", "unknown"]
    assert "but remembered" in text_of(at)
    assert [one.value for one in at.code] == ["m-1"]


def test_many_messages_are_not_all_sent_to_the_page() -> None:
    """A table travels at each refresh: it shows the newest 100, and says how many there are."""
    many = [full(number) for number in range(400, 0, -1)]
    at = shown(FailingSource(run_info(), samples(), failed=many))
    at.segmented_control(key="failures_as").set_value("Single messages").run()
    assert len(at.dataframe[0].value) == 100
    assert any("400 told" in one.value and "shows 100" in one.value for one in at.caption)


def test_page_that_was_just_opened_has_its_figures_first() -> None:
    """Numbers before charts and tables; the next pass has all of it, at the usual pace."""
    source = failing()
    args = (source, RunHistory(source), StubControl(), FailureHistory(source))
    at = AppTest.from_function(app, args=args, default_timeout=30)
    at.session_state["passes"] = 0
    first, then = [(len(at.run().metric), len(at.get("echarts_chart")), len(at.dataframe)) for _ in range(2)]
    assert not at.exception
    assert first == (4, 0, 0)
    assert then == (4, 2, 1)


def test_interrupted_run_is_told() -> None:
    """What was told until then is shown, with the reason why it ends there."""
    at = shown(failing(RunStatus.INTERRUPTED))
    assert not at.exception
    assert "interrupted" in at.warning[0].value
    assert metrics(at)["Rejected"] == "3"


def test_failed_run_says_why() -> None:
    """The reason stands above what failed."""
    at = shown(FailingSource(run_info(RunStatus.FAILED, error="no broker"), samples(), failed=MESSAGES))
    assert "no broker" in at.error[0].value


def test_unreadable_store_is_told_without_a_traceback() -> None:
    """What happened and what to do, and the page keeps trying."""
    at = shown(FailingSource(trouble="store /x/runs.db is locked by another program: close it"))
    assert not at.exception
    assert "locked by another program" in at.error[0].value.replace("\\", "")
