"""Durations as people write them: a number and a unit."""

from __future__ import annotations

import re

from eventbus.errors import ConfigError

_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h)", re.ASCII)
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}


def parse_duration(text: str) -> float:
    """Seconds of ``500ms``, ``10s``, ``1.5m`` or ``1h``. Raises ConfigError, for zero as well."""
    match = _DURATION.fullmatch(text.strip())
    seconds = float(match[1]) * _UNIT_S[match[2]] if match else 0.0
    if not seconds > 0:
        raise ConfigError(f"{text!r} is not a duration above zero; write it as 500ms, 10s, 2m or 1h")
    return seconds
