"""What became of messages, compared with what a real Kafka has; and an observer that keeps the events of a bus."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence

from eventbus import AckOutcome, BusEvent, DeliveryReport, EventBus, Receipt
from tests.kafka_tools import copies, read_back

COPIES = {AckOutcome.ACKED: (1,), AckOutcome.REJECTED: (0,), AckOutcome.UNKNOWN: (0, 1)}
"""How often a message may be stored, by its outcome."""


class Heard:
    """Implements ports.Observer: the events of a bus, and its reports that are not a plain ack."""

    every_outcome = False

    def __init__(self) -> None:
        self.events: list[BusEvent] = []
        self.reports: list[DeliveryReport] = []

    def settled(self, reports: Sequence[DeliveryReport]) -> None:
        self.reports += reports

    def happened(self, event: BusEvent) -> None:
        self.events.append(event)

    def count(self, kind: str) -> int:
        """How many events of that kind there were."""
        return sum(event.kind == kind for event in self.events)

    def texts(self, kind: str) -> list[str]:
        return [event.text for event in self.events if event.kind == kind]


async def publish_each(
    bus: EventBus, topic: str, payloads: Sequence[bytes], **settings: object
) -> dict[bytes, Receipt]:
    """Publish these; the receipts by payload, which is the id that the audit goes by."""
    return {payload: await bus.publish(topic, payload, **settings) for payload in payloads}  # type: ignore[arg-type]


async def outcomes(receipts: Mapping[bytes, Receipt]) -> Counter[AckOutcome]:
    """How they ended; waits for each."""
    return Counter([(await receipt).outcome for receipt in receipts.values()])


async def audit(bootstrap: str, topic: str, receipts: Mapping[bytes, Receipt]) -> None:
    """What was acked is there once, what was rejected is absent, what is unknown is there at most once, and nothing
    else is there. What was acked is where its report says."""
    stored = await read_back(bootstrap, topic)
    there = copies(stored, lambda record: record.value)
    places = {(record.partition, record.offset): record.value for record in stored}
    wrong = []
    for payload, receipt in receipts.items():
        report = await receipt
        if there[payload] not in COPIES[report.outcome]:
            wrong.append(f"{there[payload]} copies of {payload!r}: {report}")
        position = report.position
        if position is not None and places.get((position.partition or 0, position.offset)) != payload:
            wrong.append(f"{payload!r} is not at {position}")
    assert not wrong, f"{len(wrong)} of {len(receipts)}: {wrong[:5]}"
    assert set(there) <= set(receipts), "something is stored that was never published"


async def reports_within(receipts: Sequence[Receipt], seconds: float) -> list[DeliveryReport]:
    """Their reports; fails where one is not settled in time."""
    async with asyncio.timeout(seconds):
        return [await receipt for receipt in receipts]
