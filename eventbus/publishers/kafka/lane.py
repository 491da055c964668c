"""Lane: one partition's way to its broker. What waits there, and at most two batches under way.

Invariants
- A message handed over is in exactly one of: ``queue`` (can still be taken back), ``_apart`` (the same, of batches that
  were certainly not stored and are sent again, oldest first), a batch under way, or nowhere any more, since its end was
  told.
- One batch is in flight and one behind it, so that the broker always has work; the rest stays here, where it can be
  taken back, and so batches grow with the load.
- The task runs only while something waits.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Any, Protocol

from aiokafka.errors import KafkaConnectionError

from eventbus.errors import ErrorClass
from eventbus.ports import Clock, Failure, Outgoing, Reply
from eventbus.publishers.kafka.batch import RecordBatch
from eventbus.publishers.kafka.producer import KafkaProducer
from eventbus.publishers.kafka.replies import BatchFailure, read_ack, read_call_error, read_error

_BATCHES_UNDER_WAY = 2
_OUT_OF_SEQUENCE = 45
_STOPPED = "its producer was closed"


class Outlet(Protocol):
    """What a lane needs of its publisher."""

    async def producer(self) -> KafkaProducer:
        """The one to send with now; waits while there is none."""

    def poisoned(self, producer: KafkaProducer, reason: str) -> None:
        """It must not be used any more."""


class Lane:
    """told: hears what became of messages. max_bytes: of a batch. linger_s: how long a batch waits to be filled."""

    def __init__(
        self,
        topic: str,
        partition: int,
        outlet: Outlet,
        told: Callable[[Sequence[Reply]], None],
        clock: Clock,
        max_bytes: int,
        linger_s: float,
    ) -> None:
        self.topic, self.partition = topic, partition
        self.queue: dict[int, Outgoing] = {}
        """By token, oldest first. Whoever adds to an empty one calls ``wake``."""
        self.counted_bytes = 0
        """Of payloads in ``queue``, where whoever adds to it counts them here."""
        self._apart: deque[dict[int, Outgoing]] = deque()
        self._one_by_one = False  # a new producer's second batch would be taken also where its first is refused
        self._outlet = outlet
        self._told = told
        self._clock = clock
        self._max_bytes = max_bytes
        self._linger_s = linger_s
        self._under_way: dict[RecordBatch, float] = {}  # since when
        self._task: asyncio.Task[None] | None = None
        self._handing: RecordBatch | None = None  # waits for the one before it to be sent, and can be taken back
        self._sending: asyncio.Task[asyncio.Future[Any]] | None = None
        self._room: asyncio.Future[None] | None = None
        self._lingering: asyncio.Future[None] | None = None
        self._emptied: asyncio.Future[None] | None = None

    # ---- in ----------------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Something waits. It is sent after this turn of the event loop, with whatever comes until then."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="eventbus kafka lane")

    def hurry(self) -> None:
        """A batch is full: it need not linger."""
        if self._lingering is not None and not self._lingering.done():
            self._lingering.set_result(None)

    def withdraw(self, tokens: Collection[int]) -> set[int]:
        """Take back those of these that still wait here."""
        taken = set()
        for waiting in (self.queue, *self._apart):
            for token in waiting.keys() & tokens:
                del waiting[token]
                taken.add(token)
        batch = self._handing
        if batch is not None and self._sending is not None:
            mine = batch.messages.keys() & tokens
            if mine and self._sending.cancel():  # one that has ended cannot be cancelled: it was handed over
                taken |= mine
                rest = {token: message for token, message in batch.messages.items() if token not in mine}
                batch.messages, self._handing = {}, None
                if rest:
                    self._apart.appendleft(rest)
        return taken

    def give_up(self) -> tuple[list[int], list[int]]:
        """Its topic is gone: no more is sent or told. Returns what was certainly not sent, and what is in doubt."""
        unsent = list(self.withdraw({token for messages in self._everything() for token in messages}))
        doubtful = [token for batch in self._under_way for token in batch.messages]
        self._told = lambda replies: None
        if self._task is not None:
            self._task.cancel()
        return unsent, doubtful

    def _everything(self) -> list[dict[int, Outgoing]]:
        return [self.queue, *self._apart, *(batch.messages for batch in self._under_way)]

    # ---- on ----------------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            while self.queue or self._apart:
                if self._linger_s and not self._apart and not self._under_way:
                    self._lingering = asyncio.get_running_loop().create_future()
                    await asyncio.wait((self._lingering,), timeout=self._linger_s)
                while len(self._under_way) >= (1 if self._one_by_one else _BATCHES_UNDER_WAY):
                    self._room = asyncio.get_running_loop().create_future()
                    await self._room
                await self._send(await self._outlet.producer())
        finally:
            self._task = None

    async def _send(self, producer: KafkaProducer) -> None:
        batch = producer.batch(self.topic, self.partition, self._max_bytes)
        batch.take(self._apart[0] if self._apart else self.queue, self._clock)
        if self._apart and not self._apart[0]:
            self._apart.popleft()
        if not batch.messages:  # all were taken back
            return
        if self.counted_bytes:
            self.counted_bytes -= sum(len(message.payload) for message in batch.messages.values())
        self._under_way[batch] = asyncio.get_running_loop().time()
        self._handing, self._sending = batch, asyncio.ensure_future(producer.send(batch))
        try:
            future = await self._sending
        except asyncio.CancelledError:
            self._left(batch)
            if not self._sending.done():
                self._sending.cancel()
            if self._handing is None:  # taken back
                return
            raise
        except Exception as error:  # whatever aiokafka raises: the batch was not handed over
            self._left(batch)
            failed = read_call_error(error, self.topic)
            error_class = failed.error_class
            if failed.poisons:
                self._outlet.poisoned(producer, failed.text)
                error_class = ErrorClass.TRANSIENT  # another producer can send it
            self._told([_failure(failed, error_class, tuple(batch.messages))])
            return
        finally:
            self._handing = None
        future.add_done_callback(partial(self._ended, batch, producer))

    # ---- back --------------------------------------------------------------------------------------------------

    def _ended(self, batch: RecordBatch, producer: KafkaProducer, future: asyncio.Future[Any]) -> None:
        """The outcome of a batch, for all of its messages."""
        self._left(batch)
        error = KafkaConnectionError(_STOPPED) if future.cancelled() else future.exception()
        if error is not None:
            self._failed(batch, producer, error)
        elif (place := future.result()) is not None:  # None: sent without asking for an ack
            self._one_by_one = bool(self._apart)
            tokens = list(batch.messages)
            batch.messages.clear()  # so that the ledger can see which receipts nobody kept
            self._told([read_ack(self.topic, self.partition, place.offset, tokens)])

    def _left(self, batch: RecordBatch) -> None:
        """It is not under way any more, and whoever waited for that goes on."""
        self._under_way.pop(batch, None)
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
        if self._emptied is not None and self.idle:
            self._emptied.set_result(None)
            self._emptied = None

    def _failed(self, batch: RecordBatch, producer: KafkaProducer, error: BaseException) -> None:
        failed = read_error(error, self.topic, attempts=batch.requests, idempotent=producer.idempotent)
        here = (self.topic, self.partition)
        if failed.poisons:
            if failed.error_class is not ErrorClass.AMBIGUOUS:
                producer.refused.add(here)
            self._outlet.poisoned(producer, failed.text)
        if failed.code == _OUT_OF_SEQUENCE and here in producer.refused and batch.requests == 1:
            self._send_again(batch.messages)  # only because of the batch before it, which is known to be missing
        elif failed.separable and failed.error_class is ErrorClass.FATAL and len(batch.messages) > 1:
            # One record can be the cause: each half is sent again, so that the others are not refused with it.
            messages = list(batch.messages.items())
            middle = len(messages) // 2
            self._send_again(dict(messages[:middle]), dict(messages[middle:]))
        else:
            self._told([_failure(failed, failed.error_class, tuple(batch.messages))])

    def _send_again(self, *parts: dict[int, Outgoing]) -> None:
        """These were certainly not stored, and through no fault of most of them: it counts as no attempt of theirs."""
        self._apart = deque(
            sorted((part for part in (*self._apart, *parts) if part), key=lambda part: next(iter(part)))
        )
        self._one_by_one = True
        self.wake()

    # ---- readers and the end -----------------------------------------------------------------------------------

    @property
    def busy(self) -> bool:
        """True while batches are under way and more waits than fits into the next."""
        return len(self._under_way) >= _BATCHES_UNDER_WAY

    @property
    def idle(self) -> bool:
        """True where nothing waits and nothing is under way."""
        return not (self.queue or self._apart or self._under_way)

    async def emptied(self) -> None:
        """Wait until nothing waits and nothing is under way; cancelling only stops the waiting."""
        while not self.idle:
            if self._emptied is None:
                self._emptied = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._emptied)

    def oldest_s(self, now_s: float) -> float:
        """Seconds since the oldest batch under way was handed over; 0 where there is none."""
        return now_s - next(iter(self._under_way.values()), now_s)

    async def close(self) -> None:
        """Send no more; nothing is told any more."""
        self._told = lambda replies: None
        self.queue.clear()
        self._apart.clear()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait((self._task,))


def _failure(failed: BatchFailure, error_class: ErrorClass, tokens: tuple[int, ...]) -> Failure:
    return Failure(error_class, failed.kind, failed.text, tokens, min_delay_s=failed.min_delay_s)
