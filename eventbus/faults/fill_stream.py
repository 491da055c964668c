"""FillStream: the stream has reached its limit and takes no more."""

from __future__ import annotations

from collections.abc import Sequence

from eventbus.faults.fault import Fault
from eventbus.faults.stream_admin import Config, StreamAdmin

LIMITS = ("max_msgs", "discard")
"""What is changed of a stream, and given back."""


class FillStream(Fault):
    """Sets the limit of the streams that take ``topics`` to what is in them, and lets them refuse what is new. Nothing

    that is stored is lost. The cure gives both settings back, and leaves alone what others changed meanwhile.
    """

    name = "fill_stream"
    title = "Fill the stream"
    breaks = "The stream's limit is set to what is in it (max_msgs, discard new): it takes no more."
    expect = (
        "Every publish is refused with 'maximum messages exceeded' (stream full); messages are tried again, and those "
        "that run out of tries are rejected."
    )

    def __init__(self, url: str, topics: Sequence[str]) -> None:
        self._admin, self._topics = StreamAdmin(url), tuple(topics)
        self._before: dict[str, Config] = {}

    def apply(self) -> None:
        """Set the limit."""
        found = self._admin.taking(self._topics)
        self._before = {name: {key: config[key] for key in LIMITS if key in config} for name, config in found.items()}
        self._admin.change(list(found), _full)

    def undo(self) -> None:
        """Give the limit back."""
        before = self._before

        def healed(config: Config, messages: int) -> Config:
            return {**config, **before[config["name"]]}

        if before:
            self._admin.change(list(before), healed)
            self._before = {}


def _full(config: Config, messages: int) -> Config:
    return {**config, "max_msgs": max(1, messages), "discard": "new"}
