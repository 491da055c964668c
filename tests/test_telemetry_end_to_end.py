"""From a real broker to a real collector and a real Prometheus: all tell the numbers of the run's table, and the alert
on failures fires while they happen."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from nats.js.api import DiscardPolicy, StreamConfig

from eventbus.embedded.nats import EmbeddedNats
from eventbus.observe import StoreReader
from eventbus.snapshot import BusSnapshot
from eventbus.telemetry import names
from tests.nats_tools import add_stream
from tests.prometheus_server import JOB, Prometheus, prometheus
from tests.rotel_agent import Rotel, rotel
from tests.telemetry_fakes import free_port

pytestmark = pytest.mark.integration

WAIT_S = 30.0
"""Longest wait for a reply of the worker: a run of messages that nobody acks takes 4 s."""
RESOLVED_S = 75.0
"""The rule looks back over 30 s."""
ALERT = "EventbusFailureRatio"
SERVICE = "ackscope"
"""service.name where no variable says another."""
USERS = """
authorization { users = [
    { user: admin, password: admin }
    { user: worker, password: worker, permissions: { publish: { deny: ["denied.>"] } } }
] }
"""
BY_BUS = (names.RETRIES, names.ACK_TIMEOUTS, names.LATE_ACKS, names.UNACKNOWLEDGED, names.IN_FLIGHT)
"""Metrics that a bus has one point of."""
TOTALS = ("accepted", "acked", "duplicates", "late_acks", "rejected", "unknown", "unacknowledged")
"""What a BusSnapshot and a CloseReport have in common."""

Outcomes = dict[tuple[str, ...], float]
"""Messages by topic and outcome; a duplicate is an ack."""


# ---- what a run came to, as each of them tells it ---------------------------------------------------------------


def outcomes_of(topic: str, snapshot: BusSnapshot) -> Outcomes:
    """As metrics count them: what was unknown stays so, a late ack being counted apart."""
    found = {
        (topic, "acked"): float(snapshot.acked - snapshot.late_acks),
        (topic, "rejected"): float(snapshot.rejected),
        (topic, "unknown"): float(snapshot.unknown + snapshot.late_acks),
    }
    assert sum(found.values()) == snapshot.accepted
    return {key: count for key, count in found.items() if count}


def by_bus_of(*snapshots: BusSnapshot) -> dict[str, float]:
    """The sum over all runs of what is told of a bus as a whole, and failed attempts by error type."""
    found: dict[str, float] = {metric.name: 0.0 for metric in BY_BUS}
    for snapshot in snapshots:
        assert snapshot.pending == 0
        found[names.RETRIES.name] += snapshot.retries
        found[names.ACK_TIMEOUTS.name] += snapshot.ack_timeouts
        found[names.LATE_ACKS.name] += snapshot.late_acks
        found[names.UNACKNOWLEDGED.name] += snapshot.unacknowledged
        for kind, count in snapshot.errors.items():
            found[kind] = found.get(kind, 0.0) + count
    return found


def by_collector(agent: Rotel, metric: names.Metric) -> Outcomes:
    """Of an agent that has ended."""
    return _acks_together(
        ((point[names.MESSAGING_DESTINATION_NAME], point[names.ACK_OUTCOME]), count)
        for point, count in agent.points(SERVICE, metric.name)
    )


def bus_by_collector(agent: Rotel) -> dict[str, float]:
    found = {metric.name: sum(count for _, count in agent.points(SERVICE, metric.name)) for metric in BY_BUS}
    for point, count in agent.points(SERVICE, names.FAILED_ATTEMPTS.name):
        found[point[names.ERROR_TYPE]] = found.get(point[names.ERROR_TYPE], 0.0) + count
    return found


def failures_by_spans(agent: Rotel) -> Outcomes:
    """How many failed messages the spans of an agent that has ended stand for."""
    return _acks_together(
        (
            (span[names.MESSAGING_DESTINATION_NAME], span[names.ACK_OUTCOME]),
            float(span.get(names.MESSAGING_BATCH_MESSAGE_COUNT, 1)),
        )
        for span in agent.spans(SERVICE)
        if span[names.ACK_OUTCOME] in names.FAILED
    )


def by_prometheus(server: Prometheus, metric: names.Metric) -> Outcomes:
    labels = (names.MESSAGING_DESTINATION_NAME, names.ACK_OUTCOME)
    values = server.values(metric.prometheus_names[-1], *map(names.prometheus_label, labels))
    return _acks_together(values.items())


def bus_by_prometheus(server: Prometheus) -> dict[str, float]:
    found = {metric.name: sum(server.values(metric.prometheus_names[0]).values()) for metric in BY_BUS}
    failed = server.values(names.FAILED_ATTEMPTS.prometheus_names[0], names.prometheus_label(names.ERROR_TYPE))
    return found | {kind: count for (kind,), count in failed.items()}


def _acks_together(counts: Iterable[tuple[tuple[str, ...], float]]) -> Outcomes:
    found: Outcomes = {}
    for (topic, outcome), count in counts:
        key = (topic, "acked" if outcome == "duplicate" else outcome)
        found[key] = found.get(key, 0.0) + count
    return found


def failures(outcomes: Outcomes) -> Outcomes:
    return {key: count for key, count in outcomes.items() if key[1] in names.FAILED}


def assert_collected(agent: Rotel, expected: Outcomes, by_bus: Mapping[str, float]) -> None:
    """What an agent that has ended received: counters, histogram and spans."""
    assert by_collector(agent, names.SENT_MESSAGES) == expected
    assert by_collector(agent, names.OPERATION_DURATION) == expected
    assert bus_by_collector(agent) == by_bus
    assert failures_by_spans(agent) == failures(expected)


# ---- the programs -----------------------------------------------------------------------------------------------


class Worker:
    """``python -m eventbus worker``, whose input ends with this process. port: of its /metrics."""

    def __init__(self, process: asyncio.subprocess.Process, store: Path, port: int) -> None:
        self._process = process
        self.store = StoreReader(store)
        self.port = port

    async def expect(self, event: str) -> Mapping[str, Any]:
        """The next reply, but for those that come whenever they like: how exports and alerts go."""
        assert self._process.stdout is not None
        while True:
            line = await asyncio.wait_for(self._process.stdout.readline(), WAIT_S)
            reply: Mapping[str, Any] = json.loads(line or '{"event": "nothing"}')
            if reply["event"] not in ("telemetry", "alerts"):
                assert reply["event"] == event, reply
                return reply

    async def start(self, **plan: Any) -> str:
        """Start a run; its id."""
        await self.send(cmd="start", **plan)
        return str((await self.expect("started"))["run_id"])

    async def send(self, **command: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(command).encode() + b"\n")
        await self._process.stdin.drain()

    async def quit(self) -> None:
        """End in good order: all is exported, all is in the store."""
        await self.send(cmd="quit")
        assert await asyncio.wait_for(self._process.wait(), WAIT_S) == 0

    def table(self, run_id: str) -> BusSnapshot:
        """The last figures of a run in the store; after ``quit``."""
        last = self.store.latest(run_id)
        assert last is not None
        return last.snapshot


@contextlib.asynccontextmanager
async def worker(folder: Path, agent: Rotel | None = None, protocol: str = "grpc") -> AsyncIterator[Worker]:
    """A worker that serves /metrics, and exports to ``agent`` where there is one."""
    port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "eventbus", "worker", "--store", str(folder / "runs.db")),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(
            **({} if agent is None else otlp(agent, protocol)),
            METRICS_EXPORTER="prometheus" if agent is None else "otlp,prometheus",
            EXPORTER_PROMETHEUS_HOST="127.0.0.1",
            EXPORTER_PROMETHEUS_PORT=str(port),
        ),
    )
    try:
        running = Worker(process, folder / "runs.db", port)
        await running.expect("ready")
        yield running
    finally:
        if process.returncode is None:  # of a test that failed
            process.kill()
        await process.communicate()


def environment(**variables: str) -> dict[str, str]:
    """This process's, with nothing about telemetry but these."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    return kept | {f"OTEL_{name}": value for name, value in variables.items()}


def otlp(agent: Rotel, protocol: str) -> dict[str, str]:
    return {
        "EXPORTER_OTLP_ENDPOINT": agent.endpoint(protocol),
        "EXPORTER_OTLP_PROTOCOL": protocol,
        "LOGS_EXPORTER": "none",
        "METRIC_EXPORT_INTERVAL": "500",  # so that many exports tell of the same messages
    }


@pytest.fixture
def server() -> Iterator[EmbeddedNats]:
    with EmbeddedNats(extra_config=USERS) as running:
        yield running


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Rotel]:
    with rotel(tmp_path) as running:
        yield running


def url_of(server: EmbeddedNats, user: str) -> str:
    return server.url.replace("://", f"://{user}:{user}@")


# ---- the same totals --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
async def test_totals_of_a_worker(
    tmp_path: Path, root: Path, server: EmbeddedNats, agent: Rotel, protocol: str
) -> None:
    """Runs that are acked, refused and never answered: collector, Prometheus, store and replies tell the same of each.

    By metrics and, where messages failed, by spans.
    """
    for stream, no_ack in (("orders", False), ("denied", False), ("silent", True)):
        config = StreamConfig(name=stream, subjects=[f"{stream}.>"], no_ack=no_ack)
        await add_stream(url_of(server, "admin"), config)
    plans: tuple[dict[str, Any], ...] = (
        {"topic": "orders.created", "count": 3000},
        {"topic": "denied.created", "count": 1000},
        {"topic": "silent.created", "count": 300, "ack_timeout_s": 0.05},
    )
    reports: dict[str, Mapping[str, Any]] = {}
    async with worker(tmp_path, agent, protocol) as running:
        with prometheus(tmp_path, root / "deploy", running.port) as scraping:
            for plan in plans:
                run_id = await running.start(url=url_of(server, "worker"), **plan)
                reports[run_id] = (await running.expect("ended"))["report"]
            scraping.wait_for_scrape(time.time())
            scraped = by_prometheus(scraping, names.SENT_MESSAGES)
            scraped_counts = by_prometheus(scraping, names.OPERATION_DURATION)
            scraped_bus = bus_by_prometheus(scraping)
        await running.quit()
    agent.end()
    tables = [running.table(run_id) for run_id in reports]
    expected: Outcomes = {}
    for plan, table, report in zip(plans, tables, reports.values(), strict=True):
        expected |= outcomes_of(plan["topic"], table)
        assert [report[name] for name in TOTALS] == [getattr(table, name) for name in TOTALS]
    assert expected == {
        ("orders.created", "acked"): 3000,
        ("denied.created", "rejected"): 1000,
        ("silent.created", "unknown"): 300,
    }
    assert scraped == expected
    assert scraped_counts == expected
    assert scraped_bus == by_bus_of(*tables)
    assert_collected(agent, expected, by_bus_of(*tables))
    assert len(agent.spans(SERVICE)) < 1300  # most of what was refused at once is told together


async def test_totals_of_a_load(tmp_path: Path, server: EmbeddedNats, agent: Rotel) -> None:
    """One run into a stream that becomes full: the printed table, its JSON and the collector tell the same."""
    config = StreamConfig(name="orders", subjects=["orders.>"], max_msgs=2000, discard=DiscardPolicy.NEW)
    await add_stream(url_of(server, "admin"), config)
    result = tmp_path / "result.json"
    done = await asyncio.to_thread(
        subprocess.run,
        [
            *(sys.executable, "-m", "eventbus", "load", "--url", url_of(server, "worker"), "--topic", "orders.created"),
            *("--count", "2100", "--rate", "max", "--json", str(result)),
        ],
        env=environment(**otlp(agent, "http/protobuf")),
        capture_output=True,
        text=True,
        timeout=2 * WAIT_S,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    agent.end()
    snapshot = BusSnapshot.from_dict(json.loads(result.read_text(encoding="utf-8")))
    table = {
        name: int(figure.replace(",", "")) for name, figure in re.findall(r"^ *(\w+) +([\d,]+)", done.stdout, re.M)
    }
    assert [table[name] for name in ("accepted", "acked", "rejected", "unknown", "retries")] == [
        *(snapshot.accepted, snapshot.acked, snapshot.rejected, snapshot.unknown, snapshot.retries)
    ]
    assert (snapshot.accepted, snapshot.acked) == (2100, 2000)
    assert_collected(agent, outcomes_of("orders.created", snapshot), by_bus_of(snapshot))


# ---- the alert --------------------------------------------------------------------------------------------------


async def test_alert_on_failures(tmp_path: Path, root: Path) -> None:
    """The rule of deploy/ fires while the broker stands still and messages end unknown, and is resolved when they are
    30 s past; Prometheus tells late acks and failures as the store does."""
    plan = {"topic": "orders.created", "rate": 100, "ack_timeout_s": 0.2}
    async with worker(tmp_path) as running:
        with EmbeddedNats() as server, prometheus(tmp_path, root / "deploy", running.port) as scraping:
            run_id = await running.start(url=server.url, **plan)
            scraping.wait(lambda: settled(scraping, "acked") >= 50, "acks")
            assert ALERT not in scraping.firing()
            server.pause()
            try:
                scraping.wait(lambda: ALERT in scraping.firing(), "the alert", WAIT_S)
                alert = scraping.firing()[ALERT]
                # so many that what is acked afterwards, 3,000 in 30 s, does not bring the ratio down to 1 % before
                scraping.wait(lambda: settled(scraping, "unknown") >= 100, "unknown messages", WAIT_S)
            finally:
                server.resume()
            assert (alert["job"], alert["instance"]) == (JOB, f"127.0.0.1:{running.port}")
            scraping.wait(lambda: ALERT not in scraping.firing(), "the end of the alert", RESOLVED_S)
            await running.send(cmd="stop")
            await running.expect("ended")
            scraping.wait_for_scrape(time.time())
            assert ALERT not in scraping.firing()
            scraped, scraped_bus = by_prometheus(scraping, names.SENT_MESSAGES), bus_by_prometheus(scraping)
        await running.quit()
    table = running.table(run_id)
    assert scraped == outcomes_of("orders.created", table)
    assert scraped_bus == by_bus_of(table)


def settled(scraping: Prometheus, outcome: str) -> float:
    return by_prometheus(scraping, names.SENT_MESSAGES).get(("orders.created", outcome), 0.0)
