"""``part`` on the command line: one share of a load for a coordinator in another process. No people use it.

Standard input and output carry JSON lines; see load/part_message.py.
"""

from __future__ import annotations

import asyncio
import logging
import sys

import click

from eventbus.clock import SystemClock
from eventbus.errors import ConfigError
from eventbus.load.loop import new_event_loop
from eventbus.load.outlet import Outlet
from eventbus.load.part import Part
from eventbus.load.part_message import MAX_LINE_BYTES
from eventbus.load.plan_check import MAX_PROCESSES
from eventbus.load.signals import ending_signals
from eventbus.load_bus import connect_plan
from eventbus.telemetry.setup import setup

_CLOSE_S = 2.0

_log = logging.getLogger("eventbus.load")


@click.command(hidden=True)
def part() -> int:
    """Run one share of a load, as commanded on standard input, one JSON object a line."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    telemetry = None
    try:
        telemetry = setup(prometheus_ports=1 + MAX_PROCESSES)  # that of whoever commands, and one for each part
    except ConfigError as error:  # as on a machine with other variables: the load goes on
        _log.warning("no telemetry from this part: %s", error)
    outlet = Outlet(1)
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_work(Part(connect_plan, outlet, clock=SystemClock())))
    finally:
        outlet.close(_CLOSE_S)
        if telemetry is not None:
            telemetry.shutdown()
    return 0


async def _work(part: Part) -> None:
    with ending_signals(lambda _: part.leave()):
        reading = asyncio.create_task(_read(part), name="ackscope-part-commands")
        try:
            await part.work()
        finally:
            reading.cancel()
            await asyncio.wait([reading])


async def _read(part: Part) -> None:
    """Hand each line of standard input, which is a pipe, to the part; at its end whoever commanded is gone."""
    reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
    transport, _ = await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), sys.stdin.buffer
    )
    try:
        while line := await reader.readline():
            part.command(line)
    except (OSError, ValueError) as error:  # a line too long
        _log.warning("standard input cannot be read: %s", error)
    finally:
        transport.close()
        part.leave()


if __name__ == "__main__":
    part()
