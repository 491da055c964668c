"""Presets: plans that come with the program."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eventbus.errors import ConfigError
from eventbus.load.payload import open_messages
from eventbus.load.plan import LoadPlan
from eventbus.load.plan_file import plan_from
from eventbus.load.presets import PRESETS, preset
from eventbus.load.shape import Burst


def test_there_are_these() -> None:
    """The names that people know from other load drivers."""
    assert list(PRESETS) == ["smoke", "baseline", "burst", "soak", "outage"]


@pytest.mark.parametrize("name", list(PRESETS))
def test_preset_is_a_plan_with_a_verdict(name: str) -> None:
    """Each is a sentence, a plan that ends by itself, thresholds to judge it by, and plain values."""
    found = preset(name)
    assert found.description.endswith(".")
    assert json.loads(json.dumps(dict(found.values))) == found.values
    plan = found.plan()
    assert plan.name == name
    assert plan.sending_s is not None
    assert plan.thresholds
    assert next(open_messages(plan).source).topic == plan.topic


@pytest.mark.parametrize("name", list(PRESETS))
def test_example_file_says_the_same(name: str, root: Path) -> None:
    """examples/plans has each preset as a file with comments, to begin one's own with."""
    assert plan_from(root / "examples" / "plans" / f"{name}.toml") == preset(name).plan()


def test_other_values() -> None:
    """Values given take the place of the preset's; a pace takes the place of any other one."""
    assert preset("smoke").plan(url="memory://", topic="a.b").url == "memory://"
    assert isinstance(preset("burst").plan().shape, Burst)
    changed = preset("burst").plan(rate=7.0)
    assert (changed.shape, changed.rate) == (None, 7.0)
    assert preset("baseline").plan(workers=3).rate is None
    assert preset("baseline").plan(rate=None, workers=None).rate is None
    assert isinstance(preset("smoke").plan(), LoadPlan)


def test_value_that_cannot_be() -> None:
    """Values given are checked as in any plan."""
    with pytest.raises(ConfigError, match="rate is -5"):
        preset("smoke").plan(rate=-5)


@pytest.mark.parametrize(
    ("name", "said"), [("bsaeline", "did you mean 'baseline'"), ("x", "there are smoke, baseline")]
)
def test_unknown_preset(name: str, said: str) -> None:
    """A misspelt name is told with the one that is meant, or all of them."""
    with pytest.raises(ConfigError, match=said):
        preset(name)
