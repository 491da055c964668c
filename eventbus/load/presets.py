"""Presets: plans for what people usually want to know, ready to run against any broker."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from types import MappingProxyType
from typing import Any

from eventbus.errors import ConfigError
from eventbus.load.plan import LoadPlan
from eventbus.load.setting import shown

_PACE = ("rate", "shape", "workers")


@dataclass(frozen=True, slots=True)
class Preset:
    """A plan with a name. description: what it is for, one sentence. values: plain, by the names of LoadPlan."""

    name: str
    description: str
    values: Mapping[str, Any]

    def plan(self, **instead: Any) -> LoadPlan:
        """The plan, with other values for some settings, as ``url``. Raises ConfigError.

        A rate, a shape or workers given here take the place of whichever the preset has.
        """
        own = {
            name: value
            for name, value in self.values.items()
            if name not in _PACE or all(instead.get(pace) is None for pace in _PACE)
        }
        return LoadPlan.from_dict({"name": self.name, **own, **instead})


def preset(name: str) -> Preset:
    """The preset of that name. Raises ConfigError with those that there are."""
    found = PRESETS.get(name)
    if found is None:
        near = get_close_matches(name, PRESETS, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(PRESETS)}"
        raise ConfigError(f"no preset {shown(name)}; {hint}")
    return found


_ALL = (
    Preset(
        "smoke",
        "Does it work at all? A hundred messages a second for five seconds.",
        {
            "rate": 100.0,
            "duration_s": 5.0,
            "drain_s": 10.0,
            "thresholds": ["ratio(failed, accepted) < 0.1%", "p99(ack_latency) < 1s"],
        },
    ),
    Preset(
        "baseline",
        "The figures to compare later ones with: a thousand messages a second for a minute.",
        {
            "rate": 1_000.0,
            "duration_s": 60.0,
            "warm_up_s": 5.0,
            "thresholds": [
                "ratio(failed, accepted) < 0.1%",
                "p99(scheduled_latency) < 250ms",
                "rate(acked) > 0.95 * rate(offered)",
                "max(pending) < 5000",
            ],
        },
    ),
    Preset(
        "burst",
        "Does it keep up with ten times as much at once? Five bursts of two seconds.",
        {
            "shape": {"kind": "burst", "base": 500.0, "peak": 5_000.0, "every_s": 20.0, "length_s": 2.0},
            "duration_s": 100.0,
            "warm_up_s": 5.0,
            "thresholds": [
                "ratio(failed, accepted) < 0.1%",
                "p99(scheduled_latency) < 1s",
                "rate(acked) > 0.95 * rate(offered)",
            ],
        },
    ),
    Preset(
        "soak",
        "Does anything grow in an hour? Two thousand messages a second, at random moments and of random sizes.",
        {
            "rate": 2_000.0,
            "arrivals": "poisson",
            "duration_s": 3_600.0,
            "warm_up_s": 30.0,
            "payload_size": 64,
            "payload_size_max": 2_048,
            "thresholds": [
                "ratio(failed, accepted) < 0.1%",
                "p99.9(scheduled_latency) < 1s",
                "rate(acked) > 0.99 * rate(offered)",
                "max(pending) < 5000",
            ],
        },
    ),
    Preset(
        "outage",
        "Is anything lost while the broker is away? Take it away for some seconds in the middle, and give it back.",
        {
            # Room for 60 s of messages, and 20 attempts of 2 s each: half a minute without a broker loses no message.
            "rate": 500.0,
            "duration_s": 90.0,
            "drain_s": 60.0,
            "max_pending": 30_000,
            "ack_timeout_s": 2.0,
            "max_attempts": 20,
            "thresholds": ["ratio(failed, accepted) < 0.1%", "rate(acked) > 0.95 * rate(offered)"],
        },
    ),
)

PRESETS: Mapping[str, Preset] = MappingProxyType({preset.name: preset for preset in _ALL})
