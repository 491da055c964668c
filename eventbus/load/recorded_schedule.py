"""RecordedSchedule: sends messages at the times at which they were recorded."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence

from eventbus.load.schedule import Schedule
from eventbus.load.shape import Shape

LOOK_AHEAD = 200_000
"""Times that are read ahead to know what is due while nothing can be sent, some 9 MB; beyond them ``due`` stands still
until sending goes on."""


class RecordedSchedule:
    """Implements Timetable. times: seconds from the first message, in order; one that falls is taken as the one before.

    start_ns: when the first is due. After ``change`` recorded times count no more.
    """

    def __init__(self, times: Iterator[float], start_ns: int) -> None:
        self._times = times
        self._start_ns = start_ns
        self._ahead: deque[int] = deque()
        self._last_ns = start_ns
        self._taken = 0
        self._until_ns: int | None = None
        self._then: Schedule | None = None

    @property
    def unlimited(self) -> bool:
        """See Timetable."""
        return self._then is not None and self._then.unlimited

    def rate_at(self, now_ns: int) -> float | None:
        """None: the file knows."""
        return None if self._then is None else self._then.rate_at(now_ns)

    def take(self, now_ns: int, most: int) -> Sequence[int]:
        """See Timetable."""
        own_ns = self._own_ns(now_ns)
        taken: list[int] = []
        while len(taken) < most and self._next_ns() <= own_ns:
            taken.append(self._ahead.popleft())
        self._taken += len(taken)
        if self._then is not None and len(taken) < most:
            taken += self._then.take(now_ns, most - len(taken))
        return taken

    def due(self, now_ns: int) -> int | None:
        """See Timetable, and LOOK_AHEAD."""
        if self.unlimited:
            return None
        own_ns = self._own_ns(now_ns)
        while self._last_ns <= own_ns and len(self._ahead) < LOOK_AHEAD and self._read():
            pass
        if self._last_ns <= own_ns:
            own = self._taken + len(self._ahead)
        else:  # all that was read but the last few: few, since it is read only as far as it is due
            own = self._taken + sum(1 for each in self._ahead if each <= own_ns)
        return own if self._then is None else own + (self._then.due(now_ns) or 0)

    def next_due_s(self, now_ns: int) -> float:
        """See Timetable."""
        if self._then is not None:
            return 0.0 if self._next_ns() <= self._own_ns(now_ns) else self._then.next_due_s(now_ns)
        next_ns = self._next_ns()
        return max(0.0, (next_ns - now_ns) / 1e9) if next_ns < math.inf else math.inf

    def change(self, to: Shape | float | None, now_ns: int) -> None:
        """See Timetable."""
        if self._then is not None:
            self._then.change(to, now_ns)
        else:
            self._until_ns = now_ns
            self._then = Schedule(to, now_ns)

    def _own_ns(self, now_ns: int) -> int:
        return now_ns if self._until_ns is None else min(now_ns, self._until_ns)

    def _next_ns(self) -> float:
        """When the next recorded message is due; infinite where there is none, or none that counts."""
        if not self._ahead and (self._until_ns is None or self._last_ns <= self._until_ns):
            self._read()
        return self._ahead[0] if self._ahead else math.inf

    def _read(self) -> bool:
        """One more time from the file; False at its end."""
        offset_s = next(self._times, None)
        if offset_s is None:
            return False
        self._last_ns = max(self._last_ns, self._start_ns + int(offset_s * 1e9))
        self._ahead.append(self._last_ns)
        return True
