"""A long run in the worker, as the dashboard drives one. Only when asked for: ``pytest -m soak tests/test_soak.py``.

ACKSCOPE_SOAK_S: how many seconds; an hour by default. What was seen is printed (``-s``) and written to the file that
ACKSCOPE_SOAK_JSON names.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest

from eventbus.observe import RunStatus, StoreReader
from eventbus.observe.retention import Retention

DURATION_S = float(os.environ.get("ACKSCOPE_SOAK_S", "3600"))
RATE = 2_000.0
SETTLED_SHARE = 0.1
"""Of the run, after which memory may not grow any more: caches are warm and histories full."""
FLAT = 0.10
MIB = 1024 * 1024


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()


@pytest.mark.soak
@pytest.mark.integration
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_memory_and_store_of_a_long_run(tmp_path: Path) -> None:
    """At 2,000 messages a second every one is acked, the worker's memory stays within 10 %, the store in its bound."""
    store = tmp_path / "runs.db"
    worker = subprocess.Popen(
        [sys.executable, "-m", "eventbus", "worker", "--store", str(store)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    seen: list[tuple[float, int]] = []
    try:
        assert worker.stdin is not None
        assert worker.stdout is not None
        command = {"cmd": "start", "url": "embedded+nats://", "rate": RATE, "duration_s": DURATION_S, "name": "soak"}
        worker.stdin.write(json.dumps(command) + "\n")
        worker.stdin.flush()
        started: dict[str, object] = {}
        while started.get("event") != "started":
            started = json.loads(worker.stdout.readline())
            assert started["event"] != "error", started
        begun = time.monotonic()
        interval_s = max(1.0, DURATION_S / 360)
        while (passed := time.monotonic() - begun) < DURATION_S - interval_s:
            time.sleep(interval_s)  # this is what a soak is
            assert worker.poll() is None
            seen.append((passed, resident_bytes(worker.pid)))
        ended: dict[str, object] = {}
        while ended.get("event") != "ended":
            ended = json.loads(worker.stdout.readline())
    finally:
        assert worker.stdin is not None
        worker.stdin.close()
        try:
            worker.wait(60)
        except subprocess.TimeoutExpired:
            worker.kill()
            worker.wait()
        assert worker.stdout is not None
        worker.stdout.close()
    reader = StoreReader(store)
    run = reader.run(str(started["run_id"]))
    assert run is not None
    last = reader.latest(run.run_id)
    assert last is not None
    settled = [size for at_s, size in seen if at_s >= DURATION_S * SETTLED_SHARE]
    size = store.stat().st_size
    figures = {
        "seconds": DURATION_S,
        "offered": last.offered,
        "acked": last.snapshot.acked,
        "resident_mib": {
            "begin": seen[0][1] / MIB, "settled": settled[0] / MIB, "least": min(settled) / MIB,
            "most": max(settled) / MIB, "end": settled[-1] / MIB,
        },
        "store_mib": size / MIB,
        "alerts": [f"{change.rule} {change.state}" for change in reader.alerts(run.run_id)],
        "curve_mib": [[round(at_s), round(size / MIB, 1)] for at_s, size in seen],
    }  # fmt: skip
    print(json.dumps(figures))
    if target := os.environ.get("ACKSCOPE_SOAK_JSON"):
        Path(target).write_text(json.dumps(figures), encoding="utf-8")
    assert run.status is RunStatus.FINISHED
    assert last.snapshot.acked == last.snapshot.accepted
    assert last.offered == pytest.approx(RATE * DURATION_S, rel=0.01)
    assert max(settled) <= settled[0] * (1 + FLAT)
    assert size <= (Retention().max_bytes or 0)
