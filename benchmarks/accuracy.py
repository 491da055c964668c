"""``python -m benchmarks accuracy``: does the load driver send when it says it does?

Each rate is sent by the open model to a nats-server for some seconds. Judged is the rate achieved; told are how
late messages went out, how even the gaps between them were, and what it cost. One process sends, the server is another.
"""

from __future__ import annotations

import asyncio
import gc
import math
import time
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, pairwise
from typing import Any

import eventbus
from eventbus.clock import SystemClock
from eventbus.load.loop import new_event_loop
from eventbus.load.message import LoadMessage, Messages
from eventbus.load.payload import random_payloads
from eventbus.load.plan import LoadPlan
from eventbus.load.runner import LoadRunner
from eventbus.load.scheduled_latency import ScheduledLatency
from eventbus.receipt import Receipt

RATES = (1_000, 10_000, 50_000)
TOLERANCE = 0.01
"""How far the achieved rate may be from the asked one."""
TOPIC = "accuracy.events"
_DISTINCT = 4096


@dataclass(frozen=True, slots=True)
class Settings:
    """One run. rate: messages per second. arrivals: "constant" or "poisson"."""

    rate: float
    seconds: float = 10.0
    arrivals: str = "constant"
    payload_bytes: int = 128


@dataclass(frozen=True, slots=True)
class Measured:
    """What was seen. Times are seconds.

    sending_s: from the start to the last message; longer than asked where sending fell behind. late: each message's
    sending after its scheduled time. jitter: by how much each gap between two messages differed from the scheduled one.
    ack: send to ack. scheduled: scheduled time to ack. cpu_us: of the sending process, of all that it did, per message.
    """

    settings: Settings
    offered: int
    acked: int
    sending_s: float
    late: Mapping[str, float]
    jitter: Mapping[str, float]
    ack: Mapping[str, float]
    scheduled: Mapping[str, float]
    cpu_us: float

    @property
    def achieved(self) -> float:
        """Messages per second."""
        return self.acked / self.sending_s

    @property
    def off(self) -> float:
        """How far the achieved rate was from the asked one, as a share."""
        return self.achieved / self.settings.rate - 1

    def complaints(self) -> list[str]:
        """What is wrong, in words. A Poisson rate may be off by chance as well (five standard deviations)."""
        settings = self.settings
        name = f"{settings.rate:,.0f}/s {settings.arrivals}"
        chance = 5 / math.sqrt(settings.rate * settings.seconds) if settings.arrivals == "poisson" else 0.0
        found = []
        if abs(self.off) > TOLERANCE + chance:
            found.append(f"{name}: achieved {self.achieved:,.0f}/s, {self.off:+.2%}")
        if self.acked != self.offered:
            found.append(f"{name}: {self.offered:,} offered and {self.acked:,} acked")
        return found

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self) | {"achieved": self.achieved, "off": self.off}


class _TimedBus:
    """Writes down when each message is sent."""

    def __init__(self, bus: eventbus.EventBus) -> None:
        self._publish = bus.publish_nowait
        self.publish = bus.publish
        self.sent_ns = array("q")

    def publish_nowait(
        self, topic: str, payload: bytes, *, key: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Receipt:
        self.sent_ns.append(time.monotonic_ns())
        return self._publish(topic, payload)


class _TimedLatency(ScheduledLatency):
    """Writes down when each message was scheduled."""

    def __init__(self, max_pending: int) -> None:
        super().__init__(max_pending)
        self.scheduled_ns = array("q")

    def sent(self, tokens: Sequence[int], scheduled_ns: Sequence[int]) -> None:
        self.scheduled_ns.extend(scheduled_ns[: len(tokens)])
        super().sent(tokens, scheduled_ns)


async def measure(url: str, settings: Settings) -> Measured:
    """Send to the server at ``url``, and await every ack. Takes as long as the settings say, and a little more."""
    plan = LoadPlan(
        url=url, topic=TOPIC, rate=settings.rate, arrivals=settings.arrivals, duration_s=settings.seconds, seed=1,
        max_pending=50_000,
    )  # fmt: skip
    latency = _TimedLatency(plan.max_pending)
    window = eventbus.WindowConfig(max_pending=plan.max_pending)
    async with eventbus.connect(url, topics=[eventbus.TopicConfig(TOPIC)], window=window, witness=latency) as bus:
        timed = _TimedBus(bus)
        payloads = random_payloads(settings.payload_bytes)
        messages = Messages(cycle([LoadMessage(TOPIC, next(payloads)) for _ in range(_DISTINCT)]))
        runner = LoadRunner(timed, plan, messages, clock=SystemClock(), latency=latency)
        gc.collect()
        gc.freeze()  # what else this program holds (a test run, for one) is not looked through meanwhile
        try:
            cpu_s = time.process_time()
            await runner.run()
            cpu_s = time.process_time() - cpu_s
        finally:
            gc.unfreeze()
        offered = runner.offered
        await bus.flush(30)
        snapshot = bus.snapshot()
    sent, due = timed.sent_ns, latency.scheduled_ns
    late = [a - b for a, b in zip(sent, due, strict=False)]
    jitter = [abs(later - earlier) for earlier, later in pairwise(late)]
    scheduled = latency.histogram()
    return Measured(
        settings,
        offered,
        snapshot.acked,
        runner.sending_s,
        _figures(late),
        _figures(jitter),
        {f"p{p}": snapshot.latency.percentile_s(p) or 0.0 for p in (50, 99)},
        {f"p{p}": scheduled.percentile_s(p) or 0.0 for p in (50, 99)},
        cpu_s / max(1, snapshot.acked) * 1e6,
    )


def _figures(values_ns: list[int]) -> dict[str, float]:
    values_ns.sort()
    if not values_ns:
        return {"p50": 0.0, "p99": 0.0, "max": 0.0}
    return {
        "p50": values_ns[len(values_ns) // 2] / 1e9,
        "p99": values_ns[len(values_ns) * 99 // 100] / 1e9,
        "max": values_ns[-1] / 1e9,
    }


def measure_each(url: str, settings: Sequence[Settings]) -> list[Measured]:
    """One after the other, each on an event loop of its own, as the programs of AckScope have it."""
    found = []
    for each in settings:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            found.append(runner.run(measure(url, each)))
    return found
