"""The plan that options of ``load`` ask for: of a file, of a preset, or of its own, changed by what was given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from eventbus.alerts import Threshold, rules_from, sinks_from
from eventbus.config import AckStrategy
from eventbus.errors import ConfigError
from eventbus.load.plan import LoadPlan, WeightedTopic
from eventbus.load.plan_file import plan_from
from eventbus.load.presets import PRESETS
from eventbus.load.setting import SettingRefused
from eventbus.load.shape import Ramp
from eventbus.toml_text import TomlText

DEFAULT_RATE = 1_000.0
DEFAULT_DURATION_S = 10.0

_OPTIONS = {
    "topics": "topic",
    "shape": "stage",
    "headers": "header",
    "arrivals": "poisson",
    "payload_size_max": "payload_size",
}
"""Settings of a plan that have another name as an option."""


def plan_of(plan_file: Path | None, preset: str | None, given: Mapping[str, Any]) -> LoadPlan:
    """The plan of a file or a preset, changed by what was ``given``. Raises ConfigError, UsageError."""
    if plan_file is not None and preset is not None:
        raise click.UsageError("a plan file and --preset exclude each other: a preset is a plan")
    if plan_file is not None:
        plan = plan_from(plan_file)
    elif preset is not None:
        plan = PRESETS[preset].plan()
    else:
        plan = _default_plan(given)
    try:
        return replace(plan, **_changes(given))
    except SettingRefused as error:
        raise ConfigError(f"{_option(error)} {error.reason}") from error


def _option(error: SettingRefused) -> str:
    """The setting as whoever typed the command knows it."""
    name = str(error.key[0])
    return "--" + _OPTIONS.get(name, name).removesuffix("_s").replace("_", "-")


def _default_plan(given: Mapping[str, Any]) -> LoadPlan:
    """What holds where no plan was given. A file, a count or stages end a run by themselves."""
    paced = {"replay", "workers", "stages"} & set(given)
    ends = {"count", "replay", "stages"} & set(given)
    return LoadPlan(rate=None if paced else DEFAULT_RATE, duration_s=None if ends else DEFAULT_DURATION_S)


def _changes(given: Mapping[str, Any]) -> dict[str, Any]:
    """What options say, by the names of a plan. Raises ConfigError, UsageError."""
    values = dict(given)
    for name in ("duration", "warm_up", "ack_timeout", "drain"):
        if name in values:
            values[f"{name}_s"] = values.pop(name)
    if "url" in values:
        values["embedded"] = None  # as the url says
    topics: Sequence[WeightedTopic] = values.pop("topics", ())
    if topics:
        values["topic"] = topics[0].name
        values["topics"] = tuple(topics) if len(topics) > 1 else ()
    if "payload_size" in values:
        values["payload_size"], values["payload_size_max"] = values["payload_size"]
    if "headers" in values:
        values["headers"] = dict(values["headers"])
    if "strategy" in values:
        values["strategy"] = AckStrategy(values["strategy"])
    if "template" in values:
        values["template"] = _text_of(values["template"], "--template")
    if values.get("loop") and "replay" not in values:
        raise click.UsageError("--loop needs --replay")
    if "replay" in values and {"payload_size", "template"} & set(values):
        raise click.UsageError("--payload-size or --template, and --replay, exclude each other")
    return _paced(_judged(values))


def _paced(values: dict[str, Any]) -> dict[str, Any]:
    """Rate, stages and workers: one of them takes the place of whichever the plan has."""
    stages = values.pop("stages", ())
    if values.pop("poisson", False):
        if "workers" in values or values.get("rate", 0) is None:
            raise click.UsageError("--poisson needs a rate or stages: neither --workers nor --rate max has intervals")
        values["arrivals"] = "poisson"
    given = [f"--{name}" for name in ("rate", "workers") if name in values] + ["--stage"] * bool(stages)
    if len(given) > 1:
        raise click.UsageError(f"{' and '.join(given)} exclude each other; give one of them")
    if given:
        values = {"rate": None, "workers": None, **values, "shape": Ramp(tuple(stages)) if stages else None}
        if not stages and values["rate"] is None:
            values["arrivals"] = "constant"  # whatever the plan says: no interval is left that could be at random
    return values


def _judged(values: dict[str, Any]) -> dict[str, Any]:
    """Thresholds, alert rules and sinks."""
    abort = values.pop("abort", False)
    if "thresholds" in values:
        values["thresholds"] = tuple(Threshold(expression, abort=abort) for expression in values["thresholds"])
    elif abort:
        raise click.UsageError("--abort needs a --threshold")
    path = values.pop("rules", None)
    if path is not None:
        toml = TomlText.read(path)
        rules, sinks = rules_from(toml), sinks_from(toml)
        if not rules and not sinks:
            raise ConfigError(f"{path}: neither [[rules]] nor [[sinks]]; is it the right file?")
        if rules:
            values["rules"] = rules
        if sinks:
            values["sinks"] = tuple(toml.data["sinks"])
    return values


def _text_of(path: Path, option: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{option} {path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{option} {path}: is not UTF-8 at byte {error.start:,}") from error
