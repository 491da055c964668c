"""The ends of tasks that run inside nats-py."""

from __future__ import annotations

import asyncio
from typing import Any


def hear(task: asyncio.Future[Any]) -> None:
    """Nobody may be left who asks how it ended, and asyncio would complain about that."""
    if not task.cancelled():
        task.exception()


async def end(task: asyncio.Task[None]) -> None:
    """Cancel a task until it has ended: wait_for, inside nats-py, can swallow a single cancellation on Python 3.11."""
    while not task.done():
        task.cancel()
        await asyncio.wait((task,), timeout=0.1)
    hear(task)
