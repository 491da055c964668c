"""FailureBatch: the failed messages of a part that were not told yet: all of them counted, the first ones as they were.

Bounded, however many fail: by the number of ways to fail, and by how many messages are told one by one.
"""

from __future__ import annotations

from collections.abc import Sequence

from eventbus.observe.run import FailedMessage, FailureGroup

MAX_MESSAGES = 10_000
"""Told one by one, in a whole run; the store keeps as many of a run."""
MAX_GROUPS = 1_000
"""Beyond, what fails with a new topic or text is counted together, by kind and outcome."""
TEXT_LENGTH = 200
OTHERS = "(others)"


class FailureBatch:
    """Grows by ``add`` and is emptied by ``take``; on one thread."""

    def __init__(self) -> None:
        self._room = MAX_MESSAGES
        self._messages: list[FailedMessage] = []
        self._groups: dict[tuple[str, str, str, str], FailureGroup] = {}

    def __bool__(self) -> bool:
        return bool(self._groups)

    def add(self, messages: Sequence[FailedMessage]) -> None:
        """Messages that were not plainly acked. Some 2 us each."""
        kept = messages[: self._room]
        self._room -= len(kept)
        self._messages += kept
        for message in messages:
            group = FailureGroup(
                kind=message.error_kind or "",
                topic=message.topic,
                outcome="acked late" if message.late else message.outcome,
                text=(message.error_text or "")[:TEXT_LENGTH],
                count=1,
                first_wall_s=message.wall_s,
                last_wall_s=message.wall_s,
                message_id=message.message_id,
                trace_id=message.trace_id,
            )
            key = (group.kind, group.topic, group.outcome, group.text)
            if key not in self._groups and len(self._groups) >= MAX_GROUPS:
                key = (group.kind, OTHERS, group.outcome, OTHERS)
            known = self._groups.get(key)
            self._groups[key] = group if known is None else known.merged(group)

    def take(self) -> tuple[list[FailedMessage], list[FailureGroup]]:
        """What was added since the last time."""
        messages, groups = self._messages, list(self._groups.values())
        self._messages, self._groups = [], {}
        return messages, groups
