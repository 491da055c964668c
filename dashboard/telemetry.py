"""Where telemetry goes, for the Telemetry page: does it arrive, what do the variables ask for, and lines that set them.

Without Streamlit. The variables are those of this process, which every worker inherits.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from urllib.parse import urlsplit

from eventbus import ConfigError
from eventbus.telemetry import environment
from eventbus.telemetry.environment import OtlpProtocol, Signal, Target
from eventbus.telemetry.status import ExportStatus

ENDPOINTS = {OtlpProtocol.GRPC: "http://localhost:4317", OtlpProtocol.HTTP: "http://localhost:4318"}
"""Where a collector on this machine listens unless told otherwise."""
PROMETHEUS_PORT = 9464
"""The one of deploy/prometheus.yml, and the specification's default."""
METRIC_INTERVAL_S = 5.0
"""Between two exports of metrics in the lines to copy, as deploy/ has it: its alerts look at 30 s."""
_DEFAULT_INTERVAL_S = 60.0
_PACKAGES = (
    "opentelemetry.sdk",
    "opentelemetry.exporter.otlp.proto.grpc",
    "opentelemetry.exporter.otlp.proto.http",
    "opentelemetry.exporter.prometheus",
)


class Delivery(StrEnum):
    """Whether one signal arrives at one place."""

    ARRIVING = "arriving"
    WAITING = "nothing sent yet"
    FAILING = "failing"
    OFF = "off"


def delivery(status: ExportStatus | None) -> Delivery:
    """By the last export; None is a signal that goes nowhere."""
    if status is None:
        return Delivery.OFF
    if status.failing:
        return Delivery.FAILING
    return Delivery.ARRIVING if status.exports else Delivery.WAITING


_CAUSES = (
    (r"refused", "Nobody listens there. Start a collector, or correct the endpoint."),
    (r"NameResolution|Name or service not known|DNS resolution|getaddrinfo", "There is no such host."),
    (r"timed? ?out|DEADLINE_EXCEEDED", "No answer came in time."),
    (r"UNAUTHENTICATED|PERMISSION_DENIED|\b40[13]\b", "Not allowed: a key belongs in `OTEL_EXPORTER_OTLP_HEADERS`."),
    (r"UNIMPLEMENTED|\b404\b", "What listens there does not take this signal."),
    (r"\bSSL|certificate|handshake", "TLS failed: is the endpoint `https://`, and its certificate trusted?"),
)
_SHOWN = 120


def cause(reason: str) -> str | None:
    """What an exporter's long words mean, and what to do; None where they are not known here."""
    return next((text for pattern, text in _CAUSES if re.search(pattern, reason, re.IGNORECASE)), None)


def shortened(reason: str) -> str:
    """The beginning of it."""
    return reason if len(reason) <= _SHOWN else f"{reason[:_SHOWN].rstrip()}…"


@dataclass(frozen=True, slots=True)
class Asked:
    """What the variables ask for: where telemetry goes from the next run on. error: a variable of no use, and what is.

    doubts: what may be a mistake. disabled: OTEL_SDK_DISABLED. metric_interval_s: between two exports of metrics.
    """

    targets: tuple[ExportStatus, ...] = ()
    doubts: tuple[str, ...] = ()
    disabled: bool = False
    error: str | None = None
    metric_interval_s: float = _DEFAULT_INTERVAL_S


def asked() -> Asked:
    """Read the variables of this process."""
    try:
        if environment.disabled():
            return Asked(disabled=True)
        targets = environment.targets()
    except ConfigError as error:
        return Asked(error=str(error))
    interval = environment.read("OTEL_METRIC_EXPORT_INTERVAL")  # a number of milliseconds: targets() has checked it
    return Asked(
        tuple(_unsent(target) for target in targets),
        tuple(f"{target.signal} go to {target.endpoint}: {target.doubt}" for target in targets if target.doubt),
        metric_interval_s=float(interval) / 1e3 if interval else _DEFAULT_INTERVAL_S,
    )


def packages_missing() -> bool:
    """True if the extra ``otel`` is not installed, so that no run can begin while telemetry is asked for."""
    try:
        return any(find_spec(name) is None for name in _PACKAGES)
    except ModuleNotFoundError:  # a package above it
        return True


@dataclass(frozen=True, slots=True)
class Variables:
    """What is to be set. signals: those that go to a collector by OTLP, which listens at ``endpoint``.

    prometheus_port: where a worker serves metrics to Prometheus; None for not at all.
    """

    signals: Collection[Signal]
    endpoint: str = ENDPOINTS[OtlpProtocol.GRPC]
    protocol: OtlpProtocol = OtlpProtocol.GRPC
    prometheus_port: int | None = None

    @property
    def problem(self) -> str | None:
        """Why no lines can be made of it, and what to do; None if they can."""
        if not self.signals:
            return None if self.prometheus_port else "Choose at least one signal, or metrics for Prometheus."
        try:
            parts = urlsplit(self.endpoint)
            usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:  # of the port
            usable = False
        return None if usable else f"The endpoint is no URL: give one such as {ENDPOINTS[self.protocol]}."

    def lines(self) -> list[str]:
        """For a shell. Every signal is named, so that what was set before does not count."""
        values: dict[str, str] = {}
        if self.signals:
            values |= {
                "OTEL_EXPORTER_OTLP_ENDPOINT": self.endpoint,
                "OTEL_EXPORTER_OTLP_PROTOCOL": self.protocol.value,
            }
        for signal in Signal:
            exporters = ["otlp"] if signal in self.signals else []
            if signal is Signal.METRICS and self.prometheus_port is not None:
                exporters.append("prometheus")
            values[f"OTEL_{signal.upper()}_EXPORTER"] = ",".join(exporters) or "none"
        if Signal.METRICS in self.signals:
            values["OTEL_METRIC_EXPORT_INTERVAL"] = f"{METRIC_INTERVAL_S * 1e3:.0f}"
        if self.prometheus_port is not None:
            values["OTEL_EXPORTER_PROMETHEUS_PORT"] = str(self.prometheus_port)
        return [f"export {name}={shlex.quote(value)}" for name, value in values.items()]


def _unsent(target: Target) -> ExportStatus:
    protocol = None if target.protocol is None else target.protocol.value
    return ExportStatus(target.signal.value, target.exporter, target.endpoint, protocol)
