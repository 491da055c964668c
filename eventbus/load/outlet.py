"""Outlet: what a part says goes out by a thread of its own, so that nobody who reads slowly can hold up the load."""

from __future__ import annotations

import json
import os
import threading
from collections import deque
from collections.abc import Mapping
from typing import Any

from eventbus.load.part_message import sample_to_dict
from eventbus.observe.run import Sample

MAX_WAITING = 1_000
"""Messages; beyond, the oldest is lost. Samples do not count: only the newest waits."""


class Outlet:
    """Writes JSON lines to a file descriptor. All but ``close`` never wait and never raise.

    Where nobody reads any more, what is told is lost.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._wake = threading.Condition()
        self._waiting: deque[Mapping[str, Any]] = deque(maxlen=MAX_WAITING)
        self._sample: Sample | None = None
        self._closing = False
        # A daemon: a reader that stands still must not keep the process from ending.
        self._thread = threading.Thread(target=self._write_all, name="ackscope-outlet", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """True while something waits to be written."""
        return bool(self._waiting) or self._sample is not None

    def tell(self, message: Mapping[str, Any]) -> None:
        """Write it, after what was told before."""
        with self._wake:
            self._waiting.append(message)
            self._wake.notify()

    def sample(self, sample: Sample) -> None:
        """Write it, unless a newer one comes first."""
        with self._wake:
            self._sample = sample
            self._wake.notify()

    def close(self, timeout_s: float) -> None:
        """Write what waits, and end; at most so long."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        self._thread.join(timeout_s)

    def _write_all(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._sample is not None or self._closing)
                messages, sample, last = list(self._waiting), self._sample, self._closing
                self._waiting.clear()
                self._sample = None
            if sample is not None:
                # First: what was told since may be the end, and is newer.
                messages.insert(0, {"event": "sample", "sample": sample_to_dict(sample)})
            if messages and not self._write(messages):
                last = True
            if last:
                return

    def _write(self, messages: list[Mapping[str, Any]]) -> bool:
        left = "".join(json.dumps(message, separators=(",", ":")) + "\n" for message in messages).encode()
        try:
            while left:
                left = left[os.write(self._descriptor, left) :]
        except OSError:
            return False
        return True
