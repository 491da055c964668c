"""ProcessMemory: how much memory this process uses, read at most once a second."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path

from eventbus.ports import Clock

EACH_S = 1.0
_STATM = Path("/proc/self/statm")


def resident_bytes() -> int | None:
    """Memory of this process that is in RAM now; None where it cannot be known. About 15 us on Linux.

    Elsewhere psutil is asked, where it is installed: what Python itself offers there knows only the most there ever
    was, which would hide that memory was given back.
    """
    if sys.platform == "linux":
        try:
            return int(_STATM.read_bytes().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        except (OSError, ValueError, IndexError):
            return None
    try:
        return int(importlib.import_module("psutil").Process().memory_info().rss)
    except (ImportError, OSError):
        return None


class ProcessMemory:
    """read: as ``resident_bytes``."""

    def __init__(self, clock: Clock, read: Callable[[], int | None] = resident_bytes) -> None:
        self._clock = clock
        self._read = read
        self._read_ns: int | None = None
        self._bytes: int | None = None

    def take(self) -> int | None:
        """As it was at most a second ago."""
        now_ns = self._clock.monotonic_ns()
        if self._read_ns is None or now_ns - self._read_ns >= EACH_S * 1e9:
            self._read_ns, self._bytes = now_ns, self._read()
        return self._bytes
