"""The Prometheus endpoint: a reader that is asked by scrapes, and the little HTTP server that they come to."""

from __future__ import annotations

import errno
import ipaddress
import logging
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any
from wsgiref.simple_server import WSGIServer

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics.export import MetricsData
from prometheus_client import CollectorRegistry, start_http_server
from prometheus_client.metrics_core import Metric

from eventbus.errors import ConfigError
from eventbus.telemetry.environment import prometheus_url
from eventbus.telemetry.exporters import points_in
from eventbus.telemetry.reader import WithDurations
from eventbus.telemetry.status import ExportLog

_log = logging.getLogger("eventbus.telemetry")


class _OneScrape(CollectorRegistry):
    """A registry that collects for one scrape at a time: two at once would get each other's points, or none."""

    def __init__(self) -> None:
        super().__init__()
        self._scrape = threading.Lock()

    def collect(self) -> Iterable[Metric]:
        with self._scrape:
            return list(super().collect())


class PrometheusReader(WithDurations, PrometheusMetricReader):
    """Collects when it is scraped. Always cumulative, with explicit buckets: the exporter knows no others."""

    def __init__(self, log: ExportLog, registry: CollectorRegistry) -> None:
        self._log = log
        super().__init__(registry=registry)

    def _receive_metrics(self, metrics_data: MetricsData, timeout_millis: float = 10_000, **kwargs: Any) -> None:
        super()._receive_metrics(metrics_data, timeout_millis, **kwargs)
        self._log.succeeded(points_in(metrics_data))

    def force_flush(self, timeout_millis: float = 10_000) -> bool:
        """Nothing is pushed: a collection without a scrape would show up twice in the next one."""
        return True


class PrometheusEndpoint:
    """``/metrics`` on one address, from construction until ``close``; its threads are daemons.

    ports: how many to try, from ``port`` on, where it is taken. port: the one that was had; one of the system's choice
    where 0 was asked for. ``log.target`` says which. Raises ConfigError where the address cannot be had.
    """

    def __init__(self, host: str, port: int, log: ExportLog, ports: int = 1) -> None:
        registry = _OneScrape()
        self.reader = PrometheusReader(log, registry)
        try:
            self._server, self._thread = _serve(host, range(port, min(port + ports, 65536)), registry)
        except OSError as error:
            raise ConfigError(
                f"OTEL_EXPORTER_PROMETHEUS_HOST is {host!r} and OTEL_EXPORTER_PROMETHEUS_PORT is {port}, where nothing "
                f"can be served ({error.strerror or error}); use an address of this machine and a port that is free"
            ) from None
        self.port = self._server.server_port
        log.target = replace(log.target, endpoint=prometheus_url(host, self.port))
        if self.port != port:
            _log.info("metrics are served at %s", log.target.endpoint)
        if not _is_loopback(host):
            _log.warning(
                "metrics are served on %s:%d to everybody who can reach it, without encryption or a password; "
                "OTEL_EXPORTER_PROMETHEUS_HOST=localhost serves this machine only",
                host,
                self.port,
            )

    def close(self) -> None:
        """Serve no more. Waits for the server's loop, at most 0.5 s."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _serve(host: str, ports: Sequence[int], registry: CollectorRegistry) -> tuple[WSGIServer, threading.Thread]:
    """At the first of the ports that is free. Raises OSError."""
    for port in ports[:-1]:
        try:
            return start_http_server(port, addr=host, registry=registry)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    return start_http_server(ports[-1], addr=host, registry=registry)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
