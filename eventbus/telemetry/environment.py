"""What the standard OTEL_* variables ask for, checked. Those that the SDK's constructors read too are checked as well,
because they warn at best, and go on with something else.

An empty variable counts as unset, as the OpenTelemetry specification has it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit

from eventbus.errors import ConfigError


class Signal(StrEnum):
    """What is exported. The values are the words of the conventions; in variables they are in capitals."""

    TRACES = "traces"
    METRICS = "metrics"
    LOGS = "logs"


class OtlpProtocol(StrEnum):
    """How OTLP is spoken."""

    GRPC = "grpc"
    HTTP = "http/protobuf"


_EXPORTERS = {
    Signal.TRACES: ("otlp", "console", "none"),
    Signal.METRICS: ("otlp", "prometheus", "console", "none"),
    Signal.LOGS: ("otlp", "console", "none"),
}
_DEFAULT_ENDPOINT = {OtlpProtocol.GRPC: "http://localhost:4317", OtlpProtocol.HTTP: "http://localhost:4318"}
_PORT_OF = {OtlpProtocol.GRPC: 4317, OtlpProtocol.HTTP: 4318}
_PROMETHEUS_PORT = 9464
"""What the specification says."""


@dataclass(frozen=True, slots=True)
class Target:
    """One place that one signal goes to. exporter: otlp, prometheus or console.

    protocol: of otlp only. endpoint: without credentials; what is shown to people. Empty for console.
    compression: of otlp only: gzip, deflate, none, or empty where no variable says it.
    """

    signal: Signal
    exporter: str
    endpoint: str = ""
    protocol: OtlpProtocol | None = None
    compression: str = ""

    @property
    def doubt(self) -> str:
        """Why the endpoint may be a mistake; empty if nothing speaks for it."""
        others = [protocol for protocol in OtlpProtocol if protocol is not self.protocol]
        port = urlsplit(self.endpoint if "://" in self.endpoint else f"//{self.endpoint}").port
        if self.protocol is None or port != _PORT_OF[others[0]]:
            return ""
        return f"port {port} is usually that of {others[0]}, and OTEL_EXPORTER_OTLP_PROTOCOL is {self.protocol}"


def disabled() -> bool:
    """OTEL_SDK_DISABLED: nothing is set up, whatever else is asked for."""
    return _choice("OTEL_SDK_DISABLED", ("true", "false"), "false") == "true"


def targets(*, console: bool = False) -> tuple[Target, ...]:
    """Where each signal goes. Empty where no variable asks for anything.

    OTEL_{TRACES,METRICS,LOGS}_EXPORTER choose. Where one is unset, its signal goes to ``otlp`` if an endpoint is set
    for it (OTEL_EXPORTER_OTLP_ENDPOINT or the signal's own), and else nowhere: AckScope exports only what somebody
    asked for. console: spans and metrics also to the console.
    Raises ConfigError, which names the variable, what was given and what is allowed.
    """
    check()
    found = []
    for signal in Signal:
        exporters = _exporters(signal)
        if console and signal is not Signal.LOGS and "console" not in exporters:
            exporters = (*exporters, "console")
        found += [_target(signal, exporter) for exporter in exporters]
    return tuple(found)


def prometheus_address() -> tuple[str, int]:
    """OTEL_EXPORTER_PROMETHEUS_HOST and _PORT: by default localhost and 9464; port 0 for any free one."""
    host = read("OTEL_EXPORTER_PROMETHEUS_HOST") or "localhost"
    port = _number("OTEL_EXPORTER_PROMETHEUS_PORT", 0, 65535, "a port from 0 to 65535", whole=True)
    return host, _PROMETHEUS_PORT if port is None else int(port)


def prometheus_url(host: str, port: int) -> str:
    """Where Prometheus scrapes what is served there."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/metrics"


def read(variable: str) -> str:
    """Its value without spaces around it; empty where it is not set."""
    return os.environ.get(variable, "").strip()


def without_credentials(url: str) -> str:
    """``url`` as it may be shown: no user, password, query or fragment."""
    return re.sub(r"^([a-z+]*://)?[^/@]*@", r"\1", url.partition("?")[0].partition("#")[0], flags=re.IGNORECASE)


def _exporters(signal: Signal) -> tuple[str, ...]:
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    given = read(variable)
    if not given:
        return ("otlp",) if _endpoint_variable(signal) else ()
    chosen = tuple(dict.fromkeys(word.strip().lower() for word in given.split(",") if word.strip()))
    allowed = _EXPORTERS[signal]
    if not chosen or not set(chosen) <= set(allowed):
        raise _wrong(variable, given, f"one or more of {', '.join(allowed)}, separated by commas")
    if "none" in chosen and len(chosen) > 1:
        raise _wrong(variable, given, "none alone, or exporters without it")
    return () if chosen == ("none",) else chosen


def _target(signal: Signal, exporter: str) -> Target:
    if exporter == "prometheus":
        return Target(signal, exporter, prometheus_url(*prometheus_address()))
    if exporter == "console":
        return Target(signal, exporter)
    protocol = _protocol(signal)
    variable = _endpoint_variable(signal)
    endpoint = read(variable) if variable else _DEFAULT_ENDPOINT[protocol]
    if variable:
        _check_endpoint(variable, endpoint, protocol)
    if protocol is OtlpProtocol.HTTP and variable != _own(signal, "ENDPOINT"):
        endpoint = f"{endpoint.removesuffix('/')}/v1/{signal}"
    return Target(signal, exporter, without_credentials(endpoint), protocol, _compression(signal, protocol))


def _protocol(signal: Signal) -> OtlpProtocol:
    """Default: grpc, as the Python SDK has it where it sets itself up."""
    general = "OTEL_EXPORTER_OTLP_PROTOCOL"
    default = _choice(general, _PROTOCOLS, OtlpProtocol.GRPC.value)
    return OtlpProtocol(_choice(_own(signal, "PROTOCOL"), _PROTOCOLS, default))


def _compression(signal: Signal, protocol: OtlpProtocol) -> str:
    allowed = ("gzip", "none") if protocol is OtlpProtocol.GRPC else ("gzip", "deflate", "none")
    return _choice(_own(signal, "COMPRESSION"), allowed, _choice("OTEL_EXPORTER_OTLP_COMPRESSION", allowed, ""))


def _own(signal: Signal, setting: str) -> str:
    return f"OTEL_EXPORTER_OTLP_{signal.upper()}_{setting}"


def _endpoint_variable(signal: Signal) -> str:
    """The variable that says where OTLP goes, the signal's own first; empty where none is set."""
    for variable in (_own(signal, "ENDPOINT"), "OTEL_EXPORTER_OTLP_ENDPOINT"):
        if read(variable):
            return variable
    return ""


def _check_endpoint(variable: str, endpoint: str, protocol: OtlpProtocol) -> None:
    allowed = "a URL such as " + _DEFAULT_ENDPOINT[protocol]
    shown = without_credentials(endpoint)
    has_scheme = "://" in endpoint
    if not has_scheme and protocol is OtlpProtocol.HTTP:
        raise _wrong(variable, shown, allowed)
    try:
        parts = urlsplit(endpoint if has_scheme else f"http://{endpoint}")
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:  # of the port
        usable = False
    if not usable:
        raise _wrong(variable, shown, allowed)


# ---- variables that the SDK reads by itself ---------------------------------------------------------------------


def check() -> None:
    """All values that the SDK would pass over with a warning, or fail on with something unclear."""
    for variable, allowed in _CHOICES.items():
        _choice(variable, allowed, "")
    for variable in _WHOLE_NUMBERS:
        _number(variable, 1, 2**31, "a whole number of 1 or more", whole=True)
    for variable in _NUMBERS:
        _number(variable, 0.001, 1e9, "milliseconds, a number above 0")
    for variable in _TIMEOUTS:  # the specification says milliseconds: 10000 would be close to three hours
        _number(variable, 0.001, 3600, "seconds, which the Python SDK takes it for, above 0 and up to 3600")
    if read("OTEL_TRACES_SAMPLER").lower() in ("traceidratio", "parentbased_traceidratio"):
        _number("OTEL_TRACES_SAMPLER_ARG", 0, 1, "a ratio from 0 to 1")
    queue, batch = (_number(f"OTEL_BSP_{name}", 1, 2**31, "") for name in ("MAX_QUEUE_SIZE", "MAX_EXPORT_BATCH_SIZE"))
    if (batch or 512) > (queue or 2048):
        raise _wrong(
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE", f"{batch or 512:.0f}", f"at most the queue's {queue or 2048:.0f}"
        )
    for variable in _FILES:
        given = read(variable)
        if given and not Path(given).is_file():
            raise _wrong(variable, given, "the path of a file that exists")


_OTLP = ("OTEL_EXPORTER_OTLP", *(f"OTEL_EXPORTER_OTLP_{signal.upper()}" for signal in Signal))
_PROTOCOLS = tuple(protocol.value for protocol in OtlpProtocol)
_CHOICES: Mapping[str, tuple[str, ...]] = {
    "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE": ("cumulative", "delta", "lowmemory"),
    "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION": (
        "explicit_bucket_histogram",
        "base2_exponential_bucket_histogram",
    ),
    "OTEL_TRACES_SAMPLER": (
        *("always_on", "always_off", "traceidratio"),
        *("parentbased_always_on", "parentbased_always_off", "parentbased_traceidratio"),
    ),
    "OTEL_METRICS_EXEMPLAR_FILTER": ("always_on", "always_off", "trace_based"),
    **{f"{prefix}_INSECURE": ("true", "false") for prefix in _OTLP},
    **{f"{prefix}_PROTOCOL": _PROTOCOLS for prefix in _OTLP},
    **{f"{prefix}_COMPRESSION": ("gzip", "deflate", "none") for prefix in _OTLP},
}
_WHOLE_NUMBERS = tuple(
    f"OTEL_{processor}_{name}"
    for processor in ("BSP", "BLRP")
    for name in ("SCHEDULE_DELAY", "EXPORT_TIMEOUT", "MAX_QUEUE_SIZE", "MAX_EXPORT_BATCH_SIZE")
)
_NUMBERS = ("OTEL_METRIC_EXPORT_INTERVAL", "OTEL_METRIC_EXPORT_TIMEOUT")
_TIMEOUTS = tuple(f"{prefix}_TIMEOUT" for prefix in _OTLP)
_FILES = tuple(f"{prefix}_{name}" for prefix in _OTLP for name in ("CERTIFICATE", "CLIENT_KEY", "CLIENT_CERTIFICATE"))


def _choice(variable: str, allowed: tuple[str, ...], default: str) -> str:
    given = read(variable).lower()
    if given and given not in allowed:
        raise _wrong(variable, read(variable), "one of " + ", ".join(allowed))
    return given or default


def _number(variable: str, least: float, most: float, allowed: str, *, whole: bool = False) -> float | None:
    given = read(variable)
    if not given:
        return None
    parse: Callable[[str], float] = int if whole else float
    try:
        number = parse(given)
    except ValueError:
        raise _wrong(variable, given, allowed) from None
    if not least <= number <= most:
        raise _wrong(variable, given, allowed)
    return number


def _wrong(variable: str, given: str, allowed: str) -> ConfigError:
    return ConfigError(f"{variable} is {given!r}; use {allowed}")
