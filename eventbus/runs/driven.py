"""drive(): a plan run on this loop and kept, for notebooks."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eventbus.observe import Sample, StoreWriter, default_store_path
from eventbus.runs import kept
from eventbus.runs.run import Run

if TYPE_CHECKING:
    from eventbus.load.plan import LoadPlan


async def drive(
    plan: LoadPlan | Path | str,
    *,
    store: Path | str | None = None,
    on_sample: Callable[[Sample], None] | None = None,
    **instead: Any,
) -> Run:
    """Run a plan on this loop, as ``ackscope load`` does, keep it, and give it back when it is over.

    plan: a LoadPlan, a TOML file's path, or the name of a preset. instead: other values for its settings, as ``url``.
    on_sample: called four times a second; it must not wait or raise. Other work on the loop adds to the latencies.
    Cancellation ends the run at once and keeps what was. Raises ConfigError, ConnectFailed, TopicError, StoreError.
    """
    from eventbus.clock import SystemClock  # here: whoever only reads needs no broker's client
    from eventbus.load.payload import open_messages
    from eventbus.load_bus import driver

    chosen = await asyncio.to_thread(_plan, plan, instead)
    messages = await asyncio.to_thread(open_messages, chosen)
    path = Path(store) if store is not None else default_store_path()
    writer = StoreWriter(path)
    try:
        run = driver(chosen, messages, clock=SystemClock())(writer=writer, on_sample=on_sample)
        await run.open()
        await run.run()
    finally:
        await asyncio.shield(asyncio.to_thread(writer.close))
    if writer.error is not None:
        raise writer.error
    assert run.run_id is not None
    return kept.open(run.run_id, path)


def _plan(plan: LoadPlan | Path | str, instead: Mapping[str, Any]) -> LoadPlan:
    from eventbus.load.plan import LoadPlan
    from eventbus.load.plan_file import plan_from
    from eventbus.load.presets import PRESETS, preset

    if isinstance(plan, str) and (plan in PRESETS or not plan.endswith(".toml")):
        return preset(plan).plan(**instead)
    found = plan if isinstance(plan, LoadPlan) else plan_from(Path(plan))
    if "url" in instead:
        instead = {"embedded": None, **instead}  # as the url says
    return dataclasses.replace(found, **instead)
