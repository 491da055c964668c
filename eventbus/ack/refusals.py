"""TopicRefusals: which topics were acked, and when the refusal of one was first heard.

A broker that denies a topic does not say which message it refused. Where the topic was acked before, the right to it
was taken away meanwhile: what was sent before that was heard may be stored, and is in doubt.

Invariants
- ``acked`` holds at most ``TOPICS_KNOWN`` topics. Full, any topic may have been acked, and is treated so.
- Which token was the last when a refusal was first heard does not change by hearing it again.
"""

from __future__ import annotations

TOPICS_KNOWN = 10_000
"""How many topics are remembered as acked or refused."""


class TopicRefusals:
    """``acked`` is added to by the ledger on its hot path, up to TOPICS_KNOWN; the rest changes only here."""

    __slots__ = ("_first_heard", "acked")

    def __init__(self) -> None:
        self.acked: set[str] = set()
        self._first_heard: dict[str, int] = {}  # topic -> last token at that time

    def doubt_until(self, topic: str, last_token: int) -> int:
        """A refusal of ``topic`` is heard, and ``last_token`` was accepted last: messages up to the token returned are
        in doubt, later ones refused for certain. 0 where none is in doubt."""
        if topic not in self.acked and len(self.acked) < TOPICS_KNOWN:
            return 0
        if len(self._first_heard) >= TOPICS_KNOWN:
            self._first_heard.clear()
        return self._first_heard.setdefault(topic, last_token)
