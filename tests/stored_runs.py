"""A store with a run that went well and one whose broker was gone for a while, for tests of what looks at runs."""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

from eventbus.errors import ErrorClass, ErrorKind
from eventbus.event import BusEvent, EventKind
from eventbus.latency import LatencyCounter
from eventbus.observe import AlertChange, FailedMessage, RunEditor, RunStatus, Sample, StoreWriter
from eventbus.report import AckOutcome, DeliveryReport
from eventbus.snapshot import BusSnapshot, ConnectionState

START_S = 1_700_000_000.0
EVIL = "<img src=x onerror=alert(1)></script><script>alert(2)</script>&amp;\u2028"


@dataclass(frozen=True)
class Stored:
    """Where the runs are, and their ids. good: a baseline with a name. bad: with everything that can go wrong."""

    path: Path
    good: str
    bad: str
    empty_store: Path
    empty_store_run: str


def course(
    seconds: int = 40, *, rate: int = 200, outage: bool = False, warm_up_s: float = 0.0, start_s: float = START_S
) -> list[Sample]:
    """Four samples a second; with an outage nothing is acked from the 10th second to the 13th."""
    chance, ack, scheduled = random.Random(seconds), LatencyCounter(), LatencyCounter()
    offered = acked = backlog = unknown = late = retries = 0
    samples = []
    for number in range(seconds * 4):
        at_s, new = number * 0.25, rate // 4
        down = outage and 10 <= at_s < 13
        offered += new
        backlog += new
        latencies: list[int] = []
        if down and at_s >= 12:
            unknown, backlog = unknown + 5, backlog - 5
        if not down:
            slow = backlog - new
            retries += slow
            latencies = [round(chance.lognormvariate(14, 0.4)) for _ in range(new)]
            latencies += [round(chance.uniform(1e9, 3e9)) for _ in range(slow)]
            acked, backlog = acked + backlog, 0
            if unknown and not late:
                late, unknown, acked = 2, unknown - 2, acked + 2
                latencies += [6_000_000_000] * 2
        ack.add(latencies)
        scheduled.add([latency + 50_000 for latency in latencies])
        snapshot = BusSnapshot(
            "bus",
            at_s,
            start_s + at_s,
            ConnectionState.RECONNECTING if down else ConnectionState.CONNECTED,
            accepted=offered,
            acked=acked,
            unknown=unknown,
            late_acks=late,
            retries=retries,
            pending=backlog,
            max_pending=10_000,
            oldest_pending_age_s=at_s - 9.9 if down else 0.002,
            ack_timeouts=unknown + late,
            errors={"timeout": unknown + late} if unknown else {},
            latency=ack.histogram(),
        )
        lag_s = chance.random() / 1000
        samples.append(
            Sample(
                start_s + at_s, at_s, offered, float(rate), snapshot, lag_s, lag_s / 2, scheduled.histogram(),
                at_s < warm_up_s,
            )
        )  # fmt: skip
    return samples


def keep(path: Path) -> Stored:
    """Write the store at ``path``, and another with a run of which nothing is known beside it."""
    writer = StoreWriter(path)
    good = _keep_good(writer)
    bad = _keep_bad(writer)
    assert writer.close(30)
    assert (writer.error, writer.dropped) == (None, 0)
    RunEditor(path).pin(good)
    RunEditor(path).note(bad, f"two\nlines {EVIL}")
    empty_store = path.with_name("empty.db")
    other = StoreWriter(empty_store)
    run_id = other.begin_run(url="memory://", topic="t", settings={}, started_wall_s=START_S, pid=1)
    other.end_run(run_id, status=RunStatus.FAILED, ended_wall_s=START_S, error="no broker")
    assert other.close(30)
    return Stored(path, good, bad, empty_store, run_id)


def _keep_good(writer: StoreWriter) -> str:
    run_id = _begin(writer, START_S, "before the upgrade")
    for sample in course(warm_up_s=5.0):
        writer.sample(run_id, sample)
    _end(writer, run_id, START_S, passed=True)
    return run_id


def _keep_bad(writer: StoreWriter) -> str:
    start_s = START_S + 100
    run_id = _begin(writer, start_s, "")
    for sample in course(outage=True, warm_up_s=5.0, start_s=start_s):
        writer.sample(run_id, sample)
    kinds = ((0.1, EventKind.CONNECTED), (10.0, EventKind.DISCONNECTED), (13.0, EventKind.CONNECTED))
    for at_s, kind in kinds:
        writer.event(run_id, BusEvent(start_s + at_s, kind, f"event {EVIL}"))
    reports = [
        DeliveryReport(
            f"id-{number}", "orders.created", AckOutcome.UNKNOWN, attempts=3, error_class=ErrorClass.AMBIGUOUS,
            error_kind=ErrorKind.TIMEOUT, error_text=f"no reply {EVIL}",
        )
        for number in range(20)
    ]  # fmt: skip
    reports.append(DeliveryReport("=cmd|calc", "orders.created", AckOutcome.REJECTED, error_text="=cmd|calc"))
    writer.count_failed(run_id, reports, start_s + 12)
    writer.failed(run_id, [FailedMessage.of(report, start_s + 12) for report in reports])
    for at_s, firing, state in ((11.0, True, "firing"), (14.0, False, "resolved")):
        value = 0.0 if firing else float("nan")
        writer.alert(
            run_id,
            AlertChange(start_s + at_s, "broker_disconnected", firing, value, 1.0, f"gone {EVIL}", state, "pending",
                        "critical", labels={"team": "a"}),
        )  # fmt: skip
    _end(writer, run_id, start_s, passed=False)
    return run_id


def _begin(writer: StoreWriter, start_s: float, name: str) -> str:
    return writer.begin_run(
        url="nats://127.0.0.1:4222",
        topic="orders.created",
        name=name,
        settings={"rate": 200.0, "ack_timeout_s": 5.0, "replay": None, "template": EVIL},
        environment={"python": "3.13", "packages": {"ackscope": "0.2.0"}},
        started_wall_s=start_s,
        pid=1,
    )


def _end(writer: StoreWriter, run_id: str, start_s: float, *, passed: bool) -> None:
    rows = [
        {"text": "p99(ack_latency) < 250ms", "passed": passed, "value": 0.003 if passed else 2.5, "threshold": 0.25},
        {"text": f"max(pending) < 5000 {EVIL}", "passed": None, "value": None, "threshold": 5000.0},
    ]
    writer.end_run(
        run_id,
        status=RunStatus.FINISHED,
        ended_wall_s=start_s + 40,
        report={"accepted": 8000},
        verdict={"passed": passed, "rows": rows},
    )
