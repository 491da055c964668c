"""Shapes of a load: how many messages per second at each moment of a run. Frozen values, pure functions of time.

Every shape knows its rate, the integral of it (messages due by a time) and the inverse of that (when a message is
due), all exact, so that a schedule needs no steps. A soak is a constant rate for a long time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Protocol

from eventbus.errors import ConfigError
from eventbus.load.duration import parse_duration
from eventbus.load.shape_kinds import MAX_RATE, Burst, Constant, Ramp, ShapeError, Sine, Stage, Step

__all__ = ["MAX_RATE", "Burst", "Constant", "Ramp", "Shape", "ShapeError", "Sine", "Stage", "Step", "shape_from"]


class Shape(Protocol):
    """Messages per second over time. Times are seconds since the shape began; before that and after its end the rate
    is 0."""

    @property
    def kind(self) -> str:
        """Its name in plans, as "ramp"."""

    @property
    def duration_s(self) -> float | None:
        """Seconds until it ends; None without end."""

    @property
    def peak(self) -> float:
        """The highest rate it comes to."""

    def rate_at(self, t_s: float) -> float:
        """Messages per second at that time."""

    def due(self, t_s: float) -> float:
        """Messages due by that time: the integral of the rate."""

    def when(self, due: float) -> float:
        """The first time at which so many are due (more than 0); infinite where they never are."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``shape_from`` reads them back."""


def shape_from(given: Any) -> Shape:
    """The shape that a table of plain values tells, as ``to_dict`` makes them, and as people write them:
    ``{"kind": "ramp", "stages": [{"duration": "30s", "rate": 500}]}``.

    A time is a number under a name that ends in ``_s``, or text with a unit under the name without. Raises ShapeError.
    """
    if not isinstance(given, Mapping):
        raise ShapeError(f'shape is {given!r}; give a table, as in kind = "constant", rate = 500')
    kind = given.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        near = get_close_matches(str(kind), _KINDS, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ShapeError(f"kind is {kind!r}; use one of {', '.join(_KINDS)}{hint}", ("kind",))
    make, required, optional = _KINDS[kind]
    settings = _settings(f"a shape of kind {kind!r}", given, required, optional)
    del settings["kind"]
    if "stages" in settings:
        settings["stages"] = _stages_from(settings["stages"])
    return make(**settings)


_KINDS: dict[str, tuple[Callable[..., Shape], tuple[str, ...], tuple[str, ...]]] = {
    "constant": (Constant, ("rate",), ("kind",)),
    "ramp": (Ramp, ("stages",), ("kind", "start_rate")),
    "step": (Step, ("stages",), ("kind",)),
    "burst": (Burst, ("base", "peak", "every_s", "length_s"), ("kind",)),
    "sine": (Sine, ("mean", "amplitude", "period_s"), ("kind",)),
}
"""Of each kind what makes it, and the names that it needs and may have."""


def _stages_from(given: Any) -> tuple[Stage, ...]:
    if not isinstance(given, (list, tuple)):
        raise ShapeError(f"stages is {given!r}; give a list of tables, each with duration and rate", ("stages",))
    stages = []
    for number, stage in enumerate(given):
        try:
            if not isinstance(stage, Mapping):
                raise ShapeError(f"it is {stage!r}; give a table with duration and rate")
            stages.append(Stage(**_settings("a stage", stage, ("duration_s", "rate"), ())))
        except ShapeError as error:
            raise ShapeError(f"stage {number + 1}: {error}", ("stages", number, *error.key)) from None
    return tuple(stages)


def _settings(what: str, given: Mapping[str, Any], required: Sequence[str], optional: Sequence[str]) -> dict[str, Any]:
    """``given`` by the names of the class, times as seconds."""
    settings: dict[str, Any] = {}
    known = (*required, *optional)
    for name, value in given.items():
        own = f"{name}_s" if f"{name}_s" in known else name
        if own not in known:
            names = ", ".join(each.removesuffix("_s") for each in known)
            near = get_close_matches(str(name), [each.removesuffix("_s") for each in known], 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ShapeError(f"unknown name {name!r} in {what}; known are {names}{hint}", (name,))
        if own in settings:
            raise ShapeError(f"{own.removesuffix('_s')} is given twice in {what}: as {name!r} and otherwise", (name,))
        settings[own] = value if own == name else _seconds(name, value)
    for own in required:
        if own not in settings:
            raise ShapeError(f"{own.removesuffix('_s')} is missing in {what}", (own.removesuffix("_s"),))
    return settings


def _seconds(name: str, value: Any) -> float:
    try:
        return parse_duration(value if isinstance(value, str) else repr(value))
    except ConfigError as error:
        raise ShapeError(f"{name}: {error}", (name,)) from None
