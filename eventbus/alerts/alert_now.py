"""AlertNow: what a run tells of one alert while it goes on, small enough to be told each second."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from eventbus.alerts.engine import AlertPhase, AlertState

MAX_WORDS = 200
"""Characters of a reason and of a name: what people typed may be long."""
_DIGITS = 6
"""Significant digits of a value: a change that nobody would see is none."""


@dataclass(frozen=True, slots=True)
class AlertNow:
    """One alert as its run evaluated it last.

    name: the rule's. since_s: when it entered its state, seconds since the epoch; 0 before the first evaluation.
    value, threshold: both sides of its expression in base units, to six digits; None where they say nothing.
    muted: why nobody is told, or empty. acknowledged: by whom, or empty.
    """

    name: str
    state: AlertPhase
    since_s: float
    value: float | None = None
    threshold: float | None = None
    muted: str = ""
    acknowledged: str = ""

    @classmethod
    def of(cls, state: AlertState) -> AlertNow:
        """What is told of ``state``."""
        return cls(
            state.rule.name,
            state.phase,
            state.since_s,
            _short(state.value),
            _short(state.threshold),
            state.muted[:MAX_WORDS],
            state.acknowledged[:MAX_WORDS],
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> AlertNow:
        """The inverse of ``to_dict``. Raises KeyError, TypeError or ValueError for what it did not make."""
        return cls(
            str(data["name"]),
            AlertPhase(data["state"]),
            float(data["since_s"]),
            _number(data.get("value")),
            _number(data.get("threshold")),
            str(data.get("muted", "")),
            str(data.get("acknowledged", "")),
        )


def _short(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(f"{value:.{_DIGITS}g}")


def _number(value: Any) -> float | None:
    return None if value is None else float(value)
