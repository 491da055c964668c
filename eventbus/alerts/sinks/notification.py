"""Notification: what people are told of an alert, as a frozen value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from eventbus.observe.run import AlertChange

_OVER = ("resolved", "inactive")
_FIRING = "firing"


@dataclass(frozen=True, slots=True)
class Notification:
    """A change of an alert, with all that a receiver needs to tell of it. Times are seconds since the epoch.

    labels: of the alert, besides its name and severity. url: of the broker, without credentials. starts_at_s: when the
    alert began. ends_at_s: when it ended; None while it goes on. fingerprint: the same for the same alert of every run.
    repeat: nothing changed, it only still fires. test: nothing happened at all, somebody tries the sinks.
    """

    change: AlertChange
    summary: str
    description: str
    labels: Mapping[str, str]
    run_id: str
    url: str
    starts_at_s: float
    ends_at_s: float | None
    fingerprint: str
    repeat: bool = False
    test: bool = False

    @classmethod
    def of(
        cls,
        change: AlertChange,
        *,
        fingerprint: str,
        starts_at_s: float,
        run_id: str = "",
        url: str = "",
        summary: str = "",
        description: str = "",
    ) -> Notification:
        """What ``change`` says. summary: default the change's own sentence, else the rule's name."""
        return cls(
            change=change,
            summary=summary or change.text or change.rule,
            description=description,
            labels=change.labels,
            run_id=run_id,
            url=url,
            starts_at_s=starts_at_s,
            ends_at_s=change.wall_s if _is_over(change) else None,
            fingerprint=fingerprint,
            repeat=change.state == change.previous == _FIRING,
        )

    @classmethod
    def for_test(cls, wall_s: float, *, severity: str = "warning") -> Notification:
        """One that says by itself that nothing is wrong."""
        text = "This is a test of AckScope's notifications"
        change = AlertChange(wall_s, "test", True, math.nan, math.nan, text, _FIRING, "inactive", severity)
        return cls(
            change=change,
            summary=text,
            description="Nothing is wrong. Whoever reads this would have been told of an alert.",
            labels={"test": "true"},
            run_id="",
            url="",
            starts_at_s=wall_s,
            ends_at_s=None,
            fingerprint="test",
            test=True,
        )

    @property
    def is_over(self) -> bool:
        """True where the alert has ended, or never came to fire."""
        return _is_over(self.change)


def _is_over(change: AlertChange) -> bool:
    # Changes of runs that were recorded before alerts had states have an empty one.
    return change.state in _OVER or (not change.state and not change.firing)
