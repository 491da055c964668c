"""PlanForm: a load plan as it stands in the fields of a form. Reading it tells each problem by the field it is in.

A form is a plain mapping of fields to what people typed; what is missing has its default, with which one press runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any

from dashboard import plan_lines
from dashboard.broker import NATS_URL
from eventbus.config import AckStrategy
from eventbus.errors import ConfigError
from eventbus.load.plan import LoadPlan
from eventbus.load.setting import SettingRefused


class Pace(StrEnum):
    """What decides when a message is sent."""

    RATE = "rate"
    RAMP = "ramp"
    STEP = "step"
    BURST = "burst"
    SINE = "sine"
    MAX = "max"
    WORKERS = "workers"
    RECORDED = "recorded"

    @property
    def is_open(self) -> bool:
        """Whether there is a rate, with arrivals that may be random."""
        return self in (Pace.RATE, *SHAPES)


class Content(StrEnum):
    """What messages hold."""

    RANDOM = "Random"
    RECORDS = "Real records"
    TEMPLATE = "Template"


SHAPES: Mapping[Pace, tuple[str, ...]] = MappingProxyType(
    {
        Pace.RAMP: ("start_rate", "stages"),
        Pace.STEP: ("stages",),
        Pace.BURST: ("base", "peak", "every_s", "length_s"),
        Pace.SINE: ("mean", "amplitude", "period_s"),
    }
)
"""The fields of each shape, by the names that it has for them."""

DEFAULTS: Mapping[str, Any] = MappingProxyType(
    {
        "url": NATS_URL,
        "name": "",
        "topic": "demo.events",
        "topics": "",
        "pace": Pace.RATE,
        "rate": 2_000.0,
        "start_rate": 0.0,
        "stages": "20s 1000\n20s 4000\n20s 1000",
        "base": 500.0,
        "peak": 5_000.0,
        "every_s": 20.0,
        "length_s": 2.0,
        "mean": 2_000.0,
        "amplitude": 1_500.0,
        "period_s": 30.0,
        "workers": 20,
        "arrivals": "constant",
        "duration_s": 0.0,
        "count": 0,
        "warm_up_s": 0.0,
        "drain_s": 30.0,
        "content": Content.RANDOM,
        "size": 128,
        "size_max": 0,
        "records": None,
        "file": "",
        "loop": True,
        "replay_time": "",
        "replay_speed": 1.0,
        "template": '{"order": {{ sequence }}, "customer": "{{ name }}", "at": "{{ now }}"}',
        "keys": 0,
        "headers": "",
        "strategy": AckStrategy.UNIFIED,
        "max_pending": 10_000,
        "ack_timeout_s": 5.0,
        "max_attempts": 5,
        "processes": 1,
        "seed": None,
        "thresholds": "",
        "rules": None,
        "sinks": (),
        "connection": {},
    }
)
"""Of every field. 0 stands for none where a plan has None: duration_s, count, size_max, keys."""

_FIELDS = {
    "payload_size": "size",
    "payload_size_max": "size_max",
    "replay_at": "pace",
    "shape": "pace",
    "embedded": "url",
}
"""Fields of the settings that are called otherwise."""
_SAME = (
    "name",
    "warm_up_s",
    "drain_s",
    "strategy",
    "max_pending",
    "ack_timeout_s",
    "max_attempts",
    "processes",
    "seed",
)
_NONE_IF_ZERO = ("duration_s", "count", "keys")


@dataclass(frozen=True, slots=True)
class Reading:
    """What a form says. plan: None where it cannot be. problems: what is wrong, by the field it is in."""

    plan: LoadPlan | None
    problems: Mapping[str, str] = field(default_factory=dict)


def read(form: Mapping[str, Any]) -> Reading:
    """The plan of a form."""
    given = {**DEFAULTS, **form}
    problems: dict[str, str] = {}
    values: dict[str, Any] = {"url": str(given["url"]).strip()}
    values |= {name: given[name] for name in _SAME}
    values |= {name: given[name] or None for name in _NONE_IF_ZERO}
    _read_lines(given, values, problems)
    if values.get("topics"):
        values.pop("topic", None)
    else:
        values["topic"] = str(given["topic"]).strip()
    _read_pace(given, values)
    _read_content(given, values)
    values |= {"rules": given["rules"], "sinks": tuple(given["sinks"]), "connection": given["connection"]}
    if problems:
        return Reading(None, problems)
    try:
        return Reading(LoadPlan.from_dict(values))
    except SettingRefused as error:
        return Reading(None, {_field_of(error, given): _sentence(error.reason)})
    except ConfigError as error:
        return Reading(None, {"thresholds": str(error)})


def form_of(plan: LoadPlan) -> dict[str, Any]:
    """The fields of a form that says the plan; ``read`` gives it back."""
    form = dict(DEFAULTS)
    form |= {name: getattr(plan, name) for name in _SAME}
    form |= {name: getattr(plan, name) or 0 for name in _NONE_IF_ZERO}
    form |= {
        "url": plan.url,
        "topic": plan.topic,
        "topics": plan_lines.topic_lines((topic.name, topic.weight) for topic in plan.topics),
        "headers": plan_lines.header_lines(plan.headers),
        "thresholds": plan_lines.threshold_lines(plan.thresholds),
        "arrivals": plan.arrivals,
        "size": plan.payload_size,
        "size_max": plan.payload_size_max or 0,
        "rules": None if plan.rules is None else [rule.to_plain() for rule in plan.rules],
        "sinks": plan.sinks,
        "connection": dict(plan.connection),
    }
    return form | _pace_form(plan) | _content_form(plan)


def _pace_form(plan: LoadPlan) -> dict[str, Any]:
    if plan.workers is not None:
        return {"pace": Pace.WORKERS, "workers": plan.workers}
    if plan.replay_at == "recorded":
        return {"pace": Pace.RECORDED}
    if plan.shape is not None:
        values = plan.shape.to_dict()
        kind = values.pop("kind")
        if kind == "constant":
            return {"pace": Pace.RATE, "rate": values["rate"]}
        if "stages" in values:
            values["stages"] = plan_lines.stage_lines(values["stages"])
        return {"pace": Pace(kind), **values}
    return {"pace": Pace.MAX} if plan.rate is None else {"pace": Pace.RATE, "rate": plan.rate}


def _content_form(plan: LoadPlan) -> dict[str, Any]:
    if plan.template is not None:
        return {"content": Content.TEMPLATE, "template": plan.template}
    if plan.replay is None:
        return {"content": Content.RANDOM}
    return {
        "content": Content.RECORDS,
        "file": str(plan.replay),
        "loop": plan.loop,
        "replay_time": plan.replay_time or "",
        "replay_speed": plan.replay_speed,
    }


def _read_lines(given: Mapping[str, Any], values: dict[str, Any], problems: dict[str, str]) -> None:
    for name, reader in (
        ("topics", plan_lines.topics_of),
        ("headers", plan_lines.headers_of),
        ("thresholds", plan_lines.thresholds_of),
    ):
        try:
            values[name] = reader(str(given[name]))
        except ConfigError as error:
            problems[name] = str(error)
    pace = Pace(given["pace"])
    if pace in SHAPES:
        shape: dict[str, Any] = {"kind": str(pace)}
        for name in SHAPES[pace]:
            try:
                shape[name] = plan_lines.stages_of(given[name]) if name == "stages" else float(given[name])
            except ConfigError as error:
                problems[name] = str(error)
        values["shape"] = shape


def _read_pace(given: Mapping[str, Any], values: dict[str, Any]) -> None:
    pace = Pace(given["pace"])
    if pace is Pace.RATE:
        values["rate"] = float(given["rate"])
    elif pace is Pace.WORKERS:
        values["workers"] = int(given["workers"])
    elif pace is Pace.RECORDED:
        values |= {
            "replay_at": "recorded",
            "replay_time": str(given["replay_time"]).strip() or None,
            "replay_speed": float(given["replay_speed"]),
        }
    if pace.is_open:
        values["arrivals"] = given["arrivals"]


def _read_content(given: Mapping[str, Any], values: dict[str, Any]) -> None:
    content = Content(given["content"])
    if content is Content.RANDOM:
        values |= {"payload_size": int(given["size"]), "payload_size_max": int(given["size_max"]) or None}
    elif content is Content.TEMPLATE:
        values["template"] = given["template"]
    else:
        path = str(given["file"]).strip() or given["records"]
        values |= {"replay": None if path is None else Path(path), "loop": bool(given["loop"])}


def _sentence(reason: str) -> str:
    """A reason of a refusal without the name of its setting: it stands beside the field."""
    return f"It {reason}" if reason.split(maxsplit=1)[0] in ("is", "has", "needs", "cannot") else reason


def _field_of(error: SettingRefused, given: Mapping[str, Any]) -> str:
    name = str(error.key[0])
    if name == "shape":
        names = [name for part in error.key[1:] for name in (str(part), f"{part}_s") if name in DEFAULTS]
        return names[0] if names else "stages" if "stages" in SHAPES.get(Pace(given["pace"]), ()) else "pace"
    if name == "topics" and not given["topics"]:
        return "topic"
    if name == "replay":
        return "file"
    return _FIELDS.get(name, name)
