"""StoredCount: how many messages an embedded broker stored in a run, counted at the broker and not at the publisher.

What ignores its acks cannot tell what was lost; where the broker's store stands before a run and after it can. Only for
the embedded brokers: into the stream of another, others may publish as well. A broker's counter only grows, so what it
drops by its limits changes nothing; one that was made afresh in between is told from the one before, and then nothing
is known.
"""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from dashboard.broker import KAFKA_URL, NATS_URL, BrokerState, BrokerStatus
from dashboard.control import LoadSettings
from eventbus.errors import ConfigError
from eventbus.observe import RunEditor, StoreError, StoreReader

READY_S = 20.0
"""Longest wait for an embedded broker that is just being started."""
LOOK_S = 6.0
"""Longest wait for one answer about the store."""
SETTLE_S = 0.3
"""Between two looks after a run: what has no ack may still be on its way. Two that are alike end it."""
SETTLED_BY_S = 6.0
_NOTE = re.compile(r"^Stored by the broker: ([\d,]+) messages\.$", re.MULTILINE)
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Mark:
    """Where a broker's store stands. url: of the broker. since: which store it is; None where there is none yet."""

    url: str
    count: int
    since: str | None


class Control(Protocol):
    """What is asked of LoadControl."""

    def broker_status(self, url: str) -> BrokerStatus | None: ...

    def start_broker(self, url: str) -> None: ...


Look = Callable[[str, str], Mark]
"""The mark of a broker's URL and a topic; raises anything that a client may raise."""


def note_of(count: int) -> str:
    """The line that is kept among the notes of a run."""
    return f"Stored by the broker: {count:,} messages."


def stored_in(notes: str) -> int | None:
    """What the notes of a run say of it; None where they do not."""
    found = _NOTE.search(notes)
    return None if found is None else int(found[1].replace(",", ""))


def grown(before: Mark | None, after: Mark | None) -> int | None:
    """How many messages came in between; None where that cannot be known."""
    if before is None or after is None or before.url != after.url or after.count < before.count:
        return None
    return after.count - before.count if before.since in (None, after.since) else None


class StoredCount:
    """source: of the store of runs, whose notes get the count. looks: by the URL that asks for an embedded broker."""

    def __init__(self, control: Control, source: StoreReader, looks: Mapping[str, Look] | None = None) -> None:
        self._control, self._source = control, source
        self._looks = {NATS_URL: look_at_nats, KAFKA_URL: look_at_kafka} if looks is None else looks
        self._pause = threading.Event()

    def begin(self, settings: LoadSettings) -> Mark | None:
        """Where the store stands before a run; None where it cannot be known. Waits until the broker is there."""
        if settings.url not in self._looks:
            return None
        self._control.start_broker(settings.url)
        deadline_s = time.monotonic() + READY_S
        while (status := self._control.broker_status(settings.url)) is not None:
            if status.state is BrokerState.READY and status.url is not None:
                return self._look(settings)
            if status.state is BrokerState.FAILED or time.monotonic() >= deadline_s:
                break
            self._pause.wait(0.1)
        return None

    def end(self, mark: object, settings: LoadSettings, run_id: str) -> None:
        """Keep with the run what came in since, once that stands still."""
        if not isinstance(mark, Mark):
            return
        count = grown(mark, self._settled(settings))
        if count is None:
            return
        try:
            run = self._source.run(run_id)
            if run is not None:
                notes = "\n".join(filter(None, (run.notes, note_of(count))))
                RunEditor(self._source.path).note(run_id, notes)
        except (StoreError, ConfigError):
            return  # the comparison says that it is not known

    def _settled(self, settings: LoadSettings) -> Mark | None:
        deadline_s = time.monotonic() + SETTLED_BY_S
        last = self._look(settings)
        while time.monotonic() < deadline_s:
            self._pause.wait(SETTLE_S)
            now = self._look(settings)
            if now is not None and now == last:
                break
            last = now
        return last

    def _look(self, settings: LoadSettings) -> Mark | None:
        status = self._control.broker_status(settings.url)
        if status is None or status.url is None:
            return None
        try:
            return self._looks[settings.url](status.url, settings.topic)
        except Exception:  # an adapter's edge: whatever a client raises, the count is not known
            return None


def look_at_nats(url: str, topic: str) -> Mark:
    """The last sequence of the stream that takes ``topic``, and when that stream was made."""
    from nats.aio.client import Client  # here, because most pages need no client
    from nats.js.errors import NotFoundError

    async def silent(error: Exception) -> None:
        """What a call raises is enough."""

    async def look() -> Mark:
        client = Client()
        try:
            await client.connect(url, connect_timeout=2, allow_reconnect=False, error_cb=silent, name="ackscope-count")
            stream = client.jetstream(timeout=2)
            try:
                info = await stream.stream_info(await stream.find_stream_name_by_subject(topic))
            except NotFoundError:
                return Mark(url, 0, None)
            return Mark(url, info.state.last_seq, str(info.created))
        finally:
            await client.close()

    return _within(look())


def look_at_kafka(url: str, topic: str) -> Mark:
    """The sum of the end offsets of the topic's partitions; a topic that is not there has none."""
    from aiokafka import AIOKafkaConsumer, TopicPartition

    async def look() -> Mark:
        consumer: Any = AIOKafkaConsumer(bootstrap_servers=url.partition("://")[2], client_id="ackscope-count")
        try:
            await consumer.start()
            partitions = (await consumer._client.fetch_all_metadata()).partitions_for_topic(topic) or ()
            ends = await consumer.end_offsets([TopicPartition(topic, number) for number in partitions])
            return Mark(url, sum(ends.values()), None if not ends else topic)
        finally:
            await consumer.stop()

    return _within(look())


def _within(looking: Awaitable[_T]) -> _T:
    async def bounded() -> _T:
        async with asyncio.timeout(LOOK_S):
            return await looking

    return asyncio.run(bounded())
