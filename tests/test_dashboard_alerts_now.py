"""What the Alerts page shows while a run goes on: values of now, how near an alert is to firing, who was told."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from dashboard import alert_states
from dashboard.alert_states import Standing
from dashboard.control import LoadControl, LoadSettings, LoadStatus, Phase
from eventbus.alerts import AlertNow, AlertPhase, SinkStatus, parse, rules_from_plain
from eventbus.observe import RunStatus
from tests.dashboard_fakes import START_S, run_info
from tests.test_dashboard_alerts import SLOW, Control, button, change, path, shown, table, text_of

__all__ = ["path"]
WAITING = {**SLOW, "for": "5s", "keep_firing_for": "1m"}
RULES = rules_from_plain([WAITING, {"name": "full", "when": "pending > 5000"}])
FIRING = AlertNow("slow", AlertPhase.FIRING, START_S + 3, 0.412, 0.25)
CALM = AlertNow("slow", AlertPhase.INACTIVE, START_S, 0.001, 0.25)
THIN = "\N{NARROW NO-BREAK SPACE}"


def control_of(*alerts: AlertNow, sinks: tuple[SinkStatus, ...] = (), run_id: str = "run-1") -> Control:
    control = Control(LoadStatus(Phase.RUNNING, run_id, 1000.0))
    control.alerts, control.sinks = alerts, sinks
    return control


# ---- where alerts stand -----------------------------------------------------------------------------------------


def test_every_rule_stands_somewhere() -> None:
    """By what the run tells, else by its last change, else at rest with the threshold that its expression has."""
    slow, full = alert_states.standings([], RULES, [FIRING])
    assert (slow.phase, slow.value, slow.threshold, slow.live) == (AlertPhase.FIRING, "412 ms", "> 250 ms", True)
    assert (full.phase, full.value, full.threshold, full.live) == (AlertPhase.INACTIVE, "", "> 5,000", False)
    (stored, _) = alert_states.standings([change(1, "firing", "inactive")], RULES)
    assert (stored.value, stored.live) == ("300 ms", False)


def test_alerts_that_people_are_told_of_stand_before_muted_ones() -> None:
    """What inhibits others is above them."""
    muted = AlertNow("slow", AlertPhase.FIRING, START_S, 1.0, 0.25, muted="inhibited by full")
    told = AlertNow("full", AlertPhase.FIRING, START_S + 5, 6000.0, 5000.0)
    assert [one.rule for one in alert_states.active(alert_states.standings([], RULES, [muted, told]))] == [
        "full",
        "slow",
    ]


def test_examples_can_be_read() -> None:
    """What the page proposes to type is an expression."""
    from dashboard.views import alerts_rules

    examples = re.findall(r"`(.*?)`", alerts_rules.EXAMPLES)
    assert [parse(text).text for text in examples] == examples
    assert len(examples) == 5


def test_newer_of_store_and_worker_counts() -> None:
    """Each may be a moment ahead of the other; the same change is shown with the value of now."""
    fired = change(3, "firing", "pending")
    (same, _) = alert_states.standings([fired], RULES, [FIRING])
    assert (same.since_s, same.value) == (fired.wall_s, "412 ms")
    over = change(9, "resolved", "firing", value=0.1)
    (ahead, _) = alert_states.standings([fired, over], RULES, [FIRING])
    assert (ahead.phase, ahead.live) == (AlertPhase.RESOLVED, False)


def test_rule_that_is_not_known_is_shown_all_the_same() -> None:
    """Rules of another version cannot be read; what is told of them by name stays."""
    (found,) = alert_states.standings([change(1, "firing", "inactive")], (), [FIRING])
    assert (found.rule, found.value, found.severity, found.text) == ("slow", "0.412", "critical", "Acks are slow")
    (bare,) = alert_states.standings([], (), [AlertNow("x", AlertPhase.NO_DATA, START_S)])
    assert (bare.value, bare.phase) == ("no data", AlertPhase.NO_DATA)


@pytest.mark.parametrize(
    ("phase", "after_s", "progress", "words"),
    [
        (AlertPhase.PENDING, 3.9, 0.78, f"holds for 3 of 5{THIN}s, then it fires"),
        (AlertPhase.PENDING, 9.0, 1.0, f"holds for 5 of 5{THIN}s, then it fires"),
        (AlertPhase.FIRING, 12.3, 1.0, f"firing for 12{THIN}s"),
        (AlertPhase.FIRING, 125.0, 1.0, f"firing for 2{THIN}min 5{THIN}s"),
        (AlertPhase.RECOVERING, 30.0, 0.5, f"over for 30{THIN}s of 1{THIN}min, then it is resolved"),
        (AlertPhase.NO_DATA, 1.0, 0.0, f"no data for 1{THIN}s"),
        (AlertPhase.FIRING, -2.0, 1.0, f"firing for 0{THIN}s"),
    ],
)
def test_how_near_an_alert_is_to_what_comes_next(
    phase: AlertPhase, after_s: float, progress: float, words: str
) -> None:
    """In whole seconds, and never beyond its end: clocks of two processes may differ a little."""
    (found, _) = alert_states.standings([], RULES, [AlertNow("slow", phase, START_S)])
    assert found.progress(START_S + after_s) == pytest.approx(progress)
    assert found.told(START_S + after_s) == words


def test_alert_without_for_has_no_way_to_go() -> None:
    """Nothing is divided by nothing."""
    one = Standing("x", AlertPhase.PENDING, "warning", START_S, "1", "2")
    assert one.progress(START_S + 1) == 0
    assert one.told(START_S + 1) == f"pending for 1{THIN}s"


def test_each_time_that_an_alert_fired() -> None:
    """Recovering belongs to it, a repeat is no new one, and the last may go on."""
    changes = [
        change(1, "pending", "inactive"),
        change(2, "firing", "pending"),
        change(3, "firing", "firing"),
        change(4, "recovering", "firing"),
        change(5, "firing", "recovering"),
        change(6, "resolved", "recovering"),
        change(7, "firing", "resolved"),
    ]
    assert [(one.from_s - START_S, one.to_s and one.to_s - START_S) for one in alert_states.firings(changes)] == [
        (2, 6),
        (7, None),
    ]


# ---- the page ---------------------------------------------------------------------------------------------------


def settings_of(*rules: dict[str, Any]) -> dict[str, Any]:
    return {"rules": list(rules)}


def progress_of(at: Any) -> list[int]:
    return [one.proto.value for one in at.get("progress")]


def test_card_shows_the_value_of_now_beside_its_threshold(path: Path) -> None:
    """With units, how long it fires, and a full bar; the table has the same."""
    at = shown(path, change(3, "firing", "pending"), control=control_of(FIRING))
    text = text_of(at)
    assert "**412 ms** :small[:gray[now; fires while > 250 ms" in text
    assert "firing for" in text
    assert "Look at the disk." in text
    assert progress_of(at) == [100]
    row = table(at, "Fired").iloc[0]
    assert (row["State"], row["Value"], row["Threshold"], row["Fired"]) == ("▲ firing", "412 ms", "> 250 ms", 1)


def test_pending_alert_shows_how_near_it_is(path: Path) -> None:
    """A bar, and the seconds that it has held of those that it must."""
    now = AlertNow("slow", AlertPhase.PENDING, time.time() - 2.5, 0.3, 0.25)
    run = run_info(settings=settings_of({**WAITING, "for": "100h"}))
    at = shown(path, run=run, control=control_of(now))
    assert "1 pending" in text_of(at)
    assert "of 100 h, then it fires" in text_of(at)
    assert progress_of(at) == [0]
    now = AlertNow("slow", AlertPhase.PENDING, time.time() - 180_000, 0.3, 0.25)
    (value,) = progress_of(shown(path, run=run, control=control_of(now)))
    assert value == 50


def test_calm_run_shows_every_rule_with_its_value(path: Path) -> None:
    """Nothing is empty: what is looked at, and how far it is from its threshold."""
    at = shown(path, run=run_info(settings=settings_of(SLOW)), control=control_of(CALM))
    text = text_of(at)
    assert "No alert is firing." in text
    assert "None has fired in this run. Each of its 1 rules is looked at" in text
    assert list(table(at, "Fired")["Value"]) == ["1 ms"]
    assert not at.get("progress")
    assert len(at.dataframe) == 1


def test_alert_that_is_over_is_told_of_below(path: Path) -> None:
    """When it fired, and for how long; of many the newest."""
    changes = [change(at + 0.5, "firing", "resolved") for at in range(0, 40, 4)]
    changes += [change(at + 3.0, "resolved", "firing") for at in range(0, 40, 4)]
    text = text_of(shown(path, *sorted(changes, key=lambda one: one.wall_s), control=control_of(CALM)))
    assert "No alert is firing." in text
    assert text.count("fired for") == 5
    assert "fired for 2.50 s" in text
    assert "and 5 before: see the history" in text


def test_values_of_another_run_are_not_shown(path: Path) -> None:
    """What the newest run tells is not of the run that is looked at."""
    sinks = (SinkStatus("log", delivered=3),)
    at = shown(path, change(1, "firing", "inactive"), control=control_of(FIRING, sinks=sinks, run_id="run-2"))
    assert "412 ms" not in text_of(at)
    assert re.search(r"\*\*300 ms\*\* :small\[:gray\[at \S+; fires while > 250 ms", text_of(at))
    assert "known only of the last run that this dashboard started" in text_of(at)


def test_run_without_rules_says_so(path: Path) -> None:
    """No table of nothing."""
    at = shown(path, run=run_info(settings={"rules": []}))
    assert "This run has no alert rules." in text_of(at)
    assert not at.dataframe


def test_sinks_are_told_while_the_run_goes_on(path: Path) -> None:
    """Whether each is reached, what waits and what was lost, and why the last attempt failed."""
    sinks = (
        SinkStatus("log", delivered=3, last_success_s=START_S, last_duration_s=0.002, where="the log"),
        SinkStatus("hook", failed=1, waiting=2, last_failure_s=START_S, last_error="503", where="https://a.example"),
        SinkStatus("mail", failed=1, dropped=4, last_failure_s=START_S, last_error="refused"),
        SinkStatus("new"),
        SinkStatus("slow", waiting=1),
    )
    found = table(shown(path, control=control_of(CALM, sinks=sinks)), "Delivered")
    assert list(found["State"]) == ["✓ arrives", "◔ trying again", "✖ fails", "○ nothing yet", "◔ sending"]
    assert list(found["Delivered"]) == [3, 0, 0, 0, 0]
    assert found["Last failure"][1].endswith(" 503")
    assert list(found["Dropped"])[2] == 4


def test_run_without_sinks_says_who_is_told(path: Path) -> None:
    """Nobody, and where to change that."""
    assert "Nobody but this page: the run has no sink." in text_of(shown(path, control=control_of(CALM)))


def test_muted_in_the_worker_is_muted_here(path: Path) -> None:
    """A silence by another program is shown too."""
    muted = AlertNow("slow", AlertPhase.FIRING, START_S, 0.4, 0.25, muted="silenced by bob: known")
    text = text_of(shown(path, control=control_of(muted)))
    assert "1 muted" in text
    assert "Nobody is told: silenced by bob: known" in text


def test_interrupted_run_shows_values_of_its_last_changes(path: Path) -> None:
    """Its process is gone: nothing is of now, times end with what is known, and nothing can be pressed."""
    run = run_info(RunStatus.INTERRUPTED, settings=settings_of(SLOW))
    changes = [change(1, "firing", "inactive"), change(9, "pending", "inactive", rule="other")]
    at = shown(path, *changes, run=run, control=Control())
    text = text_of(at)
    assert re.search(r"at \S+; fires while > 250 ms", text)
    assert "firing for 8 s" in text
    assert "When the run broke off" in text
    assert button(at, "acknowledge-slow").disabled


def test_ended_run_keeps_what_it_told_last(path: Path) -> None:
    """Values and sinks of the last run stay to be read, with times up to its end."""
    run = run_info(RunStatus.STOPPED, settings=settings_of(SLOW))
    control = control_of(FIRING, sinks=(SinkStatus("log", delivered=2),))
    control.now = LoadStatus(Phase.IDLE, "run-1")
    at = shown(path, change(3, "firing", "pending"), run=run, control=control)
    assert "firing for 7 s" in text_of(at)
    assert list(table(at, "Delivered")["Delivered"]) == [2]


# ---- from the worker to the page --------------------------------------------------------------------------------


def telling(alerts: tuple[AlertNow, ...], sinks: tuple[SinkStatus, ...]) -> dict[str, Any]:
    return {
        "event": "alerts",
        "alerts": [alert.to_dict() for alert in alerts],
        "sinks": [sink.to_dict() for sink in sinks],
    }


WORKER = """
import json, sys
def say(reply): print(json.dumps(reply), flush=True)
say({"event": "ready"})
for line in sys.stdin:
    if json.loads(line)["cmd"] == "start":
        say({"event": "started", "run_id": "run-7", "url": "memory://"})
        for reply in json.loads(TOLD):
            say(reply)
    else:
        say({"event": "ended", "run_id": "run-7", "status": "stopped", "report": {}, "sinks": json.loads(LAST)})
"""


@pytest.fixture
def load(tmp_path: Path) -> Iterator[LoadControl]:
    sink = SinkStatus("log", delivered=1)
    told = json.dumps([{"event": "alerts", "alerts": [{"name": "broken"}]}, telling((FIRING,), (sink,))])
    last = json.dumps([SinkStatus("log", delivered=2).to_dict()])
    script = WORKER.replace("TOLD", repr(told)).replace("LAST", repr(last))
    control = LoadControl(tmp_path / "runs.db", brokers={}, worker=(sys.executable, "-c", script))
    yield control
    control.close(5.0)


def until(condition: Any) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_control_has_what_the_worker_told_last(load: LoadControl) -> None:
    """Nothing before a run; what cannot be read is passed over; the end tells the last of the sinks."""
    assert (load.alerts_now(), load.sinks_now()) == ((), ())
    load.start(LoadSettings(url="memory://", topic="demo", rate=1.0))
    until(load.alerts_now)
    assert load.alerts_now() == (FIRING,)
    assert [sink.delivered for sink in load.sinks_now()] == [1]
    load.stop()
    until(lambda: not load.status().active)
    assert load.alerts_now() == (FIRING,)
    assert [sink.delivered for sink in load.sinks_now()] == [2]


def test_real_worker_tells_a_firing_alert(tmp_path: Path) -> None:
    """The whole path without a page: rule, engine, worker, control."""
    rules = [{"name": "busy", "when": "increase(acked) > 100"}]
    load = LoadControl(tmp_path / "runs.db", brokers={})
    try:
        load.start(LoadSettings(url="memory://", topic="demo", rate=2000.0, duration_s=60.0, more={"rules": rules}))
        until(lambda: any(alert.state is AlertPhase.FIRING for alert in load.alerts_now()))
        (alert,) = load.alerts_now()
        assert (alert.name, alert.threshold) == ("busy", 100.0)
        assert (alert.value or 0) > 100
    finally:
        load.close()
