"""Signals that ask a program to end, brought onto its event loop."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def ending_signals(asked: Callable[[int], None]) -> Iterator[None]:
    """While inside, SIGINT, SIGTERM and SIGHUP call ``asked`` with their number on the running loop, and do no more.

    SIGHUP only where it is not ignored already (nohup). Before and after, they do what they did. Main thread only.
    """
    loop = asyncio.get_running_loop()
    numbers = [signal.SIGINT, signal.SIGTERM]
    hangup = getattr(signal, "SIGHUP", None)
    if hangup is not None and signal.getsignal(hangup) is not signal.SIG_IGN:
        numbers.append(hangup)
    before = {number: signal.getsignal(number) for number in numbers}

    def handle(number: int, _frame: object) -> None:
        loop.call_soon_threadsafe(asked, number)

    try:
        for number in numbers:
            try:
                loop.add_signal_handler(number, asked, int(number))
            except NotImplementedError:  # Windows
                signal.signal(number, handle)
        yield
    finally:
        for number, handler in before.items():
            with contextlib.suppress(NotImplementedError):
                loop.remove_signal_handler(number)
            signal.signal(number, handler)
