"""DeleteStream: the stream is gone, with everything in it."""

from __future__ import annotations

from collections.abc import Sequence

from eventbus.faults.fault import Fault
from eventbus.faults.stream_admin import Config, StreamAdmin


class DeleteStream(Fault):
    """Deletes the streams that take ``topics``. The cure makes them again, empty, where nobody has done so yet."""

    name = "delete_stream"
    title = "Delete the stream"
    breaks = "The stream is deleted, with every message in it, also those that were acked."
    expect = (
        "Publishing finds no responders for a moment; the bus makes the stream again where it may, and the next tries "
        "are acked. What was stored before is lost."
    )
    momentary = True

    def __init__(self, url: str, topics: Sequence[str]) -> None:
        self._admin, self._topics = StreamAdmin(url), tuple(topics)
        self._deleted: dict[str, Config] = {}

    def apply(self) -> None:
        """Delete."""
        found = self._admin.taking(self._topics)
        self._deleted = found
        self._admin.delete(list(found))

    def undo(self) -> None:
        """Make again what is still missing."""
        if self._deleted:
            self._admin.restore(self._deleted)
            self._deleted = {}
