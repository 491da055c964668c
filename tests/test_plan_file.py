"""Plans as TOML files: what they may say, and how what is wrong is told: in one line with its place, before anything
is sent."""

from __future__ import annotations

import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from eventbus.errors import ConfigError
from eventbus.load.payload import open_messages
from eventbus.load.plan import LoadPlan, WeightedTopic
from eventbus.load.plan_file import plan_from, plan_of
from eventbus.load.shape import Ramp, Stage
from eventbus.toml_text import TomlText

EXAMPLES = sorted((Path(__file__).parents[1] / "examples" / "plans").glob("*.toml"))


def plan(text: str) -> LoadPlan:
    return plan_of(TomlText(text, "plan.toml"))


def refusal(text: str) -> str:
    """What is said about a plan that cannot be."""
    with pytest.raises(ConfigError) as caught:
        plan(text)
    said = str(caught.value)
    assert "\n" not in said
    assert len(said) < 1000
    return said


# ---- what a plan may say --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path: Path) -> None:
    """Each example is a plan that ends by itself, has thresholds, and has messages to send."""
    found = plan_from(path)
    assert found.name == path.stem
    assert found.thresholds
    messages = open_messages(found)
    assert messages.total is not None or found.sending_s is not None
    assert next(messages.source).topic in found.topic_names


def test_examples_show_every_setting() -> None:
    """Together the examples show what there is: shapes, topics, keys, headers, template, replay, rules, workers."""
    plans = [plan_from(path) for path in EXAMPLES]
    assert any(found.shape for found in plans)
    assert any(found.topics and found.headers and found.keys and found.template for found in plans)
    assert any(found.replay_at == "recorded" for found in plans)
    assert any(found.rules for found in plans)
    assert any(found.workers for found in plans)
    assert any(found.arrivals == "poisson" for found in plans)


def test_names_of_a_file_are_those_of_the_plan() -> None:
    """All settings may stand in a file; times have a unit, the rest is as in the plan."""
    found = plan(
        """
name = "all"
url = "memory://"
strategy = "task_per_message"
arrivals = "poisson"
duration = "1.5m"
ack_timeout = "500ms"
warm_up = "0s"
drain = "0s"
count = 5
payload_size = 1
payload_size_max = 2
keys = 3
seed = 4
max_pending = 5
max_attempts = 6
processes = 2
thresholds = ["max(pending) < 5"]
sinks = [{ kind = "log" }]
topics = [{ name = "a", weight = 0.5 }, { name = "b" }]
headers.kind = "test"
[shape]
kind = "ramp"
stages = [{ duration = "1m", rate = 5 }]
[[rules]]
name = "slow"
when = "max(pending) > 5"
"""
    )
    assert (found.duration_s, found.ack_timeout_s, found.warm_up_s, found.drain_s) == (90, 0.5, 0, 0)
    assert found.shape == Ramp((Stage(60, 5),))
    assert found.topics == (WeightedTopic("a", 0.5), WeightedTopic("b"))
    assert found.headers == {"kind": "test"}
    assert found.sinks == ({"kind": "log"},)
    assert [rule.name for rule in found.rules or ()] == ["slow"]
    assert LoadPlan.from_dict(found.to_dict()) == found


def test_empty_file_is_the_default_plan() -> None:
    """Nothing said is everything by default."""
    assert plan("") == LoadPlan()


def test_file_to_replay_lies_beside_the_plan(tmp_path: Path) -> None:
    """A relative path is looked for beside the plan's file, from wherever the program is started."""
    (tmp_path / "rows.jsonl").write_text("1\n2\n")
    (tmp_path / "plan.toml").write_text('replay = "rows.jsonl"')
    assert open_messages(plan_from(tmp_path / "plan.toml")).total == 2
    (tmp_path / "plan.toml").write_text('replay = "/other/rows.jsonl"')
    assert plan_from(tmp_path / "plan.toml").replay == Path("/other/rows.jsonl")


# ---- how what is wrong is told --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rate = 0", "plan.toml:1: rate is 0; use more than 0 and at most 10,000,000"),
        ("\n\nratte = 5", "plan.toml:3: unknown setting 'ratte'; did you mean 'rate'?"),
        ("duration_s = 5", "plan.toml:1: unknown setting 'duration_s'; did you mean 'duration'?"),
        ("zzzzzz = 5", "plan.toml:1: unknown setting 'zzzzzz'; known are url, topic, rate, duration,"),
        ("share = [0, 2]", "plan.toml:1: unknown setting 'share'"),
        (
            "rate = 5\nduration = 5",
            "plan.toml:2: duration cannot be used: '5' is not a duration above zero; write it as",
        ),
        ('duration = "\u0665s"', "plan.toml:1: duration cannot be used: '\u0665s' is not a duration above zero"),
        ('duration = "0s"', "plan.toml:1: duration cannot be used: '0s' is not a duration above zero"),
        ('duration = "5s"\nwarm_up = "5s"', "plan.toml:2: warm_up is 5; use less than the 5 s of the run"),
        ('drain = "never"', "plan.toml:1: drain cannot be used: 'never'"),
        ("workers = 5\nrate = 5", "plan.toml:1: workers and a rate exclude each other"),
        ('[shape]\nkind = "ramp"\n', "plan.toml:1: shape.stages cannot be used: stages is missing"),
        ('[shape]\nkind = "rmap"\n', "plan.toml:2: shape.kind cannot be used: kind is 'rmap'"),
        (
            '[shape]\nkind = "step"\n[[shape.stages]]\nduration = "1s"\nrate = 5\n'
            '[[shape.stages]]\nduration = "1s"\nrate = -5',
            "plan.toml:8: shape.stages[1].rate cannot be used: stage 2: rate is -5",
        ),
        ('[[topics]]\nname = "a"\n[[topics]]\nname = "b.*"', "plan.toml:4: topics[1].name 'b.*' has a wildcard"),
        ('[[topics]]\nname = "a"\nweight = 0', "plan.toml:3: topics[0].weight is 0; use more than 0"),
        ("[[topics]]\nwait = 1", "plan.toml:1: topics[0] is {'wait': 1}; give a table with name"),
        ('[headers]\na = "b"\nc = 5', "plan.toml:3: headers.c is 5; names and values must be text"),
        ('[headers]\n"a\\nb" = 5', "plan.toml:2: headers.'a\\nb' is 5"),
        ("template = '''\n{\n\"a\": {{ x }\n'''", "plan.toml:4: template cannot be used: template, line 2, column 6"),
        ('thresholds = ["p99(ack_latency) < 1%"]', "plan.toml:1: "),
        ('[[rules]]\nname = "a"\nwhen = "max(pendin) > 5"', "plan.toml:3: "),
        ('[[sinks]]\nkind = "log"\n[[sinks]]\nkind = "fax"', "plan.toml:4: "),
        ("rate = ", "plan.toml: Invalid value (at end of document)"),
        ("rate = 5\nrate = 6", "plan.toml: Cannot overwrite a value (at end of document)"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(text: str, said: str) -> None:
    """File, line, cause, and what is allowed, by the names of the file."""
    assert refusal(text).startswith(said)


def test_file_that_cannot_be_read(tmp_path: Path) -> None:
    """A missing file, a directory and a file that is no text are told with their name."""
    (tmp_path / "bytes.toml").write_bytes(b'name = "a"\ntopic = "\xff"\n')
    for path, said in (("none.toml", "cannot be read"), ("", "cannot be read"), ("bytes.toml", ":2: not UTF-8")):
        with pytest.raises(ConfigError) as caught:
            plan_from(tmp_path / path)
        assert str(tmp_path / path) in str(caught.value)
        assert said in str(caught.value)


# ---- a thousand plans -----------------------------------------------------------------------------------------------

NUMBERS = [
    "-1",
    "nan",
    "inf",
    "-inf",
    '"5"',
    '""',
    "true",
    "[]",
    "{}",
    "[1]",
    "2026-11-23",
    "07:30:00",
    "1" + "0" * 400,
]
WHOLE = [*NUMBERS, "1.5", "0x_", "1e3"]
TIMES = [*WHOLE, "5", '"5"', '"5 s"', '"-5s"', '"1d"', '"s"', '"1e3s"', '"' + "9" * 400 + 's"', '"\\u0000"']
WORDS = ["5", "true", "[]", "{}", '"x y z"', '""', "nan", "2026-11-23", '"' + "x" * 5000 + '"', "[[]]"]
BAD: dict[str, list[str]] = {
    "url": ["5", '""', "[]", "true", "{ a = 1 }"],
    "topic": ["5", '""', '"a b"', '"a..b"', '"a.*"', '">"', '"a\\nb"', "[]", "true"],
    "rate": [*NUMBERS, "0", "0.0", "1e9"],
    "duration": TIMES,
    "ack_timeout": [*TIMES, '"0s"'],
    "warm_up": TIMES,
    "drain": TIMES,
    "count": [*WHOLE, "0"],
    "payload_size": WHOLE,
    "max_pending": [*WHOLE, "0"],
    "max_attempts": [*WHOLE, "0", "5000"],
    "processes": [*WHOLE, "0", "1000"],
    "keys": [*WHOLE, "0"],
    "seed": ['"x"', "1.5", "true", "[]"],
    "arrivals": WORDS,
    "strategy": WORDS,
    "loop": ["5", '"yes"', "[]", "0", "True"],
    "name": ["5", "true", "[]", "{}", '"' + "x" * 5000 + '"', "nan"],
    "headers": ["5", "[]", "{ a = 5 }", "{ a = { b = 1 } }", '{ "" = "a" }', '"a"'],
    "topics": ["5", '"a"', "[5]", "[[]]", "[{}]", '[{ name = "a*" }]', '[{ name = "a", weight = 0 }]', "{}"],
    "thresholds": [
        "5",
        "[5]",
        '["max(pending) <"]',
        '["max(pendin) < 5"]',
        '["5 < 6"]',
        '["rate(pending) > 5"]',
        '["p99(ack_latency) < 1%"]',
        '["p101(ack_latency) < 1s"]',
        '["' + "(" * 3000 + '"]',
        '[{ expression = "max(pending) < 5", abrt = true }]',
        "[{}]",
        '"max(pending) < 5"',
    ],
    "rules": [
        "5",
        "[5]",
        "[{}]",
        '[{ name = "a" }]',
        '[{ name = "a", when = "max(pending)" }]',
        '[{ name = "a", when = "max(pending) > 5", for = 5 }]',
        '[{ name = "a", when = "max(pending) > 5", severity = "bad" }]',
        '[{ name = "a", when = "max(pending) > 5" }, { name = "a", when = "max(pending) > 5" }]',
        '[{ name = "a", when = "max(pending) > 5", inhibited_by = ["b"] }]',
    ],
    "sinks": [
        "5",
        "[5]",
        '"log"',
        "{}",
        "[{}]",
        '[{ kind = "fax" }]',
        '[{ kind = "webhook" }]',
        '[{ kind = "log", a = 1 }]',
    ],
    "shape": [
        "5",
        "[]",
        "{}",
        '{ kind = "x" }',
        '{ kind = "constant" }',
        '{ kind = "constant", rate = nan }',
        '{ kind = "constant", rate = 1' + "0" * 400 + " }",
        '{ kind = "ramp", stages = [] }',
        '{ kind = "ramp", stages = [5] }',
        '{ kind = "step", stages = [{ duration = "0s", rate = 5 }] }',
        '{ kind = "burst", base = 5, peak = 1, every = "5s", length = "1s" }',
        '{ kind = "sine", mean = 5, amplitude = 6, period = "5s" }',
    ],
    "template": ['"{{"', '"{{ }}"', '"{{ a b }}"', "5", "[]", '"{{ f(" '],
    "replay": ["5", '""', "[]", "true"],
    "replay_at": WORDS,
    "ratte": ["5"],
    "Rate": ["5"],
    "rate-per-second": ["5"],
    '"\\u0000"': ["5"],
    "duration_s": ["5"],
    "embedded": ['"nats"'],
    "a.b.c": ["5"],
}
GOOD = [
    'name = "x"',
    "payload_size = 10",
    "# a comment",
    "",
    "seed = 5",
    'url = "memory://"',
    'drain = "1s"',
    "keys = 5",
]
TOGETHER = [
    'rate = 5\nshape = { kind = "constant", rate = 5 }',
    "rate = 5\nworkers = 5",
    'strategy = "wait_each"\nrate = 5',
    'arrivals = "poisson"',
    'replay = "a.jsonl"\ntemplate = "1"',
    'replay = "a.jsonl"\nreplay_at = "recorded"\nrate = 5',
    'topic = "a"\ntopics = [{ name = "b" }]',
    "count = 2\nprocesses = 3",
    'duration = "5s"\nwarm_up = "6s"',
    "payload_size = 50\npayload_size_max = 20",
]
BROKEN: list[Callable[[str, random.Random], str]] = [
    lambda text, chance: text + chance.choice(['\nx = "', "\n[", "\n= 5", "\nx", "\n[[", "\nx = [1, ", "\n'''", "\n}"]),
    lambda text, _: text + "\nname = 'x'\nname = 'x'",
    lambda text, chance: text + "\nx = " + "[" * chance.choice([200, 50_000]),
    lambda text, chance: text + f"\nx = {chance.choice(['5s', 'yes', '1_', '0x', '1.', '+', 'nul', '2026-13-01'])}",
    lambda text, chance: text + f'\nname = "\\{chance.choice("xqz8")}"',
]


def malformed(chance: random.Random) -> tuple[str, int | None]:
    """A plan that cannot be, and the line at which it cannot, where that is known."""
    lines = chance.sample(GOOD, chance.randrange(len(GOOD)))
    kind = chance.random()
    if kind < 0.1:
        return "\n".join([*lines, "", chance.choice(TOGETHER)]), None
    if kind < 0.2:
        return chance.choice(BROKEN)("\n".join(lines), chance), None
    name = chance.choice(list(BAD))
    lines = [line for line in lines if not line.startswith(f"{name} ")]
    place = chance.randrange(len(lines) + 1)
    lines.insert(place, f"{name} = {chance.choice(BAD[name])}")
    return "\n".join(lines), place + 1


def test_thousand_malformed_plans() -> None:
    """Each is refused in one line that names the file and the place; none crashes, and none is a plan to start."""
    chance = random.Random(20261123)
    for _ in range(1000):
        text, line = malformed(chance)
        try:
            started = plan(text)
        except ConfigError as error:
            said = str(error)
        else:
            pytest.fail(f"{text!r} became {started}")
        assert "\n" not in said, text
        assert len(said) < 1000, text
        found = re.match(r"plan\.toml:(\d+): .{5}", said)
        # Of what is no TOML at all, Python's reader tells the place in its own words.
        assert found or re.search(r"\(at (line \d+, column \d+|end of document)\)$|nested too deeply$", said), said
        if line is not None and found is not None:
            assert int(found[1]) == line, (text, said)
