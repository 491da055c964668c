"""LoadControl with worker processes of a few lines that speak the worker's protocol, and with the real one."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from dashboard.broker import KAFKA_URL, NATS_URL, BrokerState
from dashboard.control import LoadControl, LoadSettings, Phase
from dashboard.process import LoadRefused
from eventbus import ConnectFailed
from eventbus.embedded.kafka import EmbeddedKafka
from eventbus.embedded.nats import EmbeddedNats
from eventbus.observe import RunStatus, StoreReader
from eventbus.telemetry.status import ExportStatus
from tests.otlp_receiver import OtlpReceiver

SETTINGS = LoadSettings(url="nats://127.0.0.1:4222", topic="demo.events", rate=100.0)

OBEDIENT = """
import json, sys
def say(**reply): print(json.dumps(reply), flush=True)
say(event="ready")
for line in sys.stdin:
    command = json.loads(line)
    sys.stderr.write(line)
    if command["cmd"] == "start":
        open(sys.argv[-1] + ".started", "w").write(line)
        say(event="started", run_id="run-7", url=command["url"])
    elif command["cmd"] == "set":
        open(sys.argv[-1] + ".rate", "w").write(str(command["rate"]))
    elif command["cmd"] == "stop":
        say(event="ended", run_id="run-7", status="stopped", report={})
"""
REFUSING = """
import sys
print('{"event": "ready"}', flush=True)
sys.stdin.readline()
print('{"event": "error", "text": "no broker answers at nats://127.0.0.1:4222"}', flush=True)
sys.stdin.read()
"""
CRASHING = "import sys; sys.stdin.readline(); sys.exit('the disk is full')"


def telling(exports: int, failures: int = 0) -> str:
    """A line of a worker that tells of its telemetry."""
    target = ExportStatus("traces", "otlp", "http://127.0.0.1:4317", "grpc", exports, failures=failures)
    return f"print({json.dumps(json.dumps({'event': 'telemetry', 'targets': [target.to_dict()]}))}, flush=True)"


DYING = OBEDIENT.replace(
    "open(sys.argv", "import os, threading; threading.Timer(0.2, os._exit, [3]).start(); open(sys.argv"
)


class StubBroker:
    def __init__(self, url: str = "nats://127.0.0.1:39999", trouble: str | None = None) -> None:
        self.trouble = trouble
        self.running = False
        self.starts = 0
        self.url = url

    def start(self) -> None:
        if self.trouble is not None:
            raise ConnectFailed(self.trouble)
        self.running = True
        self.starts += 1

    def stop(self) -> None:
        self.running = False

    def is_running(self) -> bool:
        return self.running


def eventually(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


@pytest.fixture
def control(tmp_path: Path) -> Iterator[Callable[..., LoadControl]]:
    made: list[LoadControl] = []

    def make(
        script: str, broker: StubBroker | None = None, kafka: StubBroker | None = None, timeout_s: float = 10.0
    ) -> LoadControl:
        worker = (sys.executable, "-c", script)
        made.append(
            LoadControl(
                tmp_path / "runs.db",
                brokers={NATS_URL: lambda: broker or StubBroker(), KAFKA_URL: lambda: kafka or StubBroker()},
                worker=worker,
                start_timeout_s=timeout_s,
            )
        )
        return made[-1]

    yield make
    for one in made:
        one.close(0.0)


def state_of(control: LoadControl, url: str) -> BrokerState:
    status = control.broker_status(url)
    assert status is not None
    return status.state


def pid_of(control: LoadControl) -> int:
    assert control._worker is not None
    return control._worker._process.pid


def test_run_goes_from_start_to_stop(control: Callable[..., LoadControl], tmp_path: Path) -> None:
    """Start gives the run's id, the rate is passed on, stop ends it, and the process goes with its run."""
    load = control(OBEDIENT)
    assert load.start(SETTINGS) == "run-7"
    assert load.status().phase is Phase.RUNNING
    pid = pid_of(load)
    load.set_rate(250.0)
    eventually((tmp_path / "runs.db.rate").exists)
    load.stop()
    eventually(lambda: load.status().phase is Phase.IDLE)
    assert load.status().run_id == "run-7"
    assert load.status().error is None
    eventually(lambda: gone(pid))


def test_whoever_started_holds_the_controls_until_somebody_takes_them(control: Callable[..., LoadControl]) -> None:
    """The status says which browser it is and since when, so that all others can be shown it."""
    load = control(OBEDIENT)
    load.start(replace(SETTINGS, by="a", by_name="Firefox", more={"workers": 3}))
    status = load.status()
    assert (status.by, status.by_name, status.steerable) == ("a", "Firefox", False)
    assert status.since_wall_s == pytest.approx(time.time(), abs=30)
    load.take("b", "Chrome")
    assert (load.status().by, load.status().by_name) == ("b", "Chrome")


def test_second_start_is_refused_while_a_run_goes_on(control: Callable[..., LoadControl]) -> None:
    """One run at a time, whoever asks."""
    load = control(OBEDIENT)
    load.start(SETTINGS)
    with pytest.raises(LoadRefused, match="going on already"):
        load.start(SETTINGS)
    assert load.status().phase is Phase.RUNNING


def test_embedded_url_means_the_broker_of_the_dashboard(control: Callable[..., LoadControl], tmp_path: Path) -> None:
    """The worker is told where the dashboard's own broker listens; that broker is started if it is not there."""
    broker = StubBroker()
    load = control(OBEDIENT, broker)
    load.start(LoadSettings(url=NATS_URL, topic="demo.events", rate=1.0))
    assert broker.running
    assert broker.url in (tmp_path / "runs.db.started").read_text()
    load.close(5.0)
    assert not broker.running


def test_each_embedded_broker_is_started_when_somebody_asks_for_it(
    control: Callable[..., LoadControl], tmp_path: Path
) -> None:
    """One of each at most, kept for the next run and ended with the dashboard; the worker is told which it is."""
    nats, kafka = StubBroker(), StubBroker("kafka://127.0.0.1:39092")
    load = control(OBEDIENT, nats, kafka)
    assert state_of(load, KAFKA_URL) is BrokerState.OFF
    assert load.broker_status("kafka://127.0.0.1:9092") is None
    settings = LoadSettings(url=KAFKA_URL, topic="demo.events", rate=1.0)
    for _ in range(2):
        load.start(settings)
        load.stop()
        eventually(lambda: not load.status().active)
    assert (kafka.starts, nats.starts) == (1, 0)
    assert state_of(load, KAFKA_URL) is BrokerState.READY
    told = json.loads((tmp_path / "runs.db.started").read_text())
    assert (told["url"], told["embedded"]) == (kafka.url, "kafka")
    load.close(5.0)
    assert not kafka.running


def test_broker_that_died_is_started_again(control: Callable[..., LoadControl]) -> None:
    """Each start looks whether the broker is still there."""
    broker = StubBroker()
    load = control(OBEDIENT, broker)
    load.start_broker(NATS_URL)
    eventually(lambda: state_of(load, NATS_URL) is BrokerState.READY)
    broker.running = False
    load.start(LoadSettings(url=NATS_URL, topic="demo.events", rate=1.0))
    assert broker.running


def test_broker_that_does_not_start_is_told(control: Callable[..., LoadControl]) -> None:
    """The reason, and what to do instead, are in the status and in the refusal."""
    load = control(OBEDIENT, StubBroker(trouble="no room on disk"))
    with pytest.raises(LoadRefused, match=r"no room on disk.*URL of a running broker"):
        load.start(LoadSettings(url=NATS_URL, topic="demo.events", rate=1.0))
    assert state_of(load, NATS_URL) is BrokerState.FAILED
    assert "no room on disk" in (load.status().error or "")


@pytest.mark.parametrize(
    ("script", "words"), [(REFUSING, "no broker answers"), (CRASHING, "exit code 1.*the disk is full")]
)
def test_worker_that_cannot_begin_says_why(control: Callable[..., LoadControl], script: str, words: str) -> None:
    """What the worker said, or how it died, is what the user reads; nothing is left running."""
    load = control(script)
    with pytest.raises(LoadRefused, match=words):
        load.start(SETTINGS)
    assert not load.status().active


def test_worker_that_is_not_there_is_told(tmp_path: Path) -> None:
    """A command that cannot be run is a refusal, not an OSError."""
    load = LoadControl(tmp_path / "runs.db", brokers={}, worker=(str(tmp_path / "missing"),))
    with pytest.raises(LoadRefused, match="did not start"):
        load.start(SETTINGS)


def test_silent_worker_is_given_up_and_ended(control: Callable[..., LoadControl]) -> None:
    """A worker that says nothing is waited for only so long."""
    load = control("import sys; sys.stdin.read()", timeout_s=0.3)
    with pytest.raises(LoadRefused, match="did not begin within"):
        load.start(SETTINGS)
    assert not load.status().active


def test_worker_that_dies_in_the_run_is_told(control: Callable[..., LoadControl]) -> None:
    """A death without an end is an error in the status, and a new start is possible."""
    load = control(DYING)
    load.start(SETTINGS)
    eventually(lambda: not load.status().active)
    assert "exit code 3" in (load.status().error or "")
    with pytest.raises(LoadRefused, match="no run whose rate"):
        load.set_rate(5.0)


def test_telemetry_is_handed_out_until_the_next_worker_tells_of_its_own(control: Callable[..., LoadControl]) -> None:
    """Nothing before the first run; then the newest that its worker told, which may come after the end of the run."""
    load = control(
        OBEDIENT.replace('say(event="ready")', f'say(event="ready")\n{telling(0)}').replace(
            "    elif command", f"        {telling(3)}\n    elif command", 1
        )
        + telling(8, failures=1)
    )
    assert load.status().telemetry == ()
    load.start(SETTINGS)
    eventually(lambda: [target.exports for target in load.status().telemetry] == [3])
    assert load.status().phase is Phase.RUNNING
    load.stop()
    eventually(lambda: [(target.exports, target.failures) for target in load.status().telemetry] == [(8, 1)])
    assert load.status().phase is Phase.IDLE
    assert load.status().run_id == "run-7"
    assert load.status().error is None
    load.start(SETTINGS)
    eventually(lambda: [target.exports for target in load.status().telemetry] == [3])


def test_telemetry_of_a_worker_that_was_refused_its_broker_is_told(control: Callable[..., LoadControl]) -> None:
    """A run that never began is no reason to forget what its worker said of its telemetry."""
    load = control(REFUSING.replace("sys.stdin.readline()", f"{telling(0)}; sys.stdin.readline()"))
    with pytest.raises(LoadRefused, match="no broker answers"):
        load.start(SETTINGS)
    assert [target.endpoint for target in load.status().telemetry] == ["http://127.0.0.1:4317"]


def test_worker_stopped_by_a_wrong_variable_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real worker does not begin with it; its one line reaches the user, and no advice that would not help."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "gprc")
    load = LoadControl(tmp_path / "runs.db", brokers={})
    try:
        with pytest.raises(
            LoadRefused, match=r"OTEL_EXPORTER_OTLP_PROTOCOL is 'gprc'; use one of grpc, http/protobuf\.$"
        ):
            load.start(LoadSettings(url="memory://", topic="demo.events", rate=1.0))
    finally:
        load.close(0.0)


def test_telemetry_of_a_real_run_is_what_the_collector_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the run and its worker's last exports the control has the counts of the collector."""
    with OtlpReceiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.endpoint("grpc"))
        load = LoadControl(tmp_path / "runs.db", brokers={})
        try:
            load.start(LoadSettings(url="memory://", topic="demo.events", rate=500.0, duration_s=0.3))
            eventually(lambda: not load.status().active)
            eventually(lambda: any(target.exports for target in load.status().telemetry))
        finally:
            load.close()
        told = {target.signal: target for target in load.status().telemetry}
        assert list(told) == ["traces", "metrics", "logs"]
        for signal, requests in receiver.requests.items():
            assert (told[signal].exports, told[signal].failures) == (len(requests), 0)


def test_close_is_bounded_even_for_a_deaf_worker(
    control: Callable[..., LoadControl], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that hears neither its input nor SIGTERM gets SIGKILL; closing twice is nothing."""
    monkeypatch.setattr("dashboard.process.KILL_TIMEOUT_S", 0.2)
    load = control(
        OBEDIENT.replace(
            "import json, sys", "import json, sys, signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)"
        )
        + "\ntime.sleep(60)"
    )
    load.start(SETTINGS)
    pid = pid_of(load)
    load.close(0.2)
    assert gone(pid)
    load.close(0.2)
    with pytest.raises(LoadRefused, match="shutting down"):
        load.start(SETTINGS)


def test_kafka_mock_that_does_not_start_is_told(control: Callable[..., LoadControl]) -> None:
    """The refusal names what is missing and a URL of the same kind to give instead."""
    load = control(OBEDIENT, kafka=StubBroker(trouble="no librdkafka found"))
    with pytest.raises(LoadRefused, match=r"Kafka mock did not start: no librdkafka.*kafka://127\.0\.0\.1:9092"):
        load.start(LoadSettings(url=KAFKA_URL, topic="demo.events", rate=1.0))
    assert state_of(load, KAFKA_URL) is BrokerState.FAILED
    assert state_of(load, NATS_URL) is BrokerState.OFF


@pytest.mark.integration
@pytest.mark.parametrize("url", [NATS_URL, KAFKA_URL])
def test_real_worker_publishes_to_the_real_embedded_broker(url: str, tmp_path: Path) -> None:
    """The whole path without a page: broker, worker, store; every accepted message is acked."""
    store = tmp_path / "runs.db"
    load = LoadControl(store, brokers={NATS_URL: EmbeddedNats, KAFKA_URL: EmbeddedKafka})
    try:
        run_id = load.start(LoadSettings(url=url, topic="demo.events", rate=500.0, duration_s=1.0))
        eventually(lambda: not load.status().active, 20.0)
        assert load.status().error is None
        reader = StoreReader(store)
        # The worker tells the end as soon as it is there; its store is written a moment later.
        eventually(lambda: (found := reader.run(run_id)) is not None and found.status is RunStatus.FINISHED)
        run = reader.run(run_id)
        assert run is not None
        assert run.report is not None
        assert run.report["acked"] == run.report["accepted"] == 500
        assert f"embedded+{run.settings['embedded']}://" == url
    finally:
        load.close()
