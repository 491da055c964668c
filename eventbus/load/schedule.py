"""Schedule: how many messages a load should have sent by now. Pure; the caller brings the time."""

from __future__ import annotations

import math


class Schedule:
    """A constant rate that does not wait for acks (an open model); the rate can change on the way.

    rate: messages per second; None means without limit. start_ns: the time from which it counts; the first message
    is due one interval later, so that a duration of d seconds gives exactly rate times d messages.
    """

    def __init__(self, rate: float | None, start_ns: int) -> None:
        self._rate = rate
        self._since_ns = start_ns
        self._base = 0.0

    @property
    def rate(self) -> float | None:
        """Messages per second; None without limit."""
        return self._rate

    def due(self, now_ns: int) -> int | None:
        """Messages due since the start; None without limit. Never falls while time goes on."""
        if self._rate is None:
            return None
        # The small addition mends what floating point loses: 333.3 a second for 10 s are 3,333.
        return math.floor(self._due(now_ns) + 1e-6)

    def change(self, rate: float | None, now_ns: int, sent: int) -> None:
        """Go on with another rate. ``sent``: where there was no limit until now, what was sent counts as due."""
        self._base = float(sent) if self._rate is None else self._due(now_ns)
        self._since_ns = now_ns
        self._rate = rate

    def next_due_s(self, now_ns: int) -> float:
        """Seconds until the next message is due; 0 without limit."""
        if self._rate is None:
            return 0.0
        due = self._due(now_ns)
        return (math.floor(due + 1e-6) + 1 - due) / self._rate

    def _due(self, now_ns: int) -> float:
        assert self._rate is not None
        return self._base + max(0, now_ns - self._since_ns) * self._rate / 1e9
