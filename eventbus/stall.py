"""stall: how long a publisher waits for something besides the window's room."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from eventbus.errors import StallTimeout


async def stall(what: Callable[[], Awaitable[None]], name: str, timeout_s: float | None) -> None:
    """Wait for ``what``, which is ``name`` for people. Raises StallTimeout after ``timeout_s`` seconds; None: never."""
    try:
        async with asyncio.timeout(timeout_s):
            await what()
    except TimeoutError:
        raise StallTimeout(f"waited {timeout_s} s for {name}; nothing was accepted") from None
