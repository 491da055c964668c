"""The form of a load plan, its lines, its file and its picture: without Streamlit."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

pytest.importorskip("tomlkit", reason="the dashboard's tests need: pip install -r requirements-dev.txt")

from dashboard import plan_form, plan_lines, plan_preview, plan_toml
from eventbus.errors import ConfigError
from eventbus.load.plan import LoadPlan
from eventbus.load.presets import PRESETS

EVERYTHING: dict[str, Any] = {
    "name": "all of it",
    "url": "nats://127.0.0.1:4222",
    "shape": {"kind": "ramp", "start_rate": 5.0, "stages": [{"duration_s": 1.5, "rate": 10.0}]},
    "arrivals": "poisson",
    "topics": [{"name": "a.b", "weight": 2.5}, {"name": "c", "weight": 1}],
    "headers": {"Source": "a: b"},
    "template": '{"at":\n"{{ now }}"}',
    "keys": 7,
    "count": 500,
    "warm_up_s": 0.5,
    "drain_s": 0.0,
    "strategy": "task_per_message",
    "max_attempts": 2,
    "processes": 2,
    "seed": 3,
    "thresholds": ["max(pending) < 5", {"expression": "p99(ack_latency) < 1s", "abort": True, "grace": "5s"}],
    "rules": [{"name": "many", "when": "pending > 7", "for": "2s"}],
    "connection": {"ca_file": "/etc/ca.pem"},
}
PLANS = [
    *(made.plan() for made in PRESETS.values()),
    LoadPlan.from_dict(EVERYTHING),
    LoadPlan(),
    LoadPlan(workers=4, payload_size=1, payload_size_max=9),
    LoadPlan.from_dict({"shape": {"kind": "sine", "mean": 10, "amplitude": 5, "period_s": 60}}),
    LoadPlan.from_dict({"replay": "flights.csv", "replay_at": "recorded", "replay_time": "t", "replay_speed": 2.0}),
]
NAMES = [plan.name or str(number) for number, plan in enumerate(PLANS)]


@pytest.mark.parametrize("plan", PLANS, ids=NAMES)
def test_plan_goes_into_the_form_and_comes_out_the_same(plan: LoadPlan) -> None:
    """Nothing of a plan is lost in the fields."""
    found = plan_form.read(plan_form.form_of(plan))
    assert found.problems == {}
    assert found.plan == plan


@pytest.mark.parametrize("plan", PLANS, ids=NAMES)
def test_downloaded_plan_is_read_back_as_it_was(plan: LoadPlan) -> None:
    """The file is one that ``ackscope load`` takes, and says the same plan."""
    text = plan_toml.text_of(plan)
    assert plan_toml.plan_from_upload(text.encode(), plan_toml.file_name(plan)) == plan


def test_file_has_no_credentials() -> None:
    """A plan that somebody passes on gives away neither the broker's login nor where alerts are told."""
    plan = LoadPlan(url="nats://me:secret@host:4222", sinks=({"kind": "webhook", "url": "https://secret"},))
    assert "secret" not in plan_toml.text_of(plan)
    assert "nats://host:4222" in plan_toml.text_of(plan)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"rate = 5\nrat = 6", "my.toml:2: unknown setting 'rat'"),
        (b"\xff", "not UTF-8"),
        (b"#" * 300_000, "right file"),
        (b"thresholds = ['p99(x) < 1']", "my.toml:1"),
    ],
)
def test_uploaded_file_that_is_no_plan_is_refused_with_its_line(content: bytes, said: str) -> None:
    """What is wrong is told as on the command line: file, line and cause."""
    with pytest.raises(ConfigError) as refused:
        plan_toml.plan_from_upload(content, "my.toml")
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("form", "field"),
    [
        ({"thresholds": "p99(ack_latency) < 1s\np99(foo) < 1"}, "thresholds"),
        ({"thresholds": "max(pending) < 5; stop"}, "thresholds"),
        ({"pace": "ramp", "stages": "30s 500\nx"}, "stages"),
        ({"pace": "ramp", "stages": "30s 99999999999"}, "stages"),
        ({"pace": "burst", "length_s": 30.0}, "length_s"),
        ({"topic": "orders.*"}, "topic"),
        ({"topics": "a = 1\na = 2"}, "topics"),
        ({"size_max": 5}, "size_max"),
        ({"content": "Template", "template": "{{"}, "template"),
        ({"headers": "nothing"}, "headers"),
        ({"strategy": "wait_each"}, "strategy"),
        ({"warm_up_s": 10.0, "duration_s": 5.0}, "warm_up_s"),
        ({"pace": "recorded"}, "pace"),
        ({"url": ""}, "url"),
    ],
)
def test_what_is_wrong_is_told_of_the_field_it_is_in(form: dict[str, Any], field: str) -> None:
    """So that it can stand beside it."""
    found = plan_form.read(form)
    assert found.plan is None
    assert list(found.problems) == [field]


def test_lines_are_read_as_people_write_them() -> None:
    """Spaces, units and weights are as free as they can be."""
    assert plan_lines.stages_of("30s 500\n\n 1m: 1,000/s") == [
        {"duration_s": 30.0, "rate": 500.0},
        {"duration_s": 60.0, "rate": 1000.0},
    ]
    assert plan_lines.topics_of("a\nb = 2\nc 3") == [
        {"name": "a"},
        {"name": "b", "weight": 2},
        {"name": "c", "weight": 3},
    ]
    (threshold,) = plan_lines.thresholds_of("p99(ack_latency)<1s ; abort after 5s")
    assert (threshold.abort, threshold.grace_s) == (True, 5.0)


def test_preview_draws_the_shape() -> None:
    """The picture has the rates of the plan over its time, and its warm-up; what has no rate says so in words."""
    plan = PRESETS["burst"].plan()
    option = plan_preview.preview(plan)
    json.dumps(option, allow_nan=False)
    rates = {rate for _, rate in option["dataset"]["source"]}
    assert rates == {500.0, 5000.0}
    assert option["xAxis"]["max"] == 100.0
    assert option["series"][0]["markArea"]["data"][0][1] == {"xAxis": 5.0}
    assert "20 workers" in plan_preview.preview(LoadPlan(workers=20))["title"]["text"]
    assert (
        plan_preview.summary(plan)
        .replace("\N{NARROW NO-BREAK SPACE}", " ")
        .startswith("burst up to 5,000 /s, 1 min 40 s, about 95,000 messages")
    )
    assert plan_preview.summary(replace(LoadPlan(rate=5.0), count=10)).endswith("10 messages")
