"""What an SDK collects from the buses: names, attributes and sums, once for each provider, also from another thread."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from eventbus.latency import LatencyHistogram
from eventbus.telemetry import names, source
from eventbus.telemetry.instruments import observe_buses
from eventbus.telemetry.points import explicit_point
from tests.telemetry_fakes import ACKED, UNKNOWN, FakeBus
from tests.telemetry_sdk import Sdk, WitnessedBench, assert_same_totals, once, roomy


@pytest.fixture
def sdk(monkeypatch: pytest.MonkeyPatch) -> Sdk:
    return Sdk().install(monkeypatch)


@pytest.fixture
def _frequent_switches() -> Iterator[None]:
    """Threads take turns all the time, so that whatever can meet does."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def test_names_and_attributes(sdk: Sdk) -> None:
    """All points are of the metrics of names.py, in their units, with no attribute but those listed there."""
    with WitnessedBench(retry=once()) as bench:
        bench.ack(bench.accepted())
        bench.fail(bench.accepted())
        listed = {metric.name: metric for metric in names.METRICS}
        data = sdk.reader.get_metrics_data()
        assert data is not None
        found = [
            metric
            for resource in data.resource_metrics
            for scope in resource.scope_metrics
            if scope.scope.name == names.SCOPE
            for metric in scope.metrics
        ]
        assert {metric.name for metric in found} == listed.keys() - {names.OPERATION_DURATION.name, names.EXPORTS.name}
        for metric in found:
            assert metric.unit == listed[metric.name].unit
            for point in metric.data.data_points:
                assert set(point.attributes or {}) <= set(listed[metric.name].attributes)
        bench.close()


def test_two_buses_of_one_server(sdk: Sdk) -> None:
    """Their sums are one point; of a gauge the larger value counts."""
    observe_buses()
    for _ in range(2):
        bus = FakeBus()
        bus.add(ACKED, [1000, 2000])
        source.register(bus)
    (point,) = sdk.points(names.SENT_MESSAGES)
    assert point.value == 4
    (duration,) = sdk.points(names.DURATION_SUM)
    assert duration.value == pytest.approx(6e-6)


def test_two_servers(sdk: Sdk) -> None:
    """They are told apart."""
    observe_buses()
    for port in (1, 2):
        bus = FakeBus(port)
        bus.add(UNKNOWN, [1000] * port)
        source.register(bus)
    assert {p.attributes["server.port"]: p.value for p in sdk.points(names.SENT_MESSAGES)} == {1: 1, 2: 2}


def test_cumulative_and_delta_of_a_bus_that_is_closed(sdk: Sdk) -> None:
    """Cumulative totals never shrink, and deltas add up to them, across the end of one bus and the begin of another."""
    collected = 0
    for number in range(1, 4):
        with WitnessedBench(retry=once()) as bench:
            bench.ack(*[bench.accepted() for _ in range(5)])
            collected += sum(sdk.counts(sdk.delta).values())
            bench.fail(*[bench.accepted() for _ in range(7)])
            bench.close()
            collected += sum(sdk.counts(sdk.delta).values())
            assert sdk.counts() == {"acked": 5 * number, "rejected": 7 * number}
    assert collected == 36


def test_buckets_are_those_of_the_histogram(sdk: Sdk) -> None:
    """Bound by bound the counters say what the histogram of our own set-up says, and both count every message."""
    observe_buses()
    values = [1, 99_000, 100_000, 101_000, 250_000, 4_000_000, 5_000_000, 2_000_000_000, 20_000_000_000]
    bus = FakeBus()
    bus.add(ACKED, values)
    source.register(bus)
    found = {point.attributes[names.LE]: point.value for point in sdk.points(names.DURATION_BUCKET)}
    histogram = explicit_point({}, LatencyHistogram.of(values), names.DURATION_BOUNDS_S, 0, 0)
    below, expected = 0, {}
    for bound, count in zip(
        (*(f"{s:g}" for s in names.DURATION_BOUNDS_S), "+Inf"), histogram.bucket_counts, strict=True
    ):
        below += count
        expected[bound] = below
    assert found == expected
    assert found["+Inf"] == len(values)


def test_second_bus(sdk: Sdk, caplog: pytest.LogCaptureFixture) -> None:
    """The instruments are made once for a provider: no warning, no double count."""
    for _ in range(2):
        observe_buses()
    bus = FakeBus()
    bus.add(ACKED, [1])
    source.register(bus)
    assert sdk.counts() == {"acked": 1}
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


AFTERWARDS = """
from opentelemetry import metrics
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from eventbus.telemetry import names, source
from eventbus.telemetry.instruments import observe_buses
from tests.telemetry_fakes import ACKED, FakeBus
observe_buses()
bus = FakeBus()
bus.add(ACKED, [1])
source.register(bus)
reader = InMemoryMetricReader()
metrics.set_meter_provider(MeterProvider([reader]))
observe_buses()
data = reader.get_metrics_data()
found = [metric for r in data.resource_metrics for s in r.scope_metrics for metric in s.metrics]
assert [p.value for metric in found if metric.name == names.SENT_MESSAGES.name for p in metric.data.data_points] == [1]
"""


def test_sdk_that_is_set_up_after_the_first_bus(root: Path) -> None:
    """The API's stand-in hands its instruments on to the SDK, so a later bus does not make them again."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", AFTERWARDS],
        cwd=root,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.usefixtures("_frequent_switches")
def test_collection_in_another_thread(sdk: Sdk, caplog: pytest.LogCaptureFixture) -> None:
    """While the loop goes on at full speed: no error in any instrument, no total that shrinks, and exact at the end."""
    stop = threading.Event()
    seen: list[int] = []

    def collect() -> None:
        while not stop.is_set():
            seen.append(sum(sdk.counts().values()))

    with WitnessedBench(window=roomy(), retry=once()) as bench:
        thread = threading.Thread(target=collect)
        thread.start()
        try:
            for _ in range(150):
                pending = [bench.accepted() for _ in range(40)]
                bench.ack(*pending[:30], duplicates=[p.token for p in pending[:3]])
                bench.fail(*pending[30:])
        finally:
            stop.set()
            thread.join(20)
        bench.close()
        assert_same_totals(sdk, bench.snapshot())
    assert len(seen) > 1
    assert seen == sorted(seen)
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
