"""The Alerts page: what it shows of a run, the file of rules and sinks, the preview, silencing, and trying sinks."""

from __future__ import annotations

import math
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from dashboard import alert_drafts, alert_edits, alert_preview, alert_rules, alert_sinks, alert_states
from dashboard.alert_drafts import Draft
from dashboard.alert_rules import Origin, rules_and_sinks, rules_of
from dashboard.alert_silences import ALL, SilenceBook
from dashboard.alert_sinks import SinkTests
from dashboard.control import LoadStatus, Phase
from dashboard.process import LoadRefused
from eventbus import ConfigError
from eventbus.alerts import AlertNow, AlertPhase, AlertRule, SinkStatus, default_rules, parse, rules_from_plain
from eventbus.load.plan import LoadPlan
from eventbus.observe import AlertChange, RunInfo, RunStatus, Sample
from tests.dashboard_fakes import START_S, MemorySource, StubControl, run_info, sample, steady

pytest.importorskip("streamlit", reason="the dashboard's tests need: pip install -r requirements-dev.txt")

from streamlit.testing.v1 import AppTest

SLOW = {"name": "slow", "when": "p99(ack_latency, 10s) > 250ms", "clear": "200ms", "description": "Look at the disk."}


# ---- the file ---------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "alerts.toml"


def write(path: Path, text: str) -> alert_rules.AlertFile:
    path.write_text(text, encoding="utf-8")
    return alert_rules.read(path)


def test_file_is_beside_the_store(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """$ACKSCOPE_HOME holds the store and the rules."""
    monkeypatch.setenv("ACKSCOPE_HOME", str(tmp_path))
    assert alert_rules.rules_path() == tmp_path / "alerts.toml"
    assert rules_and_sinks() == {}


def test_without_a_file_a_run_gets_the_default_rules(path: Path) -> None:
    """No file says nothing: the plan's own defaults hold, and all of them are listed."""
    file = alert_rules.read(path)
    assert rules_and_sinks(path) == {}
    assert [one.rule for one in file.listed()] == list(default_rules(max_pending=10_000, ack_timeout_s=5.0))
    assert {one.origin for one in file.listed()} == {Origin.DEFAULT}


def test_saved_rules_and_sinks_are_those_of_the_next_plan(path: Path) -> None:
    """Own rules come beside the default ones, off ones do not come at all, and the limits fit the run."""
    text = alert_edits.with_rule("", SLOW)
    text = alert_edits.with_switch(text, "ack_latency", False)
    text = alert_edits.with_sink(text, {"kind": "webhook", "url": "env:ALERT_URL"})
    alert_edits.save(alert_rules.read(path), text)
    more = rules_and_sinks(path, ack_timeout_s=30.0)
    plan = LoadPlan.from_dict({"url": "memory://", "topic": "demo", "rate": 1.0, "duration_s": 1.0, **more})
    assert plan.rules is not None
    names = [rule.name for rule in plan.rules]
    assert "slow" in names
    assert "ack_latency" not in names
    assert len(names) == len(default_rules(max_pending=10_000, ack_timeout_s=30.0))
    oldest = next(rule for rule in plan.rules if rule.name == "oldest_pending")
    assert oldest.expression.constant == 15.0
    assert plan.sinks == ({"kind": "webhook", "url": "env:ALERT_URL"},)


def test_nothing_waits_for_a_rule_that_is_off(path: Path) -> None:
    """The default rules are inhibited by broker_disconnected; without it they tell by themselves."""
    file = write(path, 'off = ["broker_disconnected"]')
    assert all("broker_disconnected" not in rule.inhibited_by for rule in file.in_use())
    assert rules_from_plain(rules_and_sinks(path)["rules"]) == file.in_use()


def test_rule_of_a_default_name_takes_its_place(path: Path) -> None:
    """A changed default rule stays where it was, and is said to be changed."""
    file = write(path, '[[rules]]\nname = "pending"\nwhen = "pending > 9"\ninhibited_by = ["broker_disconnected"]')
    found = {one.rule.name: one for one in file.listed()}
    assert found["pending"].origin is Origin.CHANGED
    assert found["pending"].rule.expression.text == "pending > 9"
    assert len(found) == len(file.listed()) == len(default_rules(max_pending=1, ack_timeout_s=1.0))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[[rules]]\nname = "x"\nwhen = "pendin > 1"', "alerts.toml:3: expression, column 1"),
        ('[[rule]]\nname = "x"', "'rule' is not known here; use off, rules, sinks"),
        (
            '[[rules]]\nname = "x"\nwhen = "pending > 1"\ninhibited_by = ["no"]',
            "alerts.toml:4: inhibited_by names 'no'",
        ),
        ('off = ["no"]', "off names 'no', which is no rule"),
        ("off = 3", "use a list of names"),
        ("rules = 3", "use [[rules]] tables"),
        ("rules = [3]", "use a table"),
        ("sinks = [3]", "sinks are tables"),
        ("[[rules", "alerts.toml: "),
    ],
)
def test_wrong_file_says_where_it_is_wrong(path: Path, text: str, said: str) -> None:
    """File, line and cause; and no run can be started with half of it."""
    path.write_text(text)
    with pytest.raises(ConfigError) as caught:
        rules_and_sinks(path)
    assert said in str(caught.value)


def test_file_that_is_no_text_says_so(path: Path) -> None:
    """What cannot be read is told as such."""
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="not UTF-8"):
        alert_rules.read(path)
    path.unlink()
    path.mkdir()
    with pytest.raises(ConfigError, match="cannot be read"):
        alert_rules.read(path)


def test_changes_keep_what_people_wrote(path: Path) -> None:
    """Comments and the order of a file stay; only what was changed is another."""
    text = '# ours\noff = ["pending"] # for now\n\n[[rules]]\nname = "a" # first\nwhen = "pending > 1"\n'
    text += '\n[[sinks]]\nkind = "log"\n'
    made = alert_edits.with_rule(text, {"name": "a", "when": "pending > 2"}, replaces="a")
    assert made == text.replace("pending > 1", "pending > 2")
    made = alert_edits.with_rule(made, SLOW, on=False)
    assert made.startswith('# ours\noff = ["pending", "slow"] # for now\n')
    file = write(path, made)
    assert [rule.name for rule in file.rules] == ["a", "slow"]
    assert file.sinks == ({"kind": "log"},)
    back = alert_edits.without_sink(alert_edits.without_rule(alert_edits.without_rule(made, "slow"), "a"), 0)
    assert alert_rules.checked(back, path).listed() == write(path, 'off = ["pending"]').listed()


def test_rules_as_one_list_can_be_changed_too(path: Path) -> None:
    """TOML has two ways to write tables in a list; both are kept as they are."""
    text = 'rules = [{name = "a", when = "pending > 1"}]\n'
    file = write(path, alert_edits.with_rule(text, SLOW))
    assert [rule.name for rule in file.rules] == ["a", "slow"]


def test_a_renamed_rule_is_the_same_rule(path: Path) -> None:
    """Its place stays, and whether it is on goes with it."""
    text = alert_edits.with_rule("", SLOW, on=False)
    file = write(path, alert_edits.with_rule(text, {**SLOW, "name": "slower"}, replaces="slow", on=False))
    assert [rule.name for rule in file.rules] == ["slower"]
    assert file.off == {"slower"}


def test_save_refuses_what_cannot_be_used_and_leaves_the_file(path: Path) -> None:
    """A wrong text never gets into the file."""
    file = write(path, "# mine\n")
    with pytest.raises(ConfigError, match="is not a metric"):
        alert_edits.save(file, alert_edits.with_rule(file.text, {"name": "x", "when": "no > 1"}))
    assert path.read_text() == "# mine\n"


def test_save_refuses_to_overwrite_what_somebody_else_wrote(path: Path) -> None:
    """Who saves has seen what is replaced."""
    file = write(path, "# mine\n")
    path.write_text("# theirs\n")
    with pytest.raises(ConfigError, match="changed by somebody else"):
        alert_edits.save(file, alert_edits.with_rule(file.text, SLOW))
    assert path.read_text() == "# theirs\n"


def test_save_is_all_or_nothing(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails leaves the old file, and nothing beside it; a new file is for its owner alone."""
    file = alert_edits.save(alert_rules.read(path), alert_edits.with_rule("", SLOW))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    before = path.read_text()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ConfigError, match="No space left"):
        alert_edits.save(file, alert_edits.with_switch(file.text, "slow", False))
    assert path.read_text() == before
    assert os.listdir(path.parent) == [path.name]


def test_rules_of_a_run_are_those_that_it_had() -> None:
    """Its own, else the defaults of its window and ack timeout; unreadable ones are none."""
    assert rules_of(run_info(settings={"rules": [SLOW]}))[0].description == "Look at the disk."
    found = {rule.name: rule for rule in rules_of(run_info(settings={"ack_timeout_s": 30.0, "rules": None}))}
    assert found["oldest_pending"].expression.constant == 15.0
    assert rules_of(run_info(settings={"rules": [{"name": "x", "when": "gone > 1"}]})) == ()


# ---- a rule as it is typed --------------------------------------------------------------------------------------


def test_typed_expression_is_told_with_its_column() -> None:
    """The mark stands below the word that is wrong."""
    draft = Draft("slow", "p99(ack_latncy, 1m) > 250ms")
    checked = alert_drafts.check(draft)
    assert checked.rule is None
    assert "column 5" in checked.problems["when"]
    assert "did you mean ack_latency" in alert_drafts.brief(checked.problems["when"])
    assert alert_drafts.caret(draft.when, checked.problems["when"]) == "p99(ack_latncy, 1m) > 250ms\n    ^"


def test_each_wrong_field_is_told_by_its_name() -> None:
    """All at once, so that nobody has to try again and again."""
    checked = alert_drafts.check(Draft("9", "pending > 5", for_="5", repeat="often"))
    assert set(checked.problems) == {"name", "for", "repeat"}
    assert checked.comparison is not None
    assert set(alert_drafts.check(Draft("a", "p99(ack_latency) > 5ms", clear="9ms")).problems) == {"clear"}
    assert set(alert_drafts.check(Draft("a", "pending > 5"), taken=["a"]).problems) == {"name"}
    assert set(alert_drafts.check(Draft()).problems) == {"name", "when"}


@pytest.mark.parametrize("rule", default_rules(max_pending=10_000, ack_timeout_s=5.0), ids=lambda rule: rule.name)
def test_form_of_a_rule_gives_the_rule_back(rule: AlertRule) -> None:
    """What is shown is what is kept: saving without a change changes nothing."""
    assert rules_from_plain([{**Draft.of(rule, on=True).table(), "inhibited_by": []}])[0].expression == rule.expression
    again = alert_drafts.check(Draft.of(rule, on=True)).rule
    assert again is not None
    assert Draft.of(again, on=True).table() | {"inhibited_by": ()} == Draft.of(rule, on=True).table() | {
        "inhibited_by": ()
    }


# ---- where alerts stand -----------------------------------------------------------------------------------------


def change(at_s: float, state: str, previous: str, **changes: Any) -> AlertChange:
    values: dict[str, Any] = {"rule": "slow", "firing": state in ("firing", "recovering"), "value": 0.3}
    values |= {"threshold": 0.25, "text": "Acks are slow", "severity": "critical"}
    return AlertChange(START_S + at_s, state=state, previous=previous, **values | changes)


def test_alert_stands_where_its_last_change_left_it() -> None:
    """Since when, by what value, and what to do; a repeat does not make it younger."""
    changes = [
        change(1, "pending", "inactive"),
        change(3, "firing", "pending"),
        change(60, "firing", "firing", value=0.4),
        change(5, "resolved", "firing", rule="other"),
    ]
    found, other = alert_states.standings(changes, rules_from_plain([SLOW]))
    assert (other.rule, other.phase) == ("other", AlertPhase.RESOLVED)
    assert (found.phase, found.since_s, found.value, found.threshold) == (
        AlertPhase.FIRING,
        START_S + 3,
        "400 ms",
        "> 250 ms",
    )
    assert found.what_to_do == "Look at the disk."


def test_gravest_alert_stands_first() -> None:
    """Firing before pending, critical before warning."""
    changes = [
        change(1, "pending", "inactive", rule="a"),
        change(2, "firing", "inactive", rule="b", severity="warning"),
        change(3, "firing", "inactive", rule="c"),
    ]
    assert [one.rule for one in alert_states.active(alert_states.standings(changes, ()))] == ["c", "b", "a"]


def test_history_is_bounded_and_newest_first() -> None:
    """At most 1,000 changes; those of AckScope 0.1 have no state, and no value may be no number."""
    changes = [change(number, "firing", "inactive") for number in range(1_200)]
    changes.append(AlertChange(START_S + 2_000, "old", False, math.nan, 5.0))
    told = alert_states.history(changes, ())
    assert len(told) == 1_000
    assert (told[0].rule, told[0].phase, told[0].value) == ("old", AlertPhase.RESOLVED, "no data")
    assert told[1].wall_s == START_S + 1_199


# ---- the preview ------------------------------------------------------------------------------------------------


def humps() -> list[Sample]:
    """20 s of which the third to the fifth and the tenth to the fourteenth have 9,000 pending."""
    return [
        sample(quarter / 4, accepted=quarter * 250 + full, pending=full)
        for quarter in range(80)
        for full in [9_000 if 8 <= quarter < 16 or 40 <= quarter < 60 else 10]
    ]


def test_preview_tells_when_a_rule_would_have_fired() -> None:
    """As the run's own engine would: at once, for as long as it held."""
    seen = alert_preview.preview(AlertRule("full", parse("pending > 5000")), humps())
    assert [(one.from_s - START_S, one.to_s - START_S) for one in seen.firings] == [(2.0, 4.0), (10.0, 15.0)]
    assert alert_preview.verdict(seen) == "Would have fired 2 times, for 7.00\N{NARROW NO-BREAK SPACE}s in all."
    option = alert_preview.option(seen)
    marks = option["series"][0]
    assert len(marks["markArea"]["data"]) == 2
    assert [line["xAxis"] for line in marks["markLine"]["data"] if "xAxis" in line] == [
        round((START_S + at) * 1000) for at in (2.0, 10.0)
    ]


def test_preview_waits_as_the_rule_does() -> None:
    """``for`` leaves out the short hump; the time before is pending."""
    seen = alert_preview.preview(AlertRule("full", parse("pending > 5000"), for_s=3.0), humps())
    assert [(one.firing, one.from_s - START_S, one.to_s - START_S) for one in seen.stretches] == [
        (False, 2.0, 4.0),
        (False, 10.0, 13.0),
        (True, 13.0, 15.0),
    ]


def test_preview_of_what_never_fires_tells_how_near_it_came() -> None:
    """The highest value, with its unit; and what says nothing says so."""
    seen = alert_preview.preview(AlertRule("full", parse("pending > 50000")), humps())
    assert alert_preview.verdict(seen) == "Would not have fired; the highest value was 9,000."
    seen = alert_preview.preview(AlertRule("sched", parse("p99(scheduled_latency) > 1s")), humps())
    assert "says nothing" in alert_preview.verdict(seen)
    assert "no samples" in alert_preview.verdict(alert_preview.preview(AlertRule("x", parse("pending > 1")), ()))


def test_preview_of_a_long_run_is_small_and_keeps_its_peak() -> None:
    """At most 300 points; the highest of each share is shown."""
    samples = [sample(number / 4, rate=4, pending=7_777 if number == 901 else 1) for number in range(2_000)]
    seen = alert_preview.preview(AlertRule("full", parse("pending > 5000")), samples)
    assert len(seen.points) <= alert_preview.MAX_POINTS
    assert max(value or 0 for _, value, _ in seen.points) == 7_777
    assert alert_preview.preview(AlertRule("x", parse("pending >= 90% * window_limit")), samples).points[0][2] == 9_000


# ---- silences and sinks -----------------------------------------------------------------------------------------


def test_silence_holds_until_its_end() -> None:
    """By rule, else of all, for this run; an acknowledgement is of one firing only."""
    now = [100.0]
    book = SilenceBook(lambda: now[0])
    book.silence("run-1", [ALL], 60.0, "ann")
    book.silence("run-1", ["slow"], 600.0, "bob", "known")
    held = book.of("run-1", "slow")
    assert held is not None
    assert (held.by, held.until_s) == ("bob", 700.0)
    assert book.of("run-2", "slow") is None
    now[0] = 161.0
    assert book.of("run-1", "pending") is None
    book.unsilence("run-1", "slow")
    assert book.silences("run-1") == []
    book.acknowledge("run-1", "slow", "ann")
    assert book.acknowledged("run-1", "slow", 150.0) == "ann"
    assert book.acknowledged("run-1", "slow", 170.0) == ""


def test_sinks_are_listed_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scheme, host and port; a sink that cannot be used says why and does not hide the others."""
    monkeypatch.delenv("GONE", raising=False)
    hook = {"kind": "webhook", "name": "hook", "url": "https://me:secret@alerts.example.com/path?key=secret"}
    (row,) = alert_sinks.rows([hook])
    assert (row.name, row.kind, row.where) == ("hook", "webhook", "https://alerts.example.com")
    first, second = alert_sinks.rows([hook, {"kind": "webhook", "url": "env:GONE"}])
    assert (first.where, first.problem) == ("https://alerts.example.com", "")
    assert "sinks[1].url" in second.problem
    assert "secret" not in str([first, second])
    assert "env:GONE" in alert_sinks.problem([{"kind": "webhook", "url": "env:GONE"}])


def test_test_of_the_sinks_runs_beside_the_page() -> None:
    """It returns at once, only one goes on at a time, and what became of each is told."""
    go, sent = threading.Event(), []

    def send(tables: alert_sinks.Tables) -> Sequence[SinkStatus]:
        sent.append(tables)
        assert go.wait(10)
        return [SinkStatus("log", delivered=1)]

    tests = SinkTests(send)
    tests.begin([{"kind": "log"}])
    tests.begin([{"kind": "log"}])
    assert tests.newest is not None
    assert tests.newest.running
    go.set()
    tests.wait(10)
    assert not tests.newest.running
    status = tests.newest.of("log")
    assert status is not None
    assert status.delivered == 1
    assert len(sent) == 1


def test_test_really_sends() -> None:
    """Through the sinks themselves; what cannot be made is told."""
    tests = SinkTests()
    tests.begin([{"kind": "log"}])
    tests.wait(20)
    assert tests.newest is not None
    assert tests.newest.statuses[0].delivered == 1
    tests.begin([{"kind": "no"}])
    tests.wait(20)
    assert "kind" in tests.newest.error


# ---- the page ---------------------------------------------------------------------------------------------------


class Source(MemorySource):
    """With samples one by one."""

    def each_sample(self, run_id: str, since_wall_s: float | None = None, limit: int | None = None) -> Iterator[Sample]:
        yield from self.samples(run_id, since_wall_s, limit or 5_000)


class Control(StubControl):
    """Notes what was silenced and acknowledged."""

    def __init__(self, status: LoadStatus | None = None, *, gone: bool = False) -> None:
        super().__init__(status)
        self.gone = gone
        self.alerts: Sequence[AlertNow] = ()
        self.sinks: Sequence[SinkStatus] = ()
        self.silenced: list[tuple[list[str], float, str, str]] = []
        self.looked_after: list[tuple[str, str]] = []

    def alerts_now(self) -> Sequence[AlertNow]:
        return self.alerts

    def sinks_now(self) -> Sequence[SinkStatus]:
        return self.sinks

    def silence(self, alerts: Sequence[str], for_s: float, by: str, comment: str = "") -> None:
        if self.gone:
            raise LoadRefused("The worker process ended.")
        self.silenced.append((list(alerts), for_s, by, comment))

    def acknowledge(self, alert: str, by: str) -> None:
        self.looked_after.append((alert, by))


def app(source, control, path, book, tests, tab):  # its source is copied: no name of this file is known there
    import streamlit as st

    from dashboard.views import alerts

    st.session_state.setdefault("alerts", tab)
    alerts.page(source, control, alerts.Desk(path, book, tests))


def shown(
    path: Path,
    *changes: AlertChange,
    tab: str = "Now and history",
    run: RunInfo | None = None,
    control: Control | None = None,
    source: MemorySource | None = None,
    tests: SinkTests | None = None,
) -> AppTest:
    if source is None:
        info = run or run_info(settings={"rules": [SLOW]})
        source = Source(info, steady(10), alerts=changes)
    control = control or Control(LoadStatus(Phase.RUNNING, "run-1", 1000.0))
    args = (source, control, path, SilenceBook(), tests or SinkTests(), tab)
    at = AppTest.from_function(app, args=args, default_timeout=30).run()
    assert not at.exception
    return at


def text_of(at: AppTest) -> str:
    return " ".join(one.value for one in (*at.markdown, *at.caption)).replace("\\", "")


def table(at: AppTest, column: str) -> Any:
    """The one that has this column."""
    return next(one.value for one in at.dataframe if column in one.value)


def button(at: AppTest, key: str) -> Any:
    return next(one for one in at.button if one.key == key)


def field(at: AppTest, label: str) -> Any:
    return next(one for one in (*at.text_input, *at.text_area) if one.label == label)


def test_without_runs_the_page_says_what_to_do(path: Path) -> None:
    """Nothing to choose and nothing to show, and no error."""
    at = shown(path, source=Source(), control=Control())
    assert at.info[0].proto.title == "No run yet"
    assert not at.error


def test_firing_alert_shows_value_threshold_since_and_what_to_do(path: Path) -> None:
    """Colour, icon and words; nothing has to be guessed."""
    at = shown(path, change(1, "pending", "inactive"), change(3, "firing", "pending"))
    text = text_of(at)
    assert ":material/notifications_active: 1 firing" in text
    assert "**300 ms**" in text
    assert "fires while > 250 ms" in text
    assert "Look at the disk." in text
    assert ":red-badge[:material/error: critical]" in text
    assert list(table(at, "What")["State"]) == ["▲ firing", "◔ pending"]


def test_run_without_alerts_says_that_none_fires(path: Path) -> None:
    """Calm is said in words."""
    text = text_of(shown(path))
    assert "No alert is firing." in text
    assert "No alert changed its state" in text


def test_muted_alert_says_why_nobody_is_told(path: Path) -> None:
    """It counts as muted and not as firing."""
    text = text_of(shown(path, change(1, "firing", "inactive", muted="inhibited by broker_disconnected")))
    assert "0 firing" in text
    assert "1 muted" in text
    assert "Nobody is told: inhibited by broker_disconnected" in text


def test_interrupted_run_shows_what_fired_when_it_broke_off(path: Path) -> None:
    """Nothing can be done about it any more, and the page says so."""
    run = run_info(RunStatus.INTERRUPTED, settings={"rules": [SLOW]})
    at = shown(path, change(1, "firing", "inactive"), run=run, control=Control())
    assert "When the run broke off" in text_of(at)
    assert button(at, "acknowledge-slow").disabled
    assert "over" in button(at, "acknowledge-slow").help


@pytest.mark.parametrize("tab", ["Now and history", "Rules"])
def test_failing_store_is_told_with_what_to_do(path: Path, tab: str) -> None:
    """Never a traceback."""
    at = shown(path, tab=tab, source=Source(trouble="store /x is locked"))
    assert at.error[0].proto.title == "The store of runs cannot be read"
    assert "/x is locked" in at.error[0].value.replace("\\", "")


def test_run_of_somebody_else_cannot_be_silenced_here(path: Path) -> None:
    """A run of the command line has no worker of ours; the button says it."""
    at = shown(path, change(1, "firing", "inactive"), control=Control())
    assert "not started by this dashboard" in button(at, "acknowledge-slow").help


def test_acknowledged_alert_says_by_whom(path: Path) -> None:
    """The worker is told, and the card shows it."""
    control = Control(LoadStatus(Phase.RUNNING, "run-1", 1000.0))
    at = shown(path, change(1, "firing", "inactive"), control=control)
    field(at, "Your name").set_value("ann")
    button(at, "acknowledge-slow").click().run()
    assert control.looked_after == [("slow", "ann")]
    assert "acknowledged by ann" in text_of(at)
    assert button(at, "acknowledge-slow").disabled


def test_silence_is_told_to_the_worker_and_shown(path: Path) -> None:
    """All alerts unless some are named, for as long as chosen; it can be ended before."""
    control = Control(LoadStatus(Phase.RUNNING, "run-1", 1000.0))
    at = shown(path, change(1, "firing", "inactive"), control=control)
    field(at, "Comment").set_value("known")
    next(one for one in at.selectbox if one.label == "For").select("1 h")
    button(at, "silence").click().run()
    assert control.silenced == [(["*"], 3600.0, "somebody", "known")]
    assert "by somebody: known" in text_of(at)
    button(at, "unsilence-*").click().run()
    assert control.silenced[-1][0] == ["*"]
    assert control.silenced[-1][1] < 1
    assert "1 firing" in text_of(at)


def test_refused_silence_is_told_and_not_shown(path: Path) -> None:
    """What the worker did not hear did not happen."""
    control = Control(LoadStatus(Phase.RUNNING, "run-1", 1000.0), gone=True)
    at = shown(path, change(1, "firing", "inactive"), control=control)
    button(at, "silence").click().run()
    assert not at.exception
    assert at.toast[0].value == "The worker process ended."
    assert "1 firing" in text_of(at)


def test_new_rule_is_checked_previewed_and_saved(path: Path) -> None:
    """As it is typed; what is wrong is marked at its place and cannot be saved."""
    at = shown(path, tab="Rules")
    assert not at.warning
    assert button(at, "save_rule").disabled
    field(at, "Name").set_value("full")
    field(at, "Fires while").set_value("pendin > 5").run()
    assert "column 1" in at.warning[0].value.replace("\\", "")
    assert at.code[0].value == "pendin > 5\n^"
    assert button(at, "save_rule").disabled
    assert not at.get("echarts_chart")
    field(at, "Fires while").set_value("pending >= 0").run()
    assert not at.warning
    assert "Would have fired once" in text_of(at)
    assert at.get("echarts_chart")
    button(at, "save_rule").click().run()
    assert not at.exception
    assert alert_rules.read(path).rules[0].expression.text == "pending >= 0"
    assert at.toast[0].value == "Saved. The next run uses it."


def test_default_rule_that_is_switched_off_stays_a_default_rule(path: Path) -> None:
    """Only its name is noted, so that its limits go on fitting each run."""
    at = shown(path, tab="Rules")
    next(one for one in at.selectbox if one.label == "Rule to edit").select("ack_latency").run()
    at.toggle[0].set_value(False)
    button(at, "save_rule").click().run()
    file = alert_rules.read(path)
    assert file.rules == ()
    assert file.off == {"ack_latency"}


def test_changed_default_rule_can_be_put_back(path: Path) -> None:
    """What was changed is dropped from the file."""
    write(path, '[[rules]]\nname = "pending"\nwhen = "pending > 9"\n')
    at = shown(path, tab="Rules")
    next(one for one in at.selectbox if one.label == "Rule to edit").select("pending").run()
    assert field(at, "Fires while").value == "pending > 9"
    button(at, "drop_rule").click().run()
    assert alert_rules.read(path).rules == ()
    assert field(at, "Fires while").value == "pending > 5000"


@pytest.mark.parametrize("tab", ["Rules", "Sinks"])
def test_wrong_file_is_told_and_not_touched(path: Path, tab: str) -> None:
    """Nobody can save over what they have not seen."""
    path.write_text("[[rules")
    at = shown(path, tab=tab)
    assert at.error[0].proto.title == "alerts.toml cannot be used"
    assert not [one for one in at.button if one.key in ("save_rule", "add_sink")]
    assert path.read_text() == "[[rules"


def test_rules_can_be_edited_before_the_first_run(path: Path) -> None:
    """Only the preview waits for a run."""
    at = shown(path, tab="Rules", source=Source())
    field(at, "Name").set_value("full")
    field(at, "Fires while").set_value("pending > 5").run()
    assert not button(at, "save_rule").disabled


def test_sinks_page_adds_tests_and_removes(path: Path) -> None:
    """A sink is checked before it is kept; the test says what became of it."""
    tests = SinkTests(lambda tables: [SinkStatus("log", failed=1, last_error="disk full", last_duration_s=0.1)])
    at = shown(path, tab="Sinks", tests=tests)
    assert at.info[0].proto.title == "No sink yet"
    assert button(at, "send_test").disabled
    button(at, "add_sink").click().run()
    assert "needs url" in at.error[0].value
    at.button_group[0].set_value("log").run()
    button(at, "add_sink").click().run()
    assert alert_rules.read(path).sinks == ({"kind": "log"},)
    button(at, "send_test").click().run()
    tests.wait(10)
    at.run()
    assert list(at.dataframe[0].value["Last test"]) == ["✖ failed"]
    assert "disk full" in at.error[0].value
    button(at, "remove-sink-0").click().run()
    assert alert_rules.read(path).sinks == ()


def test_sink_that_cannot_be_used_is_told(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No run can begin with it: that is said before somebody tries."""
    monkeypatch.delenv("GONE", raising=False)
    write(path, '[[sinks]]\nkind = "webhook"\nurl = "env:GONE"\n')
    at = shown(path, tab="Sinks")
    assert any("env:GONE" in one.value.replace("\\", "") for one in at.error)
    assert button(at, "send_test").disabled
