"""The Live page, run by Streamlit's own test harness over a run source in memory."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.dashboard_fakes import START_S, MemorySource, StubControl, run_info, sample, steady

pytest.importorskip("streamlit", reason="the dashboard's tests need: pip install -r requirements-dev.txt")

from streamlit.testing.v1 import AppTest
from streamlit.web.server.starlette.starlette_app_utils import generate_xsrf_token_string

from dashboard import widgets
from dashboard.control import LoadStatus, Phase
from dashboard.source import RunHistory
from eventbus import BusEvent, EventKind
from eventbus.load.plan import LoadPlan
from eventbus.load.presets import PRESETS
from eventbus.observe import AlertChange, RunStatus
from eventbus.observe.run import FailureGroup
from eventbus.telemetry.status import ExportStatus

RECORDS = [Path("examples/flights.jsonl")]
RUNNING = LoadStatus(Phase.RUNNING, "run-1", 1000.0)
PANELS = 12
FIGURES = 6


def app(source, history, control, records):  # its source is copied: no name of this file is known there
    from dashboard.views import live

    live.page(source, history, control, records)


def shown(source: MemorySource, control: StubControl) -> AppTest:
    at = AppTest.from_function(app, args=(source, RunHistory(source), control, RECORDS), default_timeout=30)
    return at.run()


def metric(at: AppTest, label: str) -> Any:
    return next(one for one in at.metric if one.label == label)


def chart(at: AppTest, place: int) -> dict[str, Any]:
    spec: dict[str, Any] = json.loads(at.get("echarts_chart")[place].proto.spec)
    return spec


def text_of(at: AppTest) -> str:
    return " ".join(one.value for one in at.markdown)


def test_without_any_run_the_page_says_what_to_do() -> None:
    """An empty store is the normal first sight: a sentence says what to press, and nothing is drawn."""
    at = shown(MemorySource(), StubControl())
    assert not at.exception
    assert "Start" in at.info[0].value
    assert "embedded NATS ready" in text_of(at)
    assert not at.metric
    assert not at.get("echarts_chart")


def notes(at: AppTest) -> list[str]:
    return [one.value for one in at.markdown if "mock" in one.value and "first look" in one.value]


def test_kafka_mock_is_offered_and_called_a_mock() -> None:
    """Both embedded brokers can be chosen; with Kafka's the page says once what it does not check."""
    control = StubControl()
    at = shown(MemorySource(), control)
    broker = at.selectbox(key="broker")
    assert broker.options == ["Embedded NATS", "Kafka mock", "Own broker"]
    assert notes(at) == []
    broker.set_value("Kafka mock").run()
    assert not at.exception
    (note,) = notes(at)
    assert all(word in note for word in ("sequence numbers", "sizes", "logins", "5 MiB", "memory", "README.md"))
    assert "embedded Kafka mock ready" in text_of(at)
    at.button(key="start").click().run()
    assert [settings.url for settings in control.started] == ["embedded+kafka://"]


@pytest.mark.parametrize(
    ("embedded", "url", "name"),
    [
        ("kafka", "kafka://127.0.0.1:4222", "embedded Kafka mock at 127.0.0.1:4222 connected"),
        ("nats", "nats://127.0.0.1:4222", "embedded NATS at 127.0.0.1:4222 connected"),
        (None, "kafka://broker:9092", "kafka://broker:9092 connected"),
    ],
)
def test_badge_names_the_broker_of_the_run(embedded: str | None, url: str, name: str) -> None:
    """Which broker the figures are of is on the page, and the note of the mock only where it is one."""
    run = run_info(url=url, settings={"embedded": embedded, "ack_timeout_s": 5.0, "payload_size": 128})
    at = shown(MemorySource(run, steady(5)), StubControl(RUNNING))
    assert name in text_of(at).replace("\\", "")
    assert len(notes(at)) == (embedded == "kafka")


@pytest.mark.parametrize(
    ("broker", "badge"),
    [
        ("Kafka mock", "embedded Kafka mock ready"),
        ("Embedded NATS", "embedded Kafka mock at 127.0.0.1:4222"),
        ("Own broker", "embedded Kafka mock at 127.0.0.1:4222"),
    ],
)
def test_figures_of_the_mock_stay_called_so_after_the_run(broker: str, badge: str) -> None:
    """Whatever is chosen for the next run, the badge and the note are of the run that is shown."""
    run = run_info(RunStatus.FINISHED, url="kafka://127.0.0.1:4222", settings={"embedded": "kafka"})
    at = AppTest.from_function(
        app, args=(source := MemorySource(run, steady(5)), RunHistory(source), StubControl(), RECORDS)
    )
    at.session_state["broker"] = broker
    at.run(timeout=30)
    assert not at.exception
    assert badge in text_of(at).replace("\\", "")
    assert len(notes(at)) == 1


def test_running_run_shows_figures_charts_and_events() -> None:
    """A run that goes on: rate, ratio, percentiles and pending with units, six charts, events, all of the store."""
    source = MemorySource(
        run_info(), steady(12), events=[BusEvent(START_S + 0.1, EventKind.CONNECTED, "to *nats-server* 2.15")]
    )
    at = shown(source, StubControl(RUNNING))
    assert not at.exception
    assert metric(at, "Acked").value == "1,000\N{NARROW NO-BREAK SPACE}/s"
    assert metric(at, "Error ratio").value == "0\N{NARROW NO-BREAK SPACE}%"
    assert metric(at, "Ack latency p99").value.endswith("ms")
    assert "of 10,000" in metric(at, "Pending").delta
    assert len(at.get("echarts_chart")) == PANELS
    assert len(chart(at, 0)["dataset"]["source"]) == 12
    events = at.dataframe[0].value
    assert list(events["What"]) == ["✓ Connected", "▶ Start"]
    assert next(iter(events["Text"])) == "to *nats-server* 2.15"
    assert "No alert is firing" in text_of(at)
    assert not at.warning


def test_page_that_was_just_opened_has_its_figures_first() -> None:
    """Numbers before charts, and what is seen first before the rest; from the third pass on, all of it."""
    source = MemorySource(run_info(), steady(12))
    at = AppTest.from_function(
        app, args=(source, RunHistory(source), StubControl(RUNNING), RECORDS), default_timeout=30
    )
    at.session_state["passes"] = 0
    seen = []
    for _ in range(4):
        at.run()
        courses = sum(bool(one.proto.chart_data) for one in at.metric)
        seen.append((len(at.metric), courses, len(at.get("echarts_chart")), len(at.dataframe)))
    assert not at.exception
    assert seen == [(FIGURES, 0, 0, 0), (FIGURES, FIGURES, 6, 0), *[(FIGURES, FIGURES, PANELS, 1)] * 2]


def test_page_that_is_opened_on_a_held_picture_has_all_of_it_at_once() -> None:
    """While it is paused no other pass comes."""
    source = MemorySource(run_info(), steady(12))
    at = AppTest.from_function(
        app, args=(source, RunHistory(source), StubControl(RUNNING), RECORDS), default_timeout=30
    )
    at.session_state["passes"] = 0
    at.session_state["paused"] = True
    at.run()
    assert len(at.get("echarts_chart")) == PANELS


def test_head_tells_version_and_round_trip_of_the_broker() -> None:
    """What answers, as the run noted it, and how soon; nothing is made up for a run that noted neither."""
    samples = [*steady(5), replace(sample(5.25), round_trip_s=0.000412)]
    source = MemorySource(run_info(environment={"broker": "nats-server 2.15.1"}), samples)
    told = text_of(shown(source, StubControl(RUNNING))).replace("\\", "")
    assert "nats-server 2.15.1" in told
    assert "round trip 412 µs" in told
    assert "round trip" not in text_of(shown(MemorySource(run_info(), steady(5)), StubControl(RUNNING)))


def test_spans_that_were_dropped_stand_beside_the_lags() -> None:
    """Those of the run that is shown, lost ones among them; of another run, and without telemetry, nothing is said."""
    traces = ExportStatus("traces", "otlp", "http://127.0.0.1:4318", dropped=1200, lost=34)
    metrics = ExportStatus("metrics", "otlp", "http://127.0.0.1:4318", lost=9)
    run = MemorySource(run_info(), steady(5))
    told = text_of(shown(run, StubControl(replace(RUNNING, telemetry=(traces, metrics)))))
    assert "peak, 1,234 spans dropped" in told.replace("\\", "")
    other = LoadStatus(Phase.RUNNING, "run-2", 1000.0, telemetry=(traces,))
    assert "spans" not in text_of(shown(run, StubControl(other)))


def test_firing_alert_is_on_the_page_until_it_ends() -> None:
    """Alerts come from the worker: one that fires is shown with its threshold, one that ended is not."""
    fired = AlertChange(START_S + 3, "pending", True, 6000.0, 5000.0, "More than 5,000 messages wait for their ack")
    source = MemorySource(run_info(), steady(5), alerts=[fired])
    at = shown(source, StubControl(RUNNING))
    assert "More than 5,000 messages wait" in text_of(at).replace("\\", "")
    assert "1 firing" in text_of(at)
    source.told_alerts = [fired, AlertChange(START_S + 4, "pending", False, 100.0, 5000.0)]
    at.run()
    assert "No alert is firing" in text_of(at)


def test_failures_are_grouped_and_the_ratio_is_marked() -> None:
    """Messages that failed alike are one row; a ratio above its threshold is said in words."""
    groups = [
        FailureGroup(
            "too_large", "demo.events", "rejected", "1 MiB at most", 3, START_S, START_S + 1, "id-0", "ab" * 16
        )
    ]
    samples = [*steady(4), sample(5, rejected=500, accepted=5500, errors={"too_large": 500})]
    at = shown(MemorySource(run_info(), samples, groups=groups), StubControl(RUNNING))
    assert not at.exception
    assert metric(at, "Error ratio").delta.startswith("above")
    row = at.dataframe[1].value.iloc[0]
    assert (row["Count"], row["Kind"], row["Message id"]) == (3, "too large", "id-0")
    assert "too large" in chart(at, 1)["dataset"]["dimensions"]


@pytest.mark.parametrize(
    ("status", "changes", "words"),
    [
        (RunStatus.INTERRUPTED, {}, "interrupted"),
        (RunStatus.FAILED, {"error": "broker *refused* us"}, "refused"),
        (RunStatus.STOPPED, {"report": {"accepted": 10_000, "acked": 10_000}}, "All 10,000"),
        (RunStatus.FINISHED, {"report": {"accepted": 10_000, "acked": 9_990}}, "10 of 10,000"),
    ],
)
def test_ended_run_says_how_it_ended_and_can_be_followed_by_another(
    status: RunStatus, changes: dict[str, Any], words: str
) -> None:
    """Whatever the end, it is told in words, the figures stay, and Start is there again."""
    at = shown(MemorySource(run_info(status, **changes), steady(10)), StubControl())
    assert not at.exception
    said = " ".join(one.value for kind in (at.success, at.warning, at.error) for one in kind)
    assert words in said
    assert str(status) in text_of(at)
    assert len(at.metric) == FIGURES
    assert at.button(key="start").label == "Start"


def test_late_acks_are_no_errors_at_the_end() -> None:
    """Where all was acked, some of it late, the ratio of the whole run is nothing, and says how many were late."""
    samples = [*steady(4), sample(5, accepted=5000, acked=5000, late_acks=300)]
    run = run_info(RunStatus.STOPPED, report={"accepted": 5000, "acked": 5000})
    at = shown(MemorySource(run, samples), StubControl())
    assert metric(at, "Error ratio").value == "0\N{NARROW NO-BREAK SPACE}%"
    assert metric(at, "Error ratio").delta == "300 acked late"


def test_unreadable_store_is_told_without_a_traceback() -> None:
    """A store that cannot be read is one sentence on the page, and the controls go on working."""
    control = StubControl()
    at = shown(MemorySource(trouble="store runs.db is damaged: move it away"), control)
    assert not at.exception
    assert "runs\\.db is damaged" in at.error[0].value
    at.button(key="start").click().run()
    assert len(control.started) == 1


def test_start_sends_what_the_form_says() -> None:
    """The values of the form become the settings of the run, advanced ones and the file of records among them."""
    control = StubControl()
    at = shown(MemorySource(), control)
    at.selectbox(key="broker").set_value("Own broker").run()
    at.text_input(key="url").set_value(" nats://broker:4222 ")
    at.text_input(key="topic").set_value("flights.departed")
    at.number_input(key="rate").set_value(750)
    payload: Any = at.get_by_key("payload")
    payload.set_value("Real records").run()
    at.session_state["plan_open"] = True
    at.run()
    at.number_input(key="max_pending").set_value(100)
    at.number_input(key="ack_timeout").set_value(1.5)
    at.number_input(key="duration").set_value(20)
    at.button(key="start").click().run()
    assert not at.exception
    (settings,) = control.started
    assert (settings.url, settings.topic, settings.rate) == ("nats://broker:4222", "flights.departed", 750.0)
    assert (settings.replay, settings.max_pending, settings.ack_timeout_s) == (RECORDS[0], 100, 1.5)
    assert settings.duration_s == 20.0
    assert at.button(key="stop").label == "Stop"


def test_start_that_was_refused_says_why() -> None:
    """What the control refuses stands below the form as it was told, and the form stays."""
    control = StubControl(refusal="no broker at nats://nowhere:1")
    at = shown(MemorySource(), control)
    at.button(key="start").click().run()
    assert not at.exception
    assert "no broker" in at.error[0].value
    assert at.button(key="start").label == "Start"


def test_rate_is_changed_while_the_run_goes_on() -> None:
    """A new number in the rate field goes to the run at once; the field begins with the run's own rate."""
    control = StubControl(RUNNING)
    at = shown(MemorySource(run_info(), steady(5)), control)
    assert at.number_input(key="rate").value == 1000
    at.number_input(key="rate").set_value(2500).run()
    assert control.rates == [2500.0]
    assert at.number_input(key="rate").value == 2500


def test_form_begins_with_the_rate_of_the_run_before(caplog: pytest.LogCaptureFixture) -> None:
    """A run's last rate is the next one's, until somebody types another."""
    control = StubControl(LoadStatus(Phase.IDLE, "run-1", 4000.0))
    at = shown(MemorySource(run_info(RunStatus.STOPPED), steady(5)), control)
    assert at.number_input(key="rate").value == 4000
    at.number_input(key="rate").set_value(750).run()
    assert at.number_input(key="rate").value == 750
    at.button(key="start").click().run()
    assert [settings.rate for settings in control.started] == [750.0]
    assert "Session State" not in caplog.text


def test_rate_changed_by_another_session_is_shown(caplog: pytest.LogCaptureFixture) -> None:
    """All sessions show the rate that the run has, not the one that they once asked for; Streamlit is content."""
    control = StubControl(RUNNING)
    at = shown(MemorySource(run_info(), steady(5)), control)
    control.now = LoadStatus(Phase.RUNNING, "run-1", 4000.0)
    at.run()
    assert at.number_input(key="rate").value == 4000
    at.run()
    assert at.number_input(key="rate").value == 4000
    assert "Session State" not in caplog.text
    assert control.rates == []


def test_stop_is_pressed_once() -> None:
    """Stop asks the control, and cannot be pressed again while outstanding acks are awaited; it ends a pause."""
    control = StubControl(RUNNING)
    at = shown(MemorySource(run_info(), steady(5)), control)
    at.toggle(key="paused").set_value(True).run()
    at.button(key="stop").click().run()
    assert control.stops == 1
    assert at.button(key="stop").disabled
    assert not at.toggle(key="paused").value


def test_paused_page_holds_its_picture() -> None:
    """While paused, new samples do not move the charts; afterwards they do."""
    source = MemorySource(run_info(started_wall_s=START_S), steady(8))
    at = shown(source, StubControl(RUNNING))
    at.session_state["held_at"] = START_S + 5
    at.toggle(key="paused").set_value(True).run()
    assert len(chart(at, 0)["dataset"]["source"]) == 5
    at.toggle(key="paused").set_value(False).run()
    assert len(chart(at, 0)["dataset"]["source"]) == 8


def test_refresh_reads_only_what_is_new() -> None:
    """The history of a run is read once; a refresh asks for later samples alone."""
    source = MemorySource(run_info(), steady(5))
    at = shown(source, StubControl(RUNNING))
    at.run()
    assert source.asked[0][0] is None
    assert {since for since, _ in source.asked[1:]} == {START_S + 5}


# the plan


def opened(control: StubControl) -> AppTest:
    at = shown(MemorySource(), control)
    at.session_state["plan_open"] = True
    return at.run()


def test_closed_plan_costs_nothing_and_is_told_in_a_line() -> None:
    """One press starts a run; what it would do stands beside the button, and no field of the plan is drawn."""
    at = shown(MemorySource(), StubControl())
    assert "2,000" in at.caption[0].value
    assert "until stopped" in at.caption[0].value
    assert not at.text_area
    assert not at.get("echarts_chart")


def test_preset_fills_the_form_and_is_what_starts() -> None:
    """All of the preset is in the fields, the shape is drawn, and the run gets exactly that plan."""
    control = StubControl()
    at = opened(control)
    at.text_input(key="topic").set_value("flights.departed").run()
    at.selectbox(key="plan_preset").set_value("burst").run()
    assert not at.exception
    assert at.number_input(key="plan_peak_1").value == 5000
    assert max(rate for _, rate in chart(at, 0)["dataset"]["source"]) == 5000
    at.button(key="start").click().run()
    assert not at.exception
    (settings,) = control.started
    plan = LoadPlan.from_dict({key: value for key, value in settings.command("nats://x:1").items() if key != "cmd"})
    wanted = PRESETS["burst"].plan(url="nats://x:1", embedded="nats", topic="flights.departed", name="")
    assert plan.shape == wanted.shape
    assert (plan.duration_s, plan.warm_up_s, plan.thresholds) == (100.0, 5.0, wanted.thresholds)
    assert (plan.rate, plan.topic) == (None, "flights.departed")


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("plan_thresholds", "p99(ack_latency) < 1s\np99(latency) < 1s", "line 2: expression, column 5"),
        ("plan_topics", "orders.created = many", "line 1"),
        ("plan_headers", "no colon", "line 1"),
    ],
)
def test_what_is_wrong_stands_beside_its_field_and_starts_nothing(name: str, text: str, said: str) -> None:
    """Each line is checked as it is typed; Start opens the plan and sends nothing."""
    control = StubControl()
    at = opened(control)
    at.text_area(key=name).set_value(text).run()
    assert any(said in one.value.replace("\\", "") for one in at.markdown)
    at.button(key="start").click().run()
    assert not at.exception
    assert control.started == []
    assert "cannot be started" in at.caption[0].value


def test_workers_take_the_place_of_the_rate() -> None:
    """A closed model has no rate: its field gives way, and the strategy that needs workers can be chosen."""
    control = StubControl()
    at = opened(control)
    at.selectbox(key="plan_pace").set_value("workers").run()
    at.number_input(key="plan_workers").set_value(7)
    at.selectbox(key="plan_strategy").set_value("wait_each").run()
    assert not [one for one in at.number_input if one.key == "rate"]
    at.button(key="start").click().run()
    more = control.started[0].more
    assert (more["workers"], more["strategy"], more["rate"]) == (7, "wait_each", None)


# who holds the controls, and what a run says of itself


def test_run_of_another_browser_says_whose_it_is_and_can_be_taken() -> None:
    """Others see who holds the controls and since when; they may stop the run, and take the controls over."""
    control = StubControl(LoadStatus(Phase.RUNNING, "run-1", 1000.0, by="b", by_name="Firefox", since_wall_s=START_S))
    at = shown(MemorySource(run_info(), steady(5)), control)
    assert "held by another browser (Firefox) since" in at.caption[0].value
    assert at.number_input(key="rate").disabled
    assert not at.button(key="stop").disabled
    at.button(key="take").click().run()
    assert not at.exception
    assert not at.number_input(key="rate").disabled
    at.number_input(key="rate").set_value(500).run()
    assert control.rates == [500.0]


def test_progress_and_verdict_of_a_run() -> None:
    """While it goes on: how much of its time is over. When it is over: each threshold with its value."""
    settings = {"ack_timeout_s": 5.0, "payload_size": 128, "duration_s": 20.0}
    at = shown(MemorySource(run_info(settings=settings), steady(5)), StubControl(RUNNING))
    (progress,) = at.get("progress")
    assert progress.proto.value == 25
    row = {"text": "p99(ack_latency) < 250ms", "passed": False, "value": 0.5, "threshold": 0.25, "unit": "s"}
    run = run_info(RunStatus.FINISHED, settings=settings, verdict={"passed": False, "rows": [row]})
    at = shown(MemorySource(run, steady(5)), StubControl())
    assert not at.exception
    assert not at.get("progress")
    assert "does not hold" in text_of(at)
    assert "500 ms" in text_of(at)


def test_thresholds_of_the_alerts_are_drawn() -> None:
    """Those of the rules that the run was started with, and those that it is judged by."""
    settings = {"ack_timeout_s": 5.0, "max_pending": 1000, "thresholds": ["p99(ack_latency) < 250ms"]}
    at = shown(MemorySource(run_info(settings=settings), steady(5)), StubControl(RUNNING))
    levels = [line["yAxis"] for line in chart(at, 2)["series"][-1]["markLine"]["data"] if "yAxis" in line]
    assert levels == [500.0, 250.0]


def test_browser_is_known_again_after_a_reload() -> None:
    """Streamlit writes the same token under another mask with each load of a page; pinned with its own generator."""
    token, other = bytes(range(16)), bytes(16)
    written = [generate_xsrf_token_string(token, at) for at in (1, 2)]
    assert written[0] != written[1]
    assert {widgets.unmasked(cookie) for cookie in (*written, f'"{written[0]}"')} == {token}
    assert widgets.unmasked(generate_xsrf_token_string(other)) == other
    assert widgets.unmasked("of-another-version") == b"of-another-version"
    assert widgets.unmasked("2||aa|1") == b"2||aa|1"
