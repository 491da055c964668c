"""Which event loop the programs of AckScope run on: uvloop where it is installed, else asyncio's own."""

from __future__ import annotations

import asyncio
import importlib
import os

LOOP_VARIABLE = "ACKSCOPE_LOOP"
"""Set it to "asyncio" to keep to asyncio's own loop although uvloop is installed."""


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A new loop of the best kind there is. A program that uses the library chooses its own; the bus runs on any."""
    if os.environ.get(LOOP_VARIABLE) != "asyncio":
        try:
            made: asyncio.AbstractEventLoop = importlib.import_module("uvloop").new_event_loop()
        except ModuleNotFoundError:
            pass
        else:
            return made
    return asyncio.new_event_loop()
