"""The set-up for applications: the OTEL_* variables, real collectors, the status, and collectors that do not answer."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.request import urlopen

import pytest
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from eventbus.errors import ConfigError
from eventbus.telemetry import environment
from eventbus.telemetry.environment import OtlpProtocol, Signal, Target
from eventbus.telemetry.setup import Telemetry, setup
from eventbus.telemetry.status import ExportLog, ExportStatus
from tests.otlp_receiver import OtlpReceiver
from tests.rotel_agent import Rotel, rotel
from tests.telemetry_fakes import ACKED, UNKNOWN, FakeBus, free_port, hanging_collector

DURATION = "messaging.client.operation.duration"
MS = 1_000_000
BOUND_S = 0.8
"""What a shutdown may take beyond its timeout: 0.5 s for exports to notice, and the machine."""


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def started() -> Iterator[Callable[..., Telemetry]]:
    """setup, for providers that are not the process's; ended after the test."""
    running: list[Telemetry] = []

    def start(**settings: object) -> Telemetry:
        bus = FakeBus()
        bus.add(ACKED, [MS] * 40)
        bus.add(UNKNOWN, [5000 * MS, 5001 * MS])
        running.append(setup(install=False, **{"sources": lambda: [bus], **settings}))  # type: ignore[arg-type]
        return running[-1]

    yield start
    for telemetry in running:
        telemetry.shutdown(0.2)


@pytest.fixture(scope="module")
def agent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rotel]:
    with rotel(tmp_path_factory.mktemp("rotel")) as running:
        yield running


def ask(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(f"OTEL_{name}", value)


def make_spans(telemetry: Telemetry, count: int) -> None:
    assert telemetry.providers is not None
    assert telemetry.providers.tracers is not None
    tracer = telemetry.providers.tracers.get_tracer("test")
    for number in range(count):
        tracer.start_span(f"publish {number}").end()


# ---- what the variables ask for ---------------------------------------------------------------------------------


@pytest.mark.parametrize("variables", [{}, {"SDK_DISABLED": "true", "EXPORTER_OTLP_ENDPOINT": "http://localhost:1"}])
def test_nothing_asked_for(
    monkeypatch: pytest.MonkeyPatch, started: Callable[..., Telemetry], variables: dict[str, str]
) -> None:
    """Where no variable asks for an export, or the SDK is disabled, nothing is started."""
    ask(monkeypatch, **variables)
    before = threading.active_count()
    telemetry = started()
    assert telemetry.targets == ()
    assert telemetry.status() == ()
    assert telemetry.providers is None
    assert threading.active_count() == before
    assert telemetry.flush()
    assert telemetry.shutdown()


TRACES, METRICS, LOGS = Signal.TRACES, Signal.METRICS, Signal.LOGS
GRPC, HTTP = OtlpProtocol.GRPC, OtlpProtocol.HTTP


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (
            {"EXPORTER_OTLP_ENDPOINT": "http://collector:4317"},
            [Target(signal, "otlp", "http://collector:4317", GRPC) for signal in Signal],
        ),
        (
            {"EXPORTER_OTLP_ENDPOINT": "http://c:4318/", "EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            [Target(signal, "otlp", f"http://c:4318/v1/{signal}", HTTP) for signal in Signal],
        ),
        (
            {"TRACES_EXPORTER": "otlp", "EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf"},
            [Target(TRACES, "otlp", "http://localhost:4318/v1/traces", HTTP)],
        ),
        (
            {"METRICS_EXPORTER": "otlp, prometheus,console", "EXPORTER_OTLP_METRICS_ENDPOINT": "http://m:1"},
            [
                Target(METRICS, "otlp", "http://m:1", GRPC),
                Target(METRICS, "prometheus", "http://localhost:9464/metrics"),
                Target(METRICS, "console"),
            ],
        ),
        (
            {
                "EXPORTER_OTLP_ENDPOINT": "https://me:secret@c:4317?key=1",
                "LOGS_EXPORTER": "none",
                "METRICS_EXPORTER": "none",
            },
            [Target(TRACES, "otlp", "https://c:4317", GRPC)],
        ),
        (
            {"EXPORTER_OTLP_METRICS_ENDPOINT": "http://m:1/own", "EXPORTER_OTLP_METRICS_PROTOCOL": "http/protobuf"},
            [Target(METRICS, "otlp", "http://m:1/own", HTTP)],
        ),
        (
            {"METRICS_EXPORTER": "prometheus", "EXPORTER_PROMETHEUS_HOST": "::1", "EXPORTER_PROMETHEUS_PORT": "1"},
            [Target(METRICS, "prometheus", "http://[::1]:1/metrics")],
        ),
        (
            {"TRACES_EXPORTER": "otlp", "EXPORTER_OTLP_COMPRESSION": "gzip", "EXPORTER_OTLP_ENDPOINT": ""},
            [Target(TRACES, "otlp", "http://localhost:4317", GRPC, "gzip")],
        ),
    ],
)
def test_targets(monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], expected: list[Target]) -> None:
    """The variables that the SDK's constructors ignore are honoured; a signal's own variable wins; no credentials."""
    ask(monkeypatch, **variables)
    assert list(environment.targets()) == expected


@pytest.mark.parametrize(
    ("variable", "given", "allowed"),
    [
        ("TRACES_EXPORTER", "zipkin", "otlp, console, none"),
        ("TRACES_EXPORTER", "prometheus", "otlp, console, none"),
        ("METRICS_EXPORTER", "otlp,none", "none alone"),
        ("METRICS_EXPORTER", ",", "otlp, prometheus, console, none"),
        ("SDK_DISABLED", "yes", "true, false"),
        ("EXPORTER_OTLP_PROTOCOL", "http/json", "grpc, http/protobuf"),
        ("EXPORTER_OTLP_TRACES_PROTOCOL", "http", "grpc, http/protobuf"),
        ("EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "deltas", "cumulative, delta, lowmemory"),
        ("EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION", "exponential", "base2_exponential_bucket_histogram"),
        ("EXPORTER_OTLP_ENDPOINT", "http://collector:port", "http://localhost:4317"),
        ("EXPORTER_OTLP_TRACES_ENDPOINT", "unix:///collector", "http://localhost:4317"),
        ("EXPORTER_OTLP_TIMEOUT", "ten", "up to 3600"),
        ("EXPORTER_OTLP_TRACES_TIMEOUT", "10000", "seconds, which the Python SDK takes it for"),
        ("EXPORTER_OTLP_COMPRESSION", "deflate", "gzip, none"),
        ("EXPORTER_OTLP_CERTIFICATE", "/no/such.pem", "a file that exists"),
        ("METRIC_EXPORT_INTERVAL", "-1", "a number above 0"),
        ("BSP_MAX_QUEUE_SIZE", "0", "1 or more"),
        ("BSP_MAX_EXPORT_BATCH_SIZE", "4096", "at most the queue's 2048"),
        ("TRACES_SAMPLER", "sometimes", "traceidratio"),
    ],
)
def test_wrong_value(monkeypatch: pytest.MonkeyPatch, variable: str, given: str, allowed: str) -> None:
    """A wrong value is refused before anything starts: which variable, what was given, what is allowed."""
    ask(monkeypatch, EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:4317")
    ask(monkeypatch, **{variable: given})
    with pytest.raises(ConfigError) as refused:
        setup(install=False)
    text = str(refused.value)
    assert text.startswith(f"OTEL_{variable} is {given!r}; use ")
    assert allowed in text


@pytest.mark.parametrize("variable", ["PROTOCOL", "LOGS_PROTOCOL", "COMPRESSION"])
def test_wrong_value_that_nothing_uses_yet(monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    """How OTLP is spoken is checked also where nothing goes out by OTLP: it would be wrong once something does."""
    ask(monkeypatch, METRICS_EXPORTER="console", **{f"EXPORTER_OTLP_{variable}": "htpp"})
    with pytest.raises(ConfigError, match=f"OTEL_EXPORTER_OTLP_{variable} is 'htpp'; use one of g"):
        environment.check()


@pytest.mark.parametrize(("variable", "given"), [("PORT", "http"), ("PORT", "65536")])
def test_wrong_prometheus_port(monkeypatch: pytest.MonkeyPatch, variable: str, given: str) -> None:
    """The endpoint's variables are refused in the same words."""
    ask(monkeypatch, METRICS_EXPORTER="prometheus", **{f"EXPORTER_PROMETHEUS_{variable}": given})
    with pytest.raises(ConfigError, match=f"OTEL_EXPORTER_PROMETHEUS_{variable} is '{given}'; use a port"):
        setup(install=False)


def test_ratio_out_of_range(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sampler's ratio lies between 0 and 1."""
    ask(monkeypatch, TRACES_EXPORTER="console", TRACES_SAMPLER="traceidratio", TRACES_SAMPLER_ARG="2")
    with pytest.raises(ConfigError, match="OTEL_TRACES_SAMPLER_ARG is '2'; use a ratio from 0 to 1"):
        setup(install=False)


@pytest.mark.parametrize(
    ("missing", "variables"),
    [
        ("opentelemetry.sdk.trace", {"TRACES_EXPORTER": "console"}),
        ("opentelemetry.exporter.otlp.proto.grpc.trace_exporter", {"TRACES_EXPORTER": "otlp"}),
        ("opentelemetry.exporter.prometheus", {"METRICS_EXPORTER": "prometheus"}),
    ],
)
def test_package_that_is_missing(missing: str, variables: dict[str, str]) -> None:
    """Where a package of the extra is not installed, the error says how to get it."""
    program = (
        f"import sys; sys.modules[{missing!r}] = None\n"
        "from eventbus.errors import ConfigError\n"
        "from eventbus.telemetry.setup import setup\n"
        "try: setup()\n"
        "except ConfigError as error: print(error)\n"
    )
    done = run_program(program, **variables)
    assert 'is needed; pip install "ackscope[otel]"' in done.stdout


# ---- what arrives -----------------------------------------------------------------------------------------------


@pytest.mark.integration
@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_real_collector(
    monkeypatch: pytest.MonkeyPatch, started: Callable[..., Telemetry], agent: Rotel, protocol: str
) -> None:
    """A real collector takes spans and durations over both protocols; the status tells that they arrived."""
    service = f"by-{protocol.partition('/')[0]}"
    ask(monkeypatch, EXPORTER_OTLP_ENDPOINT=agent.endpoint(protocol), EXPORTER_OTLP_PROTOCOL=protocol)
    ask(monkeypatch, SERVICE_NAME=service, LOGS_EXPORTER="none")
    telemetry = started()
    make_spans(telemetry, 3)
    assert telemetry.shutdown()
    text = agent.wait(lambda text: text.count(f"service.name: Str({service})") >= 2)
    received = text[text.index(f"service.name: Str({service})") :]
    assert [f"publish {number}" in received for number in range(3)] == [True] * 3
    assert f"Name: {DURATION}" in received
    assert {"Count: 40", "Count: 2", "Sum: 0.04", "Sum: 10.001"} <= set(received.splitlines())
    assert [(s.signal, s.exports, s.failures, s.failing) for s in telemetry.status()] == [
        ("traces", 1, 0, False),
        ("metrics", 1, 0, False),
    ]


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("temporality", ["cumulative", "delta", "lowmemory"])
@pytest.mark.parametrize("aggregation", ["explicit_bucket_histogram", "base2_exponential_bucket_histogram"])
def test_exact_numbers(
    monkeypatch: pytest.MonkeyPatch,
    started: Callable[..., Telemetry],
    protocol: str,
    temporality: str,
    aggregation: str,
) -> None:
    """What a collector receives adds up to what was counted, in the temporality and aggregation that were asked for."""
    bus = FakeBus()
    with OtlpReceiver() as receiver:
        ask(monkeypatch, EXPORTER_OTLP_ENDPOINT=receiver.endpoint(protocol), EXPORTER_OTLP_PROTOCOL=protocol)
        ask(monkeypatch, EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE=temporality, EXPORTER_OTLP_COMPRESSION="gzip")
        ask(monkeypatch, EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION=aggregation, METRICS_EXPORTER="otlp")
        telemetry = started(sources=lambda: [bus])
        make_spans(telemetry, 2)
        for _ in range(3):
            bus.add(ACKED, [MS] * 10)
            assert telemetry.flush()
        assert telemetry.shutdown()
        points = list(receiver.points(DURATION))
        counts = [point.count for point in points]
        assert counts == ([10, 20, 30, 30] if temporality == "cumulative" else [10, 10, 10])
        if aggregation.startswith("base2"):
            assert [sum(point.positive.bucket_counts) for point in points] == counts
        else:
            assert [point.bucket_counts[4] for point in points] == counts
        assert [span.name for span in receiver.spans()] == ["publish 0", "publish 1"]


def test_log_records_arrive_with_their_trace(
    monkeypatch: pytest.MonkeyPatch, started: Callable[..., Telemetry]
) -> None:
    """AckScope's log records are exported with their extra fields and the trace that was current."""
    with OtlpReceiver() as receiver:
        ask(monkeypatch, EXPORTER_OTLP_ENDPOINT=receiver.endpoint("grpc"))
        telemetry = started()
        assert telemetry.providers is not None
        assert telemetry.providers.tracers is not None
        tracer = telemetry.providers.tracers.get_tracer("test")
        with tracer.start_as_current_span("publish orders") as span:
            logging.getLogger("eventbus.test").warning("%d refused", 7, extra={"destination": "orders"})
        logging.getLogger("elsewhere").warning("not ours")
        assert telemetry.shutdown()
        (record,) = (
            record
            for request in receiver.requests["logs"]
            for resource in request.resource_logs
            for scope in resource.scope_logs
            for record in scope.log_records
        )
        assert record.body.string_value == "7 refused"
        assert {a.key: a.value.string_value for a in record.attributes}["destination"] == "orders"
        assert int.from_bytes(record.trace_id) == span.get_span_context().trace_id
    assert not logging.getLogger("eventbus").handlers


@pytest.mark.parametrize(
    ("variables", "expected"),
    [({}, "ackscope"), ({"SERVICE_NAME": "mine"}, "mine"), ({"RESOURCE_ATTRIBUTES": "service.name=theirs"}, "theirs")],
)
def test_service_name(
    monkeypatch: pytest.MonkeyPatch, started: Callable[..., Telemetry], variables: dict[str, str], expected: str
) -> None:
    """The variables' service name wins over the one in the call."""
    with OtlpReceiver() as receiver:
        ask(monkeypatch, EXPORTER_OTLP_TRACES_ENDPOINT=receiver.endpoint("grpc"), **variables)
        telemetry = started()
        make_spans(telemetry, 1)
        telemetry.shutdown()
        (request,) = receiver.requests["traces"]
        attributes = {a.key: a.value.string_value for a in request.resource_spans[0].resource.attributes}
        assert attributes["service.name"] == expected
        assert attributes["service.instance.id"]


def test_console(started: Callable[..., Telemetry], capsys: pytest.CaptureFixture[str]) -> None:
    """console=True prints spans and metrics to the standard error, and leaves the standard output to the program."""
    telemetry = started(console=True)
    assert [(t.signal, t.exporter) for t in telemetry.targets] == [("traces", "console"), ("metrics", "console")]
    make_spans(telemetry, 1)
    assert telemetry.shutdown()
    printed = capsys.readouterr()
    assert printed.out == ""
    assert '"publish 0"' in printed.err
    assert DURATION in printed.err


# ---- Prometheus -------------------------------------------------------------------------------------------------


def scrape(port: int) -> dict[str, float]:
    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines if not line.startswith("#")}


def test_prometheus_endpoint(monkeypatch: pytest.MonkeyPatch, started: Callable[..., Telemetry]) -> None:
    """A scrape has exact counts and sums; scrapes at once all get the same; the end frees the port."""
    port = free_port()
    ask(monkeypatch, METRICS_EXPORTER="prometheus", EXPORTER_PROMETHEUS_PORT=str(port))
    telemetry = started()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: scrape(port), range(16)))
    for answer in answers:
        found = {
            name: value for name, value in answer.items() if name.startswith("messaging_client_operation_duration")
        }
        by_outcome = {
            (part, outcome): value
            for name, value in found.items()
            for part in ("count", "sum")
            for outcome in ("acked", "unknown")
            if f"seconds_{part}{{" in name and f'eventbus_ack_outcome="{outcome}"' in name
        }
        assert by_outcome == {
            ("count", "acked"): 40,
            ("sum", "acked"): 0.04,
            ("count", "unknown"): 2,
            ("sum", "unknown"): 10.001,
        }
        assert sum(value for name, value in found.items() if 'le="+Inf"' in name) == 42
    (status,) = telemetry.status()
    assert (status.exporter, status.endpoint, status.exports) == ("prometheus", f"http://localhost:{port}/metrics", 16)
    assert telemetry.shutdown()
    with pytest.raises(OSError, match="refused"):
        scrape(port)


def test_two_readers(monkeypatch: pytest.MonkeyPatch, started: Callable[..., Telemetry]) -> None:
    """OTLP in deltas and Prometheus beside each other: each has its own, and a flush leaves no traces in a scrape."""
    port = free_port()
    with OtlpReceiver() as receiver:
        ask(monkeypatch, METRICS_EXPORTER="otlp,prometheus", EXPORTER_PROMETHEUS_PORT=str(port), SDK_DISABLED="false")
        ask(monkeypatch, EXPORTER_OTLP_METRICS_ENDPOINT=receiver.endpoint("grpc"))
        ask(monkeypatch, EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE="delta")
        bus = FakeBus()
        telemetry = started(sources=lambda: [bus])
        for total in (5, 10):
            bus.add(ACKED, [MS] * 5)
            assert telemetry.flush()
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                lines = answer.read().decode().splitlines()
            assert len(lines) == len(set(lines))
            (count,) = (line for line in lines if line.startswith("messaging_client_operation_duration_seconds_count"))
            assert count.endswith(f" {total}.0")
        assert telemetry.shutdown()
        assert [point.count for point in receiver.points(DURATION)] == [5, 5]


def test_port_of_the_other_protocol(
    monkeypatch: pytest.MonkeyPatch, started: Callable[..., Telemetry], caplog: pytest.LogCaptureFixture
) -> None:
    """The usual port of HTTP with gRPC (or the reverse) is a likely mistake: allowed, with a warning."""
    ask(monkeypatch, EXPORTER_OTLP_TRACES_ENDPOINT="http://127.0.0.1:4318")
    started()
    assert caplog.messages == [
        "traces go to http://127.0.0.1:4318: port 4318 is usually that of http/protobuf, and "
        "OTEL_EXPORTER_OTLP_PROTOCOL is grpc"
    ]


def test_prometheus_port_that_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A port that another program has is an error that names the variable, and nothing stays behind."""
    with hanging_collector() as port:
        ask(monkeypatch, METRICS_EXPORTER="prometheus", EXPORTER_PROMETHEUS_PORT=str(port))
        ask(monkeypatch, EXPORTER_PROMETHEUS_HOST="127.0.0.1")
        with pytest.raises(ConfigError, match=f"OTEL_EXPORTER_PROMETHEUS_PORT is {port}.*in use"):
            setup(install=False)


def test_prometheus_ports_of_several_processes(
    monkeypatch: pytest.MonkeyPatch, started: Callable[..., Telemetry]
) -> None:
    """Where a program has several processes, each serves at the first free port; the status says which it is."""
    with hanging_collector() as port:
        ask(monkeypatch, METRICS_EXPORTER="prometheus", EXPORTER_PROMETHEUS_PORT=str(port))
        ask(monkeypatch, EXPORTER_PROMETHEUS_HOST="127.0.0.1")
        both = [started(prometheus_ports=50) for _ in range(2)]
        ports = [int(telemetry.targets[0].endpoint.rpartition(":")[2].partition("/")[0]) for telemetry in both]
        assert port < ports[0] < ports[1] < port + 50
        assert [telemetry.status()[0].endpoint for telemetry in both] == [
            f"http://127.0.0.1:{had}/metrics" for had in ports
        ]
        assert all(scrape(had) for had in ports)


def test_prometheus_address_of_another_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What no other port could mend is not tried at other ports."""
    ask(monkeypatch, METRICS_EXPORTER="prometheus", EXPORTER_PROMETHEUS_HOST="192.0.2.1")
    with pytest.raises(ConfigError, match=r"OTEL_EXPORTER_PROMETHEUS_HOST is '192\.0\.2\.1'"):
        setup(install=False, prometheus_ports=50)


def test_prometheus_for_everybody(
    monkeypatch: pytest.MonkeyPatch, started: Callable[..., Telemetry], caplog: pytest.LogCaptureFixture
) -> None:
    """Metrics that others can read are served where that was asked for, with a warning; by default only here."""
    ask(monkeypatch, METRICS_EXPORTER="prometheus", EXPORTER_PROMETHEUS_PORT="0")
    started().shutdown()
    assert caplog.messages == []
    monkeypatch.setattr(
        "eventbus.telemetry.prometheus.start_http_server", lambda port, addr, registry: (_Server(), None)
    )
    ask(monkeypatch, EXPORTER_PROMETHEUS_HOST="0.0.0.0")
    started()
    assert "metrics are served on 0.0.0.0:9 to everybody" in caplog.text


class _Server:
    server_port = 9


# ---- collectors that do not answer ------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
@pytest.mark.parametrize("kind", ["dead", "hanging"])
def test_collector_that_does_not_answer(
    monkeypatch: pytest.MonkeyPatch, started: Callable[..., Telemetry], protocol: str, kind: str
) -> None:
    """Spans are made at full speed, what the queue drops is counted, and shutdown keeps its deadline."""
    with hanging_collector() as hanging:
        port = free_port() if kind == "dead" else hanging
        ask(monkeypatch, EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}", EXPORTER_OTLP_PROTOCOL=protocol)
        ask(monkeypatch, BSP_SCHEDULE_DELAY="10", METRIC_EXPORT_INTERVAL="10", LOGS_EXPORTER="none")
        ask(monkeypatch, EXPORTER_OTLP_TIMEOUT="3")
        telemetry = started()
        begun = time.monotonic()
        make_spans(telemetry, 6000)
        assert time.monotonic() - begun < 3
        begun = time.monotonic()
        assert not telemetry.flush(0.2)
        assert time.monotonic() - begun < 0.2 + BOUND_S
        begun = time.monotonic()
        assert not telemetry.shutdown(0.5)
        assert time.monotonic() - begun < 0.5 + BOUND_S
        traces, _ = telemetry.status()
        assert traces.exports == 0
        assert traces.last_success_s is None
        assert traces.dropped >= 6000 - 2048 - 512 * (traces.failures + 1)
        assert telemetry.shutdown() is False
        assert time.monotonic() - begun < 0.5 + 2 * BOUND_S


@pytest.mark.parametrize("protocol", ["grpc", "http/protobuf"])
def test_reason_of_a_failure(
    monkeypatch: pytest.MonkeyPatch, started: Callable[..., Telemetry], caplog: pytest.LogCaptureFixture, protocol: str
) -> None:
    """A failure is told with its reason and logged once; when the collector is back, that is told as well."""
    port = free_port()
    ask(monkeypatch, EXPORTER_OTLP_TRACES_ENDPOINT=f"http://127.0.0.1:{port}/v1/traces")
    ask(monkeypatch, EXPORTER_OTLP_TIMEOUT="0.5" if protocol == "grpc" else "1.5")  # over HTTP, a retry tells why
    ask(monkeypatch, EXPORTER_OTLP_PROTOCOL=protocol, BSP_SCHEDULE_DELAY="60000")
    telemetry = started()
    for _ in range(2):
        make_spans(telemetry, 3)
        telemetry.flush()
    (status,) = telemetry.status()
    assert (status.failures, status.lost, status.exports, status.dropped) == (2, 6, 0, 0)
    assert status.failing
    assert "refused" in (status.last_reason or "").lower()
    messages = (record.getMessage() for record in caplog.records if record.name == "eventbus.telemetry")
    ours = [message for message in messages if str(port) in message]
    assert len(ours) == 1
    assert ours[0].startswith(f"traces do not reach http://127.0.0.1:{port}/v1/traces: ")


def test_process_exit_with_a_hanging_collector() -> None:
    """A program that sets telemetry up and just ends is kept at most 5 s and a little by a collector that hangs."""
    program = (
        "from opentelemetry import trace\n"
        "from eventbus.telemetry.setup import setup\n"
        "setup()\n"
        "tracer = trace.get_tracer('test')\n"
        "for n in range(3000): tracer.start_span('publish').end()\n"
        "print('made', flush=True)\n"
    )
    with hanging_collector() as port:
        begun = time.monotonic()
        done = run_program(program, EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}", LOGS_EXPORTER="none")
        took_s = time.monotonic() - begun
    assert done.stdout == "made\n"
    assert done.returncode == 0
    assert "gave up sending" in done.stderr
    assert took_s < 9


def test_providers_of_the_process() -> None:
    """setup() installs what was asked for as the process's providers; a second one leaves the first as it is."""
    program = (
        "import json\n"
        "from opentelemetry import metrics, trace\n"
        "from eventbus.telemetry.setup import setup\n"
        "first = setup(); second = setup()\n"
        "trace.get_tracer('test').start_span('publish orders').end()\n"
        "assert metrics.get_meter_provider().eventbus_histogram\n"
        "assert first.shutdown() and second.targets == ()\n"
        "print(json.dumps([status.to_dict() for status in first.status()]))\n"
    )
    with OtlpReceiver() as receiver:
        done = run_program(program, EXPORTER_OTLP_ENDPOINT=receiver.endpoint("grpc"), SDK_DISABLED="false")
        assert "set up in this process already" in done.stderr
        assert [span.name for span in receiver.spans()] == ["publish orders"]
    found = [ExportStatus.from_dict({**data, "newer": 1}) for data in json.loads(done.stdout)]
    assert [(s.signal, s.protocol, s.failures, s.failing) for s in found] == [
        ("traces", "grpc", 0, False),
        ("metrics", "grpc", 0, False),
        ("logs", "grpc", 0, False),
    ]


def run_program(program: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **{f"OTEL_{name}": value for name, value in variables.items()}},
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=30,
    )


# ---- status -----------------------------------------------------------------------------------------------------


def test_status_hides_credentials() -> None:
    """Neither an endpoint nor a reason shows a user or a password; a reason is cut."""
    assert (
        environment.without_credentials("https://me:secret@host:1/v1/traces?token=secret#x")
        == "https://host:1/v1/traces"
    )
    assert environment.without_credentials("me:secret@host:1") == "host:1"
    assert environment.without_credentials("http://host:1/a@b") == "http://host:1/a@b"
    log = ExportLog(Target(TRACES, "otlp", "http://host:1", GRPC), lambda: 7.0)
    log.failed(3, "cannot reach https://me:secret@host:1 nor me:secret@host:1 " + "x" * 400)
    status = log.status()
    assert "secret" not in (status.last_reason or "")
    assert len(status.last_reason or "") == 300
    assert (status.failures, status.lost, status.last_failure_s, status.failing) == (1, 3, 7.0, True)


def test_sdk_has_the_queue_that_drops_are_counted_by() -> None:
    """The private queue of the SDK's processor, whose length tells what waits."""

    class Silent(SpanExporter):
        pass

    processor = BatchSpanProcessor(Silent(), max_queue_size=7, max_export_batch_size=7)
    assert processor._batch_processor._queue.maxlen == 7
    processor.shutdown()
