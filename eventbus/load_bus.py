"""What a load plan asks for: the bus, and whoever drives messages through it, in this process or in several."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

from eventbus.ack.retry import RetryPolicy
from eventbus.bus import EventBus
from eventbus.config import WindowConfig
from eventbus.connect import connect
from eventbus.load.connection import connection_of
from eventbus.load.message import Messages
from eventbus.load.plan import LoadPlan
from eventbus.load.run import LoadRun, MakeRun
from eventbus.ports import Clock, Observer, Witness
from eventbus.topic import TopicConfig


async def connect_plan(plan: LoadPlan, *, observers: Sequence[Observer], witness: Witness | None) -> EventBus:
    """Connect, and prepare the topics of ``plan``. Waits, raises and can be cancelled as ``connect``."""
    return await connect(
        plan.url,
        topics=[TopicConfig(name) for name in _prepared(plan)],
        window=WindowConfig(max_pending=plan.max_pending),
        retry=RetryPolicy(max_attempts=plan.max_attempts),
        ack_timeout_s=plan.ack_timeout_s,
        strategy=plan.strategy,
        connection=connection_of(plan.url, plan.connection),
        observers=observers,
        witness=witness,
    )


def _prepared(plan: LoadPlan) -> Sequence[str]:
    """Topics to prepare before anything is sent. On NATS, several with the same first word go into one stream, which is
    made for all of that word's subjects when the first of them is published to, as for any topic nobody configured."""
    if "kafka" in plan.url.partition("://")[0]:
        return plan.topic_names
    words = Counter(name.partition(".")[0] for name in plan.topic_names)
    return [name for name in plan.topic_names if words[name.partition(".")[0]] == 1]


def driver(plan: LoadPlan, messages: Messages, *, clock: Clock, dask: str | None = None) -> MakeRun:
    """What makes a run of ``plan``: in this process, or in several where the plan says so or a Dask cluster is given.

    messages: those of the plan; where several processes share it, each opens its own, and these only say that they can
    be. dask: address of its scheduler. Raises ConfigError.
    """
    if dask is None and plan.processes == 1:
        return partial(LoadRun, plan, messages, connect_plan, clock=clock)
    from eventbus.load.fleet import FleetRun, executor_of
    from eventbus.own_broker import own_broker

    return partial(FleetRun, plan, executor_of(dask), clock=clock, make_broker=own_broker)
