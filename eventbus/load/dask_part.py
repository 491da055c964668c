"""run_part: the task that a Dask worker runs for one part of a load.

The part itself is a child process of the worker (see PartProcess), since a worker's own process serves Dask on its
event loop, shares one interpreter lock with every task on it, and cannot end a thread. The task only carries lines
between the child and two of Dask's queues, which reach from anywhere that a Dask client reaches.

Dask never ends a task that runs, not when it is cancelled nor when its client is gone, and may run it again elsewhere.
So the task is on a lease, which each word from the coordinator renews, and the plan comes by the queue, where it can be
taken once: a second run of the same task finds none, and ends.
"""

# distributed is typed, but for many of its methods:
# mypy: allow-untyped-calls
from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Sequence

from distributed import Queue, get_client, secede

from eventbus.load.part_process import KILL_TIMEOUT_S, PartProcess

LEASE_S = 15.0
"""Without a word from the coordinator for so long, the part is made to end."""
POLL_S = 0.25
"""Between two looks for commands. Dask's ``get`` with a timeout would wait at the scheduler, which logs an error with a
traceback each time it is over."""
END_S = 10.0
"""For a part whose input was closed: 5 s for its last acks, and some for its end."""
ALIVE = {"cmd": "alive"}
"""Renews the lease."""
END = {"cmd": "end"}
"""Closes the part's input."""


def queue_names(token: str) -> tuple[str, str]:
    """Of the queues of one part: its commands, each a mapping, and what it says, each a list of lines."""
    return f"{token}-commands", f"{token}-lines"


def close_queue(queue: Queue) -> None:
    """For good, whoever else uses it. The scheduler keeps a queue until it was closed as often as it was registered: by
    each who makes it, and once more by who awaits it. To close it too often does nothing."""
    for _ in range(3):
        queue.close()


def run_part(token: str, arguments: Sequence[str]) -> str:
    """Run one part until it ends; returns how it ended. Blocks; arguments: see PartProcess."""
    client = get_client()
    secede()  # it runs as long as the load: it must not keep one of the worker's places for computations
    commands, lines = (Queue(name, client=client) for name in queue_names(token))
    carrier = Carrier(arguments, commands, lines)
    try:
        return carrier.run()
    finally:
        for queue in (commands, lines):
            if carrier.abandoned:  # nobody else will do it
                close_queue(queue)
            else:
                queue.close()


class Carrier:
    """Carries lines between a part and its queues; everything of Dask is called by the thread that calls ``run``.

    abandoned: the lease ran out.
    """

    def __init__(self, arguments: Sequence[str], commands: Queue, lines: Queue) -> None:
        self.abandoned = False
        self._arguments = arguments
        self._commands = commands
        self._lines = lines
        self._wake = threading.Condition()
        self._said: deque[str] = deque()
        self._how: str | None = None
        self._lease_s = time.monotonic() + LEASE_S
        self._ending_s: float | None = None

    def run(self) -> str:
        """Start the part and carry until it ends; returns how."""
        process = PartProcess(self._heard, self._gone, self._arguments)
        try:
            while not self._over():
                with self._wake:
                    self._wake.wait_for(lambda: self._said or self._how is not None, POLL_S)
                with contextlib.suppress(OSError):  # the scheduler cannot be reached; the lease bounds that
                    self._carry(process)
                if self._ending_s is None and time.monotonic() > self._lease_s:
                    self.abandoned = True
                    self._end(process)
        finally:
            self._see_it_end(process)
        return self._how or "did not end"

    def _over(self) -> bool:
        if self._how is not None and not self._said:
            return True
        return self._ending_s is not None and time.monotonic() > self._ending_s

    def _carry(self, process: PartProcess) -> None:
        if self._said:
            said = list(self._said)
            self._lines.put(said)
            for _ in said:
                self._said.popleft()
        for command in self._commands.get(batch=True):
            self._lease_s = time.monotonic() + LEASE_S
            if command == END:
                self._end(process)
            elif command != ALIVE:
                process.send(command)

    def _end(self, process: PartProcess) -> None:
        process.close_input()
        self._ending_s = time.monotonic() + END_S

    def _see_it_end(self, process: PartProcess) -> None:
        process.close_input()
        for force in (process.terminate, process.kill, None):
            with self._wake:
                if self._wake.wait_for(lambda: self._how is not None, KILL_TIMEOUT_S):
                    return
            if force is not None:
                force()

    def _heard(self, line: bytes) -> None:
        with self._wake:
            self._said.append(line.decode(errors="replace"))
            self._wake.notify()

    def _gone(self, how: str) -> None:
        with self._wake:
            self._how = how
            self._wake.notify()
