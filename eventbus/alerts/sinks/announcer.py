"""Announcer: makes notifications of the changes of one run's alerts. It remembers when each began. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from eventbus.alerts.engine import fingerprint
from eventbus.alerts.rule import AlertRule
from eventbus.alerts.sinks.notification import Notification
from eventbus.observe.run import AlertChange


class Announcer:
    """For the changes that an AlertEngine with ``rules`` finds. url: of the broker, without credentials."""

    def __init__(self, rules: Iterable[AlertRule], *, run_id: str, url: str) -> None:
        self._rules = {rule.name: rule for rule in rules}
        self._run_id = run_id
        self._url = url
        self._began: dict[str, float] = {}
        self._last: dict[str, AlertChange] = {}

    def notification(self, change: AlertChange) -> Notification:
        """What is to be told of ``change``; give it every change, in order."""
        if change.state == "firing":
            self._began.setdefault(change.rule, change.wall_s)
        self._last[change.rule] = change
        made = self._of(change)
        if made.is_over:
            self._began.pop(change.rule, None)
        return made

    def at_end(self, wall_s: float) -> list[Notification]:
        """The run is over, and with it what still fires: else whoever was told would wait for ever."""
        left = [self._last[rule] for rule in self._began]
        return [
            self.notification(replace(last, wall_s=wall_s, firing=False, state="resolved", previous=last.state))
            for last in left
        ]

    def _of(self, change: AlertChange) -> Notification:
        rule = self._rules.get(change.rule)
        return Notification.of(
            change,
            fingerprint=fingerprint(change.rule, change.labels),
            starts_at_s=self._began.get(change.rule, change.wall_s),
            run_id=self._run_id,
            url=self._url,
            summary="" if rule is None else rule.summary,
            description="" if rule is None else rule.description,
        )
