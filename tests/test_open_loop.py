"""The open model against a real nats-server: rates are kept, and what a frozen broker does is not left out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path

import pytest
from click.testing import CliRunner

import eventbus
from benchmarks.__main__ import main
from benchmarks.accuracy import RATES, TOLERANCE, Settings, measure
from eventbus.clock import SystemClock
from eventbus.embedded.nats import EmbeddedNats
from eventbus.load.message import LoadMessage, Messages
from eventbus.load.plan import LoadPlan
from eventbus.load.runner import EndReason, LoadRunner
from eventbus.load.scheduled_latency import ScheduledLatency
from tests.fakes import until

pytestmark = pytest.mark.integration

FROZEN_S = 2.0


@pytest.fixture
def server() -> Iterator[EmbeddedNats]:
    with EmbeddedNats() as server:
        yield server


@pytest.mark.alone
@pytest.mark.parametrize("rate", RATES)
async def test_rate_is_kept(server: EmbeddedNats, rate: int) -> None:
    """Over 10 s each rate is achieved within 1 %, everything is acked, and jitter is told."""
    measured = await measure(server.url, Settings(rate, 10.0))
    print(f"{rate}/s: {measured.achieved:.1f} achieved, late {measured.late}, jitter {measured.jitter}")
    assert measured.complaints() == []
    assert measured.achieved == pytest.approx(rate, rel=TOLERANCE)
    assert measured.acked == measured.offered == rate * 10
    assert 0 <= measured.jitter["p50"] < 1.0
    assert 0 < measured.scheduled["p50"] < 1.0


async def test_frozen_broker_shows_in_latency_from_the_schedule(server: EmbeddedNats) -> None:
    """With the broker frozen for 2 s, the p99 from the scheduled time shows the outage; the p99 of those few messages
    that were under way does not."""
    plan = LoadPlan(topic="frozen.events", rate=1000, duration_s=6.0, max_pending=20)
    latency = ScheduledLatency(plan.max_pending)
    window = eventbus.WindowConfig(max_pending=plan.max_pending)
    async with eventbus.connect(server.url, window=window, witness=latency) as bus:
        await (await bus.publish(plan.topic, b"the stream is made by now"))
        before = bus.snapshot().latency
        runner = LoadRunner(
            bus, plan, Messages(repeat(LoadMessage(plan.topic, b"x" * 100))), clock=SystemClock(), latency=latency
        )
        running = asyncio.create_task(runner.run())
        await until(lambda: runner.sending_s >= 1.0)
        runner.schedule_lag_s()
        await asyncio.to_thread(server.pause)
        frozen = time.monotonic()
        await until(lambda: time.monotonic() - frozen >= FROZEN_S)
        in_outage_s = runner.schedule_lag_s()
        behind = runner.offered - runner.accepted
        await asyncio.to_thread(server.resume)
        assert await asyncio.wait_for(running, 20) is EndReason.PLAN
        await bus.flush(10)
        snapshot, scheduled = bus.snapshot(), latency.histogram()
    sent = snapshot.latency.since(before)
    assert (runner.accepted, runner.offered, snapshot.acked) == (6000, 6000, 6001)
    assert (scheduled.total, sent.total, snapshot.retries) == (6000, 6000, 0)
    p99_s, sent_p99_s = scheduled.percentile_s(99), sent.percentile_s(99)
    assert p99_s is not None
    assert sent_p99_s is not None
    assert p99_s > 0.9 * FROZEN_S
    assert sent_p99_s < 0.25 * FROZEN_S
    assert sent.max_s is not None
    assert sent.max_s > 0.9 * FROZEN_S  # it was there, in as many messages as the window holds
    assert in_outage_s > 0.9 * FROZEN_S
    assert behind > 0.9 * FROZEN_S * 1000


async def test_workers_wait_for_their_acks(server: EmbeddedNats) -> None:
    """In the closed model no more than the workers' number is ever pending, and all is acked."""
    plan = LoadPlan(topic="closed.events", workers=7, count=2000)
    most = 0
    async with eventbus.connect(server.url) as bus:
        runner = LoadRunner(bus, plan, Messages(repeat(LoadMessage(plan.topic, b"x"))), clock=SystemClock())
        running = asyncio.create_task(runner.run())
        while not running.done():
            most = max(most, bus.snapshot().pending)
            await asyncio.sleep(0)
        assert running.result() is EndReason.PLAN
        snapshot = bus.snapshot()
    assert (runner.accepted, runner.offered, snapshot.acked, snapshot.pending) == (2000, 2000, 2000, 0)
    assert 1 <= most <= 7


@pytest.mark.alone
def test_accuracy_on_the_command_line(tmp_path: Path) -> None:
    """The command prints a table with jitter, writes the figures, and ends with 0 where the rates were kept."""
    path = tmp_path / "accuracy.json"
    result = CliRunner().invoke(main, ["accuracy", "--seconds", "2", "--rates", "500", "--json", str(path)])
    assert result.exit_code == 0, result.output
    assert "jitter" in result.output
    assert '"achieved": ' in path.read_text()
    refused = CliRunner().invoke(main, ["accuracy", "--rates", "fast"])
    assert (refused.exit_code, "give numbers" in refused.output) == (2, True)
