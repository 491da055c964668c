"""What arrives at a collector is what happened: the numbers of the ledger, of metrics and of spans are the same."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any
from weakref import WeakSet

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from opentelemetry import metrics, trace

import eventbus
from eventbus import AckOutcome, BusSnapshot, ErrorClass, ErrorKind, EventBus, Receipt, RetryPolicy
from eventbus.ack.pending import PendingAck
from eventbus.config import TelemetryConfig
from eventbus.ports import AckBatch, Failure
from eventbus.publishers.memory import MemoryPublisher
from eventbus.telemetry import instruments, names, source
from eventbus.telemetry.setup import Telemetry, setup
from tests.fakes import until
from tests.otlp_receiver import OtlpReceiver

ACK_TIMEOUT_S = 0.01
RETRY = RetryPolicy(max_attempts=2, base_delay_s=0.001, max_delay_s=0.002)

BURSTS = st.tuples(st.sampled_from(["ack", "duplicate", "deny", "refuse", "mute"]), st.integers(1, 250))
STEPS = st.one_of(BURSTS, BURSTS, BURSTS, st.tuples(st.sampled_from(["late", "export"]), st.integers(1, 100)))


@contextlib.contextmanager
def exporting(receiver: OtlpReceiver, protocol: str, temporality: str) -> Iterator[Telemetry]:
    """The application's set-up, by its variables, with its providers in the place of the process's."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("OTEL_")]:
            patch.delenv(name)
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint(protocol))
        patch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", protocol)
        patch.setenv("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", temporality)
        patch.setenv("OTEL_LOGS_EXPORTER", "none")
        patch.setattr(instruments, "_observed", WeakSet())
        patch.setattr(source, "_live", {})
        patch.setattr(source, "_retired", {})
        telemetry = setup(install=False)
        providers = telemetry.providers
        assert providers is not None
        assert providers.tracers is not None
        patch.setattr(trace, "get_tracer_provider", lambda: providers.tracers)
        patch.setattr(trace, "get_tracer", providers.tracers.get_tracer)
        patch.setattr(metrics, "get_meter_provider", lambda: providers.meters)
        try:
            yield telemetry
        finally:
            assert telemetry.shutdown()


async def publish(bus: EventBus, how: str, number: int, serial: int) -> list[Receipt]:
    """A burst, for which the broker does ``how``."""
    broker = bus._publisher
    assert isinstance(broker, MemoryPublisher)
    classes = {"deny": ErrorClass.FATAL, "refuse": ErrorClass.TRANSIENT}
    broker.drop_acks = how == "mute"
    broker.refuse_with = Failure(classes[how], ErrorKind.OVERLOADED, "no") if how in classes else None
    receipts = []
    for index in range(number):
        own_id = f"{serial}.{index // 2}" if how == "duplicate" else None
        receipts.append(await bus.publish(f"shop.{index % 3}", b"x", message_id=own_id, ack_timeout_s=ACK_TIMEOUT_S))
    await asyncio.sleep(0)  # the broker answers this burst in its own way
    return receipts


async def live(steps: Sequence[tuple[str, int]], config: TelemetryConfig, telemetry: Telemetry) -> BusSnapshot:
    """A bus to its end; what it says of itself. Exports go on beside it, in threads."""
    exports: list[asyncio.Future[bool]] = []
    async with eventbus.connect("memory://", retry=RETRY, telemetry=config) as bus:
        receipts: list[Receipt] = []
        for serial, (how, number) in enumerate(steps):
            if how == "export":
                if exports and not exports[-1].done():
                    continue  # two at once may arrive in either order
                exports.append(asyncio.ensure_future(asyncio.to_thread(telemetry.flush)))
            elif how == "late":
                tokens = await unknown(receipts, number)
                bus._handler.replied([AckBatch("SHOP", tokens, [1] * len(tokens), tokens[::2])])
            else:
                receipts += await publish(bus, how, number, serial)
        await bus.flush(20)
        for done in await asyncio.gather(*exports):
            assert done
        if exports:
            assert await asyncio.to_thread(telemetry.flush)  # one more while it is there, beside that of its end
    return bus.snapshot()


async def unknown(receipts: list[Receipt], number: int) -> list[int]:
    """The tokens of up to so many that are unknown, once everything so far has its outcome."""
    await until(lambda: all(receipt.report is not None for receipt in receipts))
    found = [receipt for receipt in receipts if (await receipt).outcome is AckOutcome.UNKNOWN]
    return [receipt.token for receipt in found[:number] if isinstance(receipt, PendingAck)]


def by_outcome(receiver: OtlpReceiver, metric: str, temporality: str) -> Counter[str]:
    """Of each outcome the sum that arrived: of all deltas, or the last of each cumulative series, none of which ever
    went down."""
    series: Counter[tuple[tuple[str, str], ...]] = Counter()
    for point in receiver.points(metric):
        key = tuple(sorted((a.key, str(a.value)) for a in point.attributes))
        value = point.count if hasattr(point, "bucket_counts") else point.as_int
        if hasattr(point, "bucket_counts"):
            assert sum(point.bucket_counts) == point.count
        if temporality == "delta":
            series[key] += value
        else:
            assert value >= series[key]
            series[key] = value
    totals: Counter[str] = Counter()
    for key, value in series.items():
        totals[dict(key)[names.ACK_OUTCOME].split('"')[1]] += value
    return totals


def by_spans(receiver: OtlpReceiver) -> Counter[str]:
    """Of each outcome that is a failure, how many messages the spans that arrived stand for."""
    totals: Counter[str] = Counter()
    for span in receiver.spans():
        values: dict[str, Any] = {a.key: a.value for a in span.attributes}
        outcome = values[names.ACK_OUTCOME].string_value
        if outcome in names.FAILED:
            count = values.get(names.MESSAGING_BATCH_MESSAGE_COUNT)
            totals[outcome] += 1 if count is None else count.int_value
    return totals


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("temporality", ["cumulative", "delta"])
@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=20)
@given(
    steps=st.lists(STEPS, min_size=2, max_size=14),
    rate=st.sampled_from([0, 5, 1000]),
    ratio=st.sampled_from([0.0, 0.1]),
)
def test_any_outcomes(protocol: str, temporality: str, steps: list[tuple[str, int]], rate: int, ratio: float) -> None:
    """Whatever becomes of messages, and whenever it is exported: by the counter, by the durations' count and by spans
    of failures, as they arrive at a collector, it is exactly what the snapshot says."""
    config = TelemetryConfig(success_span_ratio=ratio, failure_spans_per_s=rate)
    with OtlpReceiver() as receiver:
        with exporting(receiver, protocol, temporality) as telemetry:
            snapshot = asyncio.run(live(steps, config, telemetry))
        assert [status.dropped + status.failures for status in telemetry.status()] == [0, 0]
        sent = by_outcome(receiver, names.SENT_MESSAGES.name, temporality)
        assert sent == by_outcome(receiver, names.OPERATION_DURATION.name, temporality)
        assert +Counter({word: sent[word] for word in names.FAILED}) == by_spans(receiver)
        late = snapshot.late_acks
        assert sent.total() == snapshot.accepted
        assert sent["unknown"] == snapshot.unknown + late
        assert sent["rejected"] == snapshot.rejected
        assert sent["acked"] + sent["duplicate"] == snapshot.acked - late
        assert late or sent["duplicate"] == snapshot.duplicates  # of which some can be late
