"""Alert rules as people write them: what each setting means, and how what cannot be is refused."""

from __future__ import annotations

import json
import random
import re
import string
from typing import Any

import pytest

from docs import list_expressions
from eventbus.alerts import AlertRule, default_rules, parse, rules_from, rules_from_plain, thresholds_from
from eventbus.errors import ConfigError
from eventbus.toml_text import TomlText
from tests.run_samples import refusal

FULL = """
[[rules]]
name = "slow_acks"
when = "p99(ack_latency, 30s) > 250ms"
clear = "200ms"
for = "5s"
keep_firing_for = "10s"
severity = "critical"
labels = { team = "orders", service = "shop" }
summary = "Acks are slow"
description = "Look at the disk"
min_samples = 100
no_data = "ok"
inhibited_by = ["down"]
repeat = "1m"

[[rules]]
name = "down"
when = "connected < 1"
"""

WHEN = 'when = "pending > 5"'


def rules(text: str) -> tuple[AlertRule, ...]:
    return rules_from(TomlText(text, "rules.toml"))


def test_every_setting() -> None:
    """What is in the file is in the rule; what is left out has its default."""
    full, least = rules(FULL)
    assert full == AlertRule(
        "slow_acks",
        parse("p99(ack_latency, 30s) > 250ms"),
        clear=0.2,
        for_s=5,
        keep_firing_s=10,
        severity="critical",
        labels={"team": "orders", "service": "shop"},
        summary="Acks are slow",
        description="Look at the disk",
        min_samples=100,
        no_data="ok",
        inhibited_by=("down",),
        repeat_s=60,
    )
    assert least == AlertRule("down", parse("connected < 1"))
    assert rules("") == ()
    assert (
        rules_from(TomlText(f'[alerts]\n[[alerts.rules]]\nname = "a"\n{WHEN}', "x"), ("alerts", "rules"))[0].name == "a"
    )


def test_as_plain_values_and_back() -> None:
    """to_plain is what a JSON list holds, the default rules included."""
    wanted = (*rules(FULL), *default_rules(max_pending=10_000, ack_timeout_s=5.0)[1:])
    wanted = tuple(rule for rule in wanted if "broker_disconnected" not in rule.inhibited_by)
    wanted += default_rules(max_pending=10, ack_timeout_s=0.3)[:2]
    plain = json.loads(json.dumps([rule.to_plain() for rule in wanted]))
    assert plain[1] == {"name": "down", "when": "connected < 1"}
    assert rules_from_plain(plain) == wanted


@pytest.mark.parametrize(
    ("when", "clear", "expected"),
    [
        ("pending > 5", "4", 4.0),
        ("pending > 5", '"4"', 4.0),
        ("pending > 5", "2.5", 2.5),
        ("rate(acked) < 5", '"7/s"', 7.0),
        ("pending_bytes > 64MiB", '"32MiB"', 32 * 2**20),
        ("ratio(failed) > 5%", '"1%"', 0.01),
        ("ratio(failed) > 5%", "0.01", 0.01),
        ("p99(ack_latency) > 5s", '"0"', 0.0),
        ("rate(acked) < 95% * rate(offered)", "10", 10.0),
    ],
)
def test_clear(when: str, clear: str, expected: float) -> None:
    """A number in base units, or a text with the expression's unit."""
    assert rules(f'[[rules]]\nname = "a"\nwhen = "{when}"\nclear = {clear}')[0].clear == expected


def test_examples_of_the_page() -> None:
    """The rules and thresholds of docs/expressions.md can be used."""
    blocks = re.findall(r"```toml\n(.*?)```", list_expressions.markdown(), re.DOTALL)
    page = TomlText("\n".join(blocks[1:]) + '[[rules]]\nname = "broker_disconnected"\nwhen = "connected < 1"', "page")
    assert [rule.name for rule in rules_from(page)] == ["slow_acks", "broker_disconnected"]
    assert len(thresholds_from(page)) == 1
    assert len(thresholds_from(TomlText(blocks[0], "page"))) == 2


REFUSED = [
    ("rules = 5", 1, "rules is 5; use [[rules]] tables"),
    ("rules = [5]", 1, "a rule is 5; use a table"),
    ("[[rules]]\nname = 'a'", 1, "a rule has no when; add it"),
    (f"[[rules]]\n{WHEN}", 1, "a rule has no name; add it"),
    (
        "[[rules]]\nname = 'a'\nwhen = 'pendin > 5'",
        3,
        "expression, column 1: 'pendin' is not a metric; did you mean pend",
    ),
    ("[[rules]]\nname = 'a'\nwhen = 5", 3, "when is 5; use a text in quotes"),
    (f"[[rules]]\nname = 'a b'\n{WHEN}", 2, "name is 'a b'; use a letter"),
    (f"[[rules]]\nname = ''\n{WHEN}", 2, "name is ''; use a letter"),
    (f"[[rules]]\nname = 7\n{WHEN}", 2, "name is 7; use a text"),
    (f"[[rules]]\nname = 'a'\n{WHEN}\nfor = 5", 4, "for: 5 is not a duration"),
    (f"[[rules]]\nname = 'a'\n{WHEN}\nfor = '5'", 4, "for: '5' is not a duration"),
    (f"[[rules]]\nname = 'a'\n{WHEN}\nfor = '200h'", 4, "for is 720000 s; use 0 s to 7 days"),
    (f"[[rules]]\nname = 'a'\n{WHEN}\nrepeat = '0s'", 4, "repeat is 0 s; use 1 s to 7 days"),
    (f"[[rules]]\nname = 'a'\n{WHEN}\nkeep_firing_for = '-1s'", 4, "keep_firing_for: '-1s' is not a duration"),
    (f"[[rules]]\nname = 'a'\n{WHEN}\nseverity = 'bad'", 4, "severity is 'bad'; use one of info, warning, critical"),
    (f"[[rules]]\nname = 'a'\n{WHEN}\nno_data = 'alert'", 4, "no_data is 'alert'; use one of ok, keep"),
    (f"[[rules]]\nname = 'a'\n{WHEN}\nmin_samples = 0", 4, "min_samples is 0; use 1 or more"),
    (f"[[rules]]\nname = 'a'\n{WHEN}\nmin_samples = true", 4, "min_samples is True; use a whole number"),
    (f"[[rules]]\nname = 'a'\n{WHEN}\nmin_samples = 1.5", 4, "min_samples is 1.5; use a whole number"),
    (f"[[rules]]\nname = 'a'\n{WHEN}\nclear = 6", 4, "clear is 6; use at most 5"),
    ("[[rules]]\nname = 'a'\nwhen = 'pending < 5'\nclear = 4", 4, "clear is 4; use at least 5"),
    (
        "[[rules]]\nname = 'a'\nwhen = 'pending == 5'\nclear = 4",
        4,
        "clear is given, but the expression compares with ==",
    ),
    (f"[[rules]]\nname = 'a'\n{WHEN}\nclear = '4s'", 4, "clear is '4s', a time; use the unit of the expression"),
    ("[[rules]]\nname = 'a'\nwhen = 'loop_lag > 5s'\nclear = '4'", 4, "clear is '4', a ratio; use the unit"),
    (f"[[rules]]\nname = 'a'\n{WHEN}\nclear = 'four'", 4, "clear: 'four' is not a number"),
    (f"[[rules]]\nname = 'a'\n{WHEN}\nclear = nan", 4, "clear is nan; use a number"),
    (f"[[rules]]\nname = 'a'\n{WHEN}\nclear = true", 4, "clear is True; use a number"),
    (f"[[rules]]\nname = 'a'\n{WHEN}\nlabels = 'x'", 4, "labels is 'x'; use a table"),
    (f"[[rules]]\nname = 'a'\n{WHEN}\n[rules.labels]\nx = 'y'\nn = 5", 6, "labels.n is 5; use a text"),
    (f"[[rules]]\nname = 'a'\n{WHEN}\nlabels = {{ 'a b' = 'x' }}", 4, "label 'a b' has no valid name"),
    (f"[[rules]]\nname = 'a'\n{WHEN}\nsummary = ['x']", 4, "summary is ['x']; use a text"),
    (f"[[rules]]\nname = 'a'\n{WHEN}\nsummary = '{'x' * 1001}'", 4, "summary has 1,001 characters"),
    (f"[[rules]]\nname = 'a'\n{WHEN}\ninhibited_by = 5", 4, "inhibited_by is 5; use a list of names"),
    (f"[[rules]]\nname = 'a'\n{WHEN}\ninhibited_by = [5]", 4, "inhibited_by is [5]; use a list of names"),
    (f"[[rules]]\nname = 'a'\n{WHEN}\ninhibited_by = 'b'", 4, "inhibited_by names 'b', which is no rule here"),
    (f"[[rules]]\nname = 'a'\n{WHEN}\ninhibited_by = ['a']", 4, "rule 'a' would inhibit itself"),
    (f"[[rules]]\nname = 'a'\n{WHEN}\n[[rules]]\nname = 'a'\n{WHEN}", 5, "there are two rules named 'a'"),
    (f"[[rules]]\nname = 'a'\n{WHEN}\nexpr = 'x'", 4, "'expr' is no setting of a rule; use name, when"),
    (
        f"[[rules]]\nname = 'a'\n{WHEN}\nseverety = 'info'",
        4,
        "'severety' is no setting of a rule; did you mean severity?",
    ),
]


@pytest.mark.parametrize(("text", "line", "reason"), REFUSED, ids=range(len(REFUSED)))
def test_refused(text: str, line: int, reason: str) -> None:
    """File, line, what was given, and what is allowed."""
    with pytest.raises(ConfigError) as refused:
        rules(text)
    assert str(refused.value).startswith(f"rules.toml:{line}: {reason}")
    assert len(str(refused.value).splitlines()) == 1


def test_not_toml() -> None:
    """The file and the line, before any rule is looked at."""
    with pytest.raises(ConfigError, match=r"^rules\.toml: .*line 2"):
        rules('[[rules]]\nname = "a\n')


def test_refused_without_a_file() -> None:
    """Then the path is the place."""
    good = {"name": "a", "when": "pending > 5"}
    for items, place in (
        ({}, "rules: rules is {}"),
        ([good, 5], "rules[1]: a rule is 5"),
        ([good, good | {"when": "pending"}], "rules[1].when: expression, column 8"),
        ([good, good], "rules[1].name: there are two"),
        ([good | {"labels": {"a": None}}], "rules[0].labels.a: labels.a is None"),
        ([{1: 2}], "rules[0]['1']: 1 is no setting of a rule"),
    ):
        with pytest.raises(ConfigError) as refused:
            rules_from_plain(items)
        assert str(refused.value).startswith(place)


VALUES: list[Any] = [5, -1, 1e400, True, None, "", "x", "5", "5s", "-5s", "1e99s", [], [1], ["down"], {}, {"a": "b"}]
VALUES += [{"a": 1}, "\u2028", "a\nb", "\x00", "x" * 2_000, [[]], "p99(ack_latency) > 1s", "pending > 1%", "pending >"]


def spoiled(chance: random.Random) -> dict[str, Any]:
    """A good rule with one to three things wrong, or at least odd, about it."""
    rule: dict[str, Any] = {"name": "a", "when": "pending > 5", "for": "5s", "labels": {"a": "b"}, "severity": "info"}
    for _ in range(chance.randint(1, 3)):
        names = [*rule, "clear", "repeat", "min_samples", "no_data", "inhibited_by", "summary", "keep_firing_for"]
        name = chance.choice(names)
        odd = chance.random()
        if odd < 0.2:
            rule.pop(name, None)
        elif odd < 0.3:
            rule[name + chance.choice(string.printable)] = "x"
        else:
            rule[name] = chance.choice(VALUES)
    return rule


def as_toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{as_toml(name)} = {as_toml(item)}" for name, item in value.items()) + " }"
    if isinstance(value, list):
        return "[" + ", ".join(map(as_toml, value)) + "]"
    if isinstance(value, float):
        return "inf"
    return json.dumps(value).replace("\x7f", "\\u007f") if value is not None else "nan"


def test_a_thousand_malformed_rules() -> None:
    """Each refused in one line with its place, in JSON and in TOML alike; never by anything but ConfigError."""
    chance = random.Random(6)
    refused = 0
    while refused < 1_000:
        broken = [spoiled(chance) for _ in range(chance.randint(1, 2))]
        reason = refusal(rules_from_plain, broken)
        if reason is None:
            continue
        refused += 1
        assert re.match(r"""rules(\[[01]\](\.\w+|\[(['"]).*\3\])*)?: """, reason), reason
        assert len(reason.splitlines()) == 1, reason
        text = "".join(
            "[[rules]]\n" + "".join(f"{as_toml(name)} = {as_toml(value)}\n" for name, value in rule.items())
            for rule in broken
        )
        reason = refusal(rules, text)
        assert reason is not None, text
        assert re.match(r"rules\.toml:[1-9][0-9]*: \S", reason), reason
        assert len(reason.splitlines()) == 1, reason


def test_rules_built_in_code() -> None:
    """A rule checks itself as well when it comes from no file."""
    for given in (
        {"name": "1a"},
        {"name": "a" * 65},
        {"for_s": float("nan")},
        {"repeat_s": float("inf")},
        {"clear": float("nan")},
        {"severity": "page"},
        {"description": "x" * 1_001},
        {"labels": {"a": "x" * 1_001}},
    ):
        with pytest.raises(ConfigError):
            AlertRule(**{"name": "a", "expression": parse("pending > 5"), **given})  # type: ignore[arg-type]
