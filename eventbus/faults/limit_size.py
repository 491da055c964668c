"""LimitSize: the stream takes only small messages."""

from __future__ import annotations

from collections.abc import Sequence

from eventbus.faults.fault import Fault
from eventbus.faults.stream_admin import Config, StreamAdmin


class LimitSize(Fault):
    """Sets ``max_msg_size`` of the streams that take ``topics``, so that messages are oversize. Headers count.

    The server's own ``max_payload`` is left as it is: a server whose limit shrinks does not tell its clients, and
    closes the connection of whoever goes beyond (2.15). limit_bytes: 1 or more.
    """

    name = "limit_size"
    title = "Oversize messages"

    def __init__(self, url: str, topics: Sequence[str], *, limit_bytes: int) -> None:
        if limit_bytes < 1:
            raise ValueError(f"limit_bytes is {limit_bytes}; use 1 or more")
        self._admin, self._topics, self._limit_bytes = StreamAdmin(url), tuple(topics), limit_bytes
        self._before: dict[str, int] = {}
        self.breaks = (
            f"The stream takes only messages of up to {limit_bytes:,} bytes with their headers (max_msg_size)."
        )
        self.expect = (
            "Larger messages are refused at once and for good (too large): they are rejected, and not retried."
        )

    def apply(self) -> None:
        """Set the limit."""
        found = self._admin.taking(self._topics)
        self._before = {name: int(config.get("max_msg_size", -1)) for name, config in found.items()}
        self._admin.change(list(found), lambda config, messages: {**config, "max_msg_size": self._limit_bytes})

    def undo(self) -> None:
        """Give the limit back."""
        before = self._before

        def healed(config: Config, messages: int) -> Config:
            return {**config, "max_msg_size": before[config["name"]]}

        if before:
            self._admin.change(list(before), healed)
            self._before = {}
