"""The Telemetry page: what it says of where telemetry goes, and the lines that it gives to copy."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Collection, Mapping
from types import SimpleNamespace
from typing import Any

import pytest

from dashboard import telemetry
from dashboard.control import LoadStatus, Phase
from dashboard.telemetry import Delivery, Variables
from eventbus.telemetry import environment
from eventbus.telemetry.environment import OtlpProtocol, Signal
from eventbus.telemetry.status import ExportStatus
from tests.dashboard_fakes import StubControl

pytest.importorskip("streamlit", reason="the dashboard's tests need: pip install -r requirements-dev.txt")

from streamlit.testing.v1 import AppTest

GRPC, HTTP = OtlpProtocol.GRPC, OtlpProtocol.HTTP
REFUSED = "Failed to export metrics to 127.0.0.1:1, error code: StatusCode.UNAVAILABLE: Connection refused"


@pytest.fixture(autouse=True)
def no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        monkeypatch.delenv(name)


def app(control):  # its source is copied: no name of this file is known there
    from dashboard.views import telemetry

    telemetry.page(control)


def shown(status: LoadStatus | None = None) -> AppTest:
    at = AppTest.from_function(app, args=(StubControl(status),), default_timeout=30).run()
    assert not at.exception
    return at


def text_of(at: AppTest) -> str:
    return " ".join(one.value for one in at.markdown).replace("\\", "")


def metrics(at: AppTest, label: str) -> list[tuple[str, str]]:
    return [(one.value, one.delta) for one in at.metric if one.label == label]


def target(signal: str = "traces", **changes: Any) -> ExportStatus:
    values: dict[str, Any] = {"exporter": "otlp", "endpoint": "http://127.0.0.1:4317", "protocol": "grpc"}
    return ExportStatus(signal, **values | changes)


def running(*targets: ExportStatus) -> LoadStatus:
    return LoadStatus(Phase.RUNNING, "run-1", 1000.0, telemetry=targets)


# ---- whether it arrives -----------------------------------------------------------------------------------------


def test_without_any_variable_the_page_says_what_to_do() -> None:
    """Off is the normal first sight: it is said in words, what to do stands there, and the lines below it."""
    at = shown()
    assert at.info[0].proto.title == "Telemetry is off"
    assert "copy the lines into a terminal" in at.info[0].value
    assert ":material/do_not_disturb_on: off" in text_of(at)
    assert not at.metric
    assert not at.error
    assert at.code[0].value.endswith("\nstreamlit run dashboard")


def test_disabled_sdk_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """OTEL_SDK_DISABLED wins over everything else that is set, and the page says that it does."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4317")
    assert "OTEL_SDK_DISABLED" in shown().info[0].value


def test_before_the_first_run_the_page_shows_where_telemetry_would_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the variables that the worker will inherit: each signal, without credentials, and what is off."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:secret@127.0.0.1:4317")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "otlp,prometheus")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "5000")
    monkeypatch.setenv("OTEL_LOGS_EXPORTER", "none")
    at = shown()
    said = text_of(at)
    assert "`http://127.0.0.1:4317`" in said
    assert "`http://localhost:9464/metrics`" in said
    assert "secret" not in said
    assert "begins with the next run" in said
    assert said.count("nothing sent yet") == 4  # the whole, and three places
    assert "Sent every 5 s" in said
    assert "`OTEL_LOGS_EXPORTER=otlp` sends them" in said
    assert not at.info
    assert not at.error


def test_telemetry_that_arrives_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """While a run goes on: colour, icon and word, exports and what they held, and when the last one was."""
    now = time.time()
    monkeypatch.setattr("dashboard.views.settings_delivery.time", SimpleNamespace(time=lambda: now))
    at = shown(
        running(
            target("traces", exports=25, items=12_300, last_success_s=now - 4.5),
            target("metrics", exporter="prometheus", endpoint="http://localhost:9464/metrics", protocol=None),
            target("logs", exports=1, items=1, last_success_s=now - 130, failures=2, lost=7, last_failure_s=now - 300),
        )
    )
    said = text_of(at)
    assert said.count(":green-badge[:material/check_circle: arriving]") == 3  # the whole, and two signals
    assert ":gray-badge[:material/hourglass_top: nothing sent yet]" in said
    assert "run going on" in said
    assert metrics(at, "Exports") == [("25", "12,300 spans"), ("1", "1 record")]
    assert metrics(at, "Scrapes") == [("0", "0 points")]
    assert [value.replace("\N{NARROW NO-BREAK SPACE}", " ") for value, _ in metrics(at, "Last export")] == [
        "4 s ago",
        "2 min ago",
    ]
    assert metrics(at, "Last export")[0][1].startswith("at ")
    assert metrics(at, "Failures") == [("0", "nothing lost"), ("0", "nothing lost"), ("2", "7 lost")]
    assert "0 dropped." in said
    assert not at.error


def test_telemetry_that_fails_says_why() -> None:
    """One target that fails makes the whole failing: what it means, what was lost and dropped, the exporter's words."""
    at = shown(
        running(
            target("metrics", failures=3, lost=48, last_failure_s=time.time(), last_reason=REFUSED),
            target("traces", exports=1, items=5, last_success_s=time.time(), dropped=1_234),
        )
    )
    said = text_of(at)
    assert said.count(":red-badge[:material/error: failing]") == 2
    assert at.error[0].value.startswith("Nobody listens there.")
    assert metrics(at, "Failures") == [("0", "nothing lost"), ("3", "48 lost")]
    assert "1,234 spans dropped: the queue was full" in said
    assert any("UNAVAILABLE" in one.help.replace("\\", "") for one in at.markdown if one.help)


def test_words_of_an_exporter_are_shown_as_they_are() -> None:
    """An unknown reason is cut, not interpreted, and its characters do not format the page."""
    reason = "*odd* " * 40
    at = shown(running(target(failures=1, lost=1, last_failure_s=time.time(), last_reason=reason)))
    assert at.error[0].value.startswith("\\*odd\\*")
    assert at.error[0].value.endswith("…")


def test_after_the_run_the_page_keeps_what_became_of_its_telemetry() -> None:
    """Told in the past, since nothing is sent any more."""
    now = time.time()
    told = (
        target("traces", exports=2, items=9, last_success_s=now),
        target("metrics", failures=1, lost=9, last_failure_s=now, last_reason=REFUSED),
        target("logs"),
    )
    said = text_of(shown(LoadStatus(Phase.IDLE, "run-1", 1000.0, telemetry=told)))
    assert "last run" in said
    for word in (": arrived]", ": failed]", ": nothing sent]"):
        assert word in said


def test_wrong_variable_is_told_without_a_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its name, what was given, what is allowed and what to do; the lines to copy are there to make it right."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://me:secret@127.0.0.1:4317")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_PROTOCOL", "gprc")
    at = shown()
    said = at.error[0].value.replace("\\", "")
    assert "OTEL_EXPORTER_OTLP_PROTOCOL is 'gprc'; use one of grpc, http/protobuf" in said
    assert "start the dashboard again" in said
    assert "misconfigured" in text_of(at)
    assert "secret" not in said + text_of(at)
    assert at.code


def test_doubtful_port_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """gRPC to the port of HTTP is possible and most likely a mistake."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:4318")
    at = shown()
    assert len(at.warning) == 3
    assert "port 4318 is usually that of http/protobuf" in at.warning[0].value.replace("\\", "")


def test_missing_packages_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Telemetry is an extra: where it is asked for and not installed, the page says so before a run fails."""
    assert not telemetry.packages_missing()
    monkeypatch.setattr(telemetry, "_PACKAGES", ("no_such_package.exporter",))
    at = shown()
    assert not at.error
    assert at.code[0].value.startswith('pip install -e ".[otel]"\nexport ')
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "otlp")
    assert 'pip install -e ".[otel]"' in shown().error[0].value


# ---- the variables ----------------------------------------------------------------------------------------------


def assignments(lines: Collection[str]) -> Mapping[str, str]:
    """What a shell makes of the lines."""
    words = [shlex.split(line) for line in lines]
    assert all(len(line) == 2 and line[0] == "export" for line in words)
    return dict(line[1].split("=", 1) for line in words)


@pytest.mark.parametrize("signals", [(), ("traces",), ("metrics", "logs"), tuple(Signal)])
@pytest.mark.parametrize("protocol", list(OtlpProtocol))
@pytest.mark.parametrize("port", [None, 9470])
def test_lines_ask_for_what_was_chosen(
    signals: tuple[str, ...], protocol: OtlpProtocol, port: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Set in a process, the lines make telemetry go exactly there, whatever was set before."""
    chosen = Variables([Signal(one) for one in signals], "https://collector:4400/a b", protocol, port)
    if not signals and port is None:
        assert chosen.problem
        return
    assert chosen.problem is None
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", "console")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://before:1")
    for name, value in assignments(chosen.lines()).items():
        monkeypatch.setenv(name, value)
    found = environment.targets()
    assert {one.signal for one in found if one.exporter == "otlp"} == set(signals)
    assert all(
        one.protocol is protocol and one.endpoint.startswith("https://collector:4400/a b")
        for one in found
        if one.exporter == "otlp"
    )
    served = [one.endpoint for one in found if one.exporter == "prometheus"]
    assert served == ([] if port is None else [f"http://localhost:{port}/metrics"])


@pytest.mark.parametrize("endpoint", ["", "collector", "collector:4317", "ftp://collector", "http://", "http://a:port"])
def test_endpoint_that_is_no_url_gives_no_lines(endpoint: str) -> None:
    """What could not work is not given to copy; without a signal for it the endpoint does not matter."""
    assert "http://localhost:4318" in (Variables([Signal.LOGS], endpoint, HTTP).problem or "")
    assert Variables([], endpoint, HTTP, 9464).problem is None


def test_form_draws_the_lines() -> None:
    """Signals, protocol, endpoint and Prometheus are chosen, and what is given to copy is made of them at once."""
    at = shown()
    assert "OTEL_EXPORTER_OTLP_ENDPOINT=http://localhost:4317" in at.code[0].value
    form: Any = at
    form.get_by_key("otlp_protocol").set_value(HTTP).run()
    assert at.text_input(key="otlp_endpoint_HTTP").value == "http://localhost:4318"
    at.text_input(key="otlp_endpoint_HTTP").set_value(" https://collector.example/otlp ").run()
    form.get_by_key("otlp_signals").set_value([Signal.METRICS]).run()
    at.toggle(key="prometheus").set_value(True).run()
    at.number_input(key="prometheus_port").set_value(9470).run()
    assert not at.exception
    assert at.code[0].value.splitlines() == [
        "export OTEL_EXPORTER_OTLP_ENDPOINT=https://collector.example/otlp",
        "export OTEL_EXPORTER_OTLP_PROTOCOL=http/protobuf",
        "export OTEL_TRACES_EXPORTER=none",
        "export OTEL_METRICS_EXPORTER=otlp,prometheus",
        "export OTEL_LOGS_EXPORTER=none",
        "export OTEL_METRIC_EXPORT_INTERVAL=5000",
        "export OTEL_EXPORTER_PROMETHEUS_PORT=9470",
        "streamlit run dashboard",
    ]
    at.text_input(key="otlp_endpoint_HTTP").set_value("nowhere").run()
    assert not at.code
    assert "no URL" in at.warning[0].value


# ---- its parts --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (None, Delivery.OFF),
        (target(), Delivery.WAITING),
        (target(exports=1, last_success_s=5.0), Delivery.ARRIVING),
        (target(failures=1, last_failure_s=5.0), Delivery.FAILING),
        (target(exports=1, failures=1, last_success_s=5.0, last_failure_s=6.0), Delivery.FAILING),
        (target(exports=1, failures=1, last_success_s=7.0, last_failure_s=6.0), Delivery.ARRIVING),
    ],
)
def test_last_export_says_whether_it_arrives(status: ExportStatus | None, expected: Delivery) -> None:
    """What failed once and arrives again is arriving."""
    assert telemetry.delivery(status) is expected


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        (REFUSED, "Nobody listens"),
        ("Caused by NameResolutionError(Failed to resolve 'no-such-host.invalid')", "no such host"),
        ("error code: StatusCode.DEADLINE_EXCEEDED", "No answer"),
        ("Failed to export span batch code: 401, reason: Unauthorized", "OTEL_EXPORTER_OTLP_HEADERS"),
        ("Failed to export logs batch code: 404, reason: Not Found", "does not take"),
        ("given up, because telemetry was shut down", None),
    ],
)
def test_known_reasons_are_told_in_plain_words(reason: str, words: str | None) -> None:
    """The words of HTTP and gRPC libraries help few; what they mean, and what to do, is said first."""
    meaning = telemetry.cause(reason)
    assert (meaning is None) if words is None else (words in (meaning or ""))
