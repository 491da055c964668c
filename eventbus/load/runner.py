"""LoadRunner: publishes what the schedule says is due, and counts what was offered against what was taken.

The open model: the schedule does not wait for acks. Where the window is full, ``offered`` goes on growing and the
difference to ``accepted`` shows how far the system lags behind. Messages are published in batches; there is no task,
timer or future per message, and receipts are dropped: the ledger knows them all.

The closed model, with ``workers``: each publishes, awaits its ack, and only then publishes again (workers.py).
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from itertools import islice
from typing import Any, Protocol

from eventbus.config import AckStrategy
from eventbus.errors import ConfigError, InvalidMessage, WindowFull
from eventbus.load.message import LoadMessage, Messages
from eventbus.load.plan import LoadPlan
from eventbus.load.recorded_schedule import RecordedSchedule
from eventbus.load.schedule import Schedule, Timetable
from eventbus.load.scheduled_latency import ScheduledLatency
from eventbus.load.shape import Shape
from eventbus.load.workers import Workers
from eventbus.ports import Clock
from eventbus.report import AckOutcome

BATCH = 256
"""Messages published before the event loop may run: some 2 ms, so that acks are read in between."""

MIN_PAUSE_S = 0.001
MAX_PAUSE_S = 0.02
"""Longest pause; a slow load still notices ``stop`` and a new rate within it."""

CATCH_UP_S = 5.0
"""After the duration, what was due and found no room is still sent for so long; the rest stays offered only."""


class PublishesMessages(Protocol):
    """The part of a bus that a runner needs."""

    def publish_nowait(
        self, topic: str, payload: bytes, *, key: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """Publish, or raise WindowFull. Returns a receipt."""

    async def publish(
        self, topic: str, payload: bytes, *, key: str | None = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """Publish, after a wait for room if need be. Returns a receipt."""


class EndReason(StrEnum):
    """Why the sending ended."""

    PLAN = "plan"
    STOPPED = "stopped"


class LoadRunner:
    """Sends one plan through a bus; ``run`` once.

    messages: what to send; ends the run when it ends. clock and sleep: injected for tests.
    latency: told of every message that is sent by a schedule; it must be a witness of the same bus.
    """

    def __init__(
        self,
        bus: PublishesMessages,
        plan: LoadPlan,
        messages: Messages,
        *,
        clock: Clock,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        latency: ScheduledLatency | None = None,
    ) -> None:
        self._bus = bus
        self._plan = plan
        self._messages = messages
        self._all_alike = not (plan.replay or plan.template or plan.topics or plan.payload_size_max)
        self._limit = min((n for n in (plan.count, messages.total) if n is not None), default=None)
        self._clock = clock
        self._sleep = sleep
        # Sends without acks have no token, and no latency.
        self._latency = None if plan.strategy is AckStrategy.IGNORE else latency
        self._shape: Shape | float | None = plan.rate if plan.shape is None else plan.shape
        self._times = messages.times
        self._schedule: Timetable = self._timetable(clock.monotonic_ns())
        self._closed: Workers | None = None
        if plan.workers is not None:
            self._closed = Workers(bus.publish, plan.workers, messages.source, self._limit, self._refuse)
        self._left: Sequence[int] = ()  # scheduled times that were taken and not yet used
        self._end_ns: int | None = None
        self._ended_ns: int | None = None
        self._started_ns: int | None = None
        self._stopped = False
        self._exhausted = False
        self._waiting: asyncio.Timeout | None = None
        self._waiting_ns: int | None = None  # the scheduled time of the message that waits for room
        self._lag_ns = 0
        self._accepted = 0
        self._refused = 0
        self._refusal: str | None = None
        self._most_offered = 0

    # ---- figures -----------------------------------------------------------------------------------------------

    @property
    def accepted(self) -> int:
        """Messages that the bus took."""
        return self._accepted if self._closed is None else self._closed.accepted

    @property
    def refused(self) -> int:
        """Messages that no broker would take (too large, for instance); nothing was sent of them."""
        return self._refused

    @property
    def refusal(self) -> str | None:
        """Why the first of them was refused."""
        return self._refusal

    @property
    def target_rate(self) -> float | None:
        """Messages per second that the schedule wants now; None for as fast as the window or the workers let, and for
        a replay at recorded times."""
        return None if self._closed is not None else self._schedule.rate_at(self._now_within())

    @property
    def sending_s(self) -> float:
        """Seconds from the start until now, or until the sending ended."""
        if self._started_ns is None:
            return 0.0
        end_ns = self._clock.monotonic_ns() if self._ended_ns is None else self._ended_ns
        return (end_ns - self._started_ns) / 1e9

    @property
    def offered(self) -> int:
        """Messages that the schedule wanted to send until now; never less than were sent, and never falling. In the
        closed model those that were sent."""
        if self._started_ns is not None and self._ended_ns is None and self._closed is None:
            due = self._schedule.due(self._now_within()) or 0
            self._most_offered = max(self._most_offered, due if self._limit is None else min(due, self._limit))
        return max(self._most_offered, self.accepted + self._refused)

    def schedule_lag_s(self) -> float:
        """The longest in seconds that a message was sent after its scheduled time since the last call, the one that
        waits for room right now included. 0 where nothing was sent, without limit, and in the closed model."""
        longest_ns, self._lag_ns = self._lag_ns, 0
        if self._schedule.unlimited:
            return 0.0
        if self._waiting_ns is not None:
            longest_ns = max(longest_ns, self._clock.monotonic_ns() - self._waiting_ns)
        return longest_ns / 1e9

    # ---- on the way --------------------------------------------------------------------------------------------

    def set_rate(self, rate: float | None) -> None:
        """Go on with another rate (checked by the caller) instead of the shape; when the run ends stays as it was.

        Raises ConfigError in the closed model, which has none.
        """
        self._change(rate)

    def set_shape(self, shape: Shape) -> None:
        """Go on with another shape, from its begin. Where it has an end, the run ends with it, or by its duration.

        Raises ConfigError in the closed model, which has none.
        """
        self._change(shape)
        if shape.duration_s is not None and self._started_ns is not None:
            ends_ns = self._clock.monotonic_ns() + round(shape.duration_s * 1e9)
            of_plan_s = self._plan.duration_s
            of_plan_ns = ends_ns if of_plan_s is None else self._started_ns + round(of_plan_s * 1e9)
            self._end_ns = min(ends_ns, of_plan_ns)

    def stop(self) -> None:
        """Send nothing more; ``run`` returns soon. Idempotent."""
        self._stopped = True
        if self._closed is not None:
            self._closed.stop()
        if self._waiting is not None:
            with contextlib.suppress(RuntimeError):  # the wait has just ended by itself
                self._waiting.reschedule(asyncio.get_running_loop().time())

    def _change(self, to: Shape | float | None) -> None:
        if self._closed is not None:
            raise ConfigError("this load has workers that wait for acks; it has no rate that could be changed")
        self._shape, self._times = to, None
        if self._started_ns is None:
            self._schedule.change(to, self._clock.monotonic_ns())
        else:
            self._schedule.change(to, self._now_within())

    # ---- the run -----------------------------------------------------------------------------------------------

    async def run(self) -> EndReason:
        """Send until the plan or ``stop`` ends it. Raises what the bus raises, but for messages it refuses one by one.

        Cancellation ends it between two messages. ConfigError where all messages are alike and the very first one is
        refused: all of them would be.
        """
        self._started_ns = now_ns = self._clock.monotonic_ns()
        self._schedule = self._timetable(now_ns)
        duration_s = self._duration_s()
        if duration_s is not None:
            self._end_ns = now_ns + round(duration_s * 1e9)
        try:
            if self._closed is None:
                await self._send_all()
            else:
                await self._closed.run(None if duration_s is None else self._sleep(duration_s))
            return EndReason.STOPPED if self._stopped else EndReason.PLAN
        finally:
            ended_ns = self._clock.monotonic_ns()
            self._most_offered = self.offered
            self._ended_ns = ended_ns

    async def _send_all(self) -> None:
        await self._sleep(0)  # whoever watches has a look before the first message
        while not self._stopped:
            times = self._left or self._take()
            if times is None:
                return
            if times:
                await self._send(times)
            behind = len(times) == BATCH or self._left or self._all_sent()
            await self._sleep(0 if behind else self._pause_s())

    def _take(self) -> Sequence[int] | None:
        """The scheduled times of what to send now, at most a batch; none where nothing is due yet, None where the plan
        has ended."""
        if self._all_sent():
            return None
        done = self._accepted + self._refused
        most = BATCH if self._limit is None else min(BATCH, self._limit - done)
        now_ns, end_ns = self._clock.monotonic_ns(), self._end_ns
        if end_ns is None or now_ns < end_ns:
            return self._schedule.take(now_ns, most)
        if now_ns - end_ns >= CATCH_UP_S * 1e9 or self._schedule.unlimited:
            return None
        return self._schedule.take(end_ns, most) or None

    def _all_sent(self) -> bool:
        return self._exhausted or self._accepted + self._refused == self._limit

    def _pause_s(self) -> float:
        now_ns = self._clock.monotonic_ns()
        pause_s = self._schedule.next_due_s(now_ns)
        if self._end_ns is not None:
            pause_s = min(pause_s, (self._end_ns - now_ns) / 1e9)
        return min(MAX_PAUSE_S, max(MIN_PAUSE_S, pause_s))

    async def _send(self, times: Sequence[int]) -> None:
        self._lag_ns = max(self._lag_ns, self._clock.monotonic_ns() - times[0])
        used, waits = self._send_what_fits(times)
        self._left = () if self._exhausted else times[used:]
        if waits is None:
            return
        self._waiting_ns = times[used]
        self._left = times[used + 1 :]
        try:
            async with asyncio.timeout(self._patience_s()) as self._waiting:
                receipt = await self._bus.publish(waits.topic, waits.payload, key=waits.key, headers=waits.headers)
            self._accepted += 1
            self._sent_after_wait(receipt, times[used])
        except InvalidMessage as error:
            self._refuse(error)
        except TimeoutError:
            if self._waiting is None or not self._waiting.expired():
                raise
        finally:
            self._lag_ns = max(self._lag_ns, self._clock.monotonic_ns() - times[used])
            self._waiting = self._waiting_ns = None

    def _send_what_fits(self, times: Sequence[int]) -> tuple[int, LoadMessage | None]:
        """Publish as many messages as there are times, without waiting. How many of the times were used, and the
        message that found no room, if one did."""
        publish = self._bus.publish_nowait
        tokens: list[int] = []
        sent = refused = 0
        waits = None
        watched = self._latency is not None
        try:
            for message in islice(self._messages.source, len(times)):
                topic, payload, key, headers = message
                try:
                    if key is None and headers is None:
                        receipt = publish(topic, payload)
                    else:
                        receipt = publish(topic, payload, key=key, headers=headers)
                except WindowFull:
                    waits = message
                    break
                except InvalidMessage as error:
                    self._refuse(error, sent)
                    refused += 1
                    tokens.append(0)
                else:
                    sent += 1
                    if watched:
                        tokens.append(receipt.token)
        finally:
            self._accepted += sent
            if self._latency is not None:
                self._latency.sent(tokens, times)
        self._exhausted = waits is None and sent + refused < len(times)
        return sent + refused, waits

    def _sent_after_wait(self, receipt: Any, scheduled_ns: int) -> None:
        if self._latency is None:
            return
        if not receipt.settled:
            self._latency.sent((receipt.token,), (scheduled_ns,))
        elif receipt.report.outcome is AckOutcome.ACKED:
            self._latency.acked(self._clock.monotonic_ns() - scheduled_ns)

    # ---- parts of it -------------------------------------------------------------------------------------------

    def _timetable(self, start_ns: int) -> Timetable:
        if self._times is not None:
            return RecordedSchedule(self._times, start_ns)
        seed = secrets.randbits(62) if self._plan.seed is None else self._plan.seed
        return Schedule(self._shape, start_ns, arrivals=self._plan.arrivals, seed=seed)

    def _duration_s(self) -> float | None:
        of_shape = (
            self._shape.duration_s if self._shape is not None and not isinstance(self._shape, (int, float)) else None
        )
        given = [seconds for seconds in (self._plan.duration_s, of_shape) if seconds is not None]
        return min(given, default=None)

    def _now_within(self) -> int:
        now = self._clock.monotonic_ns()
        return now if self._end_ns is None else min(now, self._end_ns)

    def _patience_s(self) -> float | None:
        if self._end_ns is None:
            return None
        return max(0.0, (self._end_ns - self._clock.monotonic_ns()) / 1e9 + CATCH_UP_S)

    def _refuse(self, error: InvalidMessage, sent: int = 0) -> None:
        if self._all_alike and not self.accepted and not sent:
            raise ConfigError(str(error)) from error
        self._refused += 1
        self._refusal = self._refusal or str(error)
