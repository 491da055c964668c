"""SystemClock: the real time. Tests inject their own."""

from __future__ import annotations

import time


class SystemClock:
    """Implements ports.Clock."""

    monotonic_ns = staticmethod(time.monotonic_ns)
    wall_s = staticmethod(time.time)
