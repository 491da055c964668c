"""setup(): OpenTelemetry's SDK for an application, by the standard OTEL_* variables. The library never calls it.

The worker and the dashboard do. An application of its own may use it too, or set up the SDK as it likes: a bus uses
whatever is set up in its process.
"""

from __future__ import annotations

import atexit
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from eventbus.errors import ConfigError
from eventbus.telemetry.environment import Target, disabled, targets
from eventbus.telemetry.status import ExportStatus

if TYPE_CHECKING:
    from eventbus.telemetry.providers import Providers
    from eventbus.telemetry.reader import Sources

_log = logging.getLogger("eventbus.telemetry")
_SHUTDOWN_S = 5.0
_ABANDON_S = 0.5
"""For exports to notice that they were given up; beyond it their threads are left, and end with the process."""
_BARE_API = ("opentelemetry.trace", "opentelemetry.metrics")


def setup(
    *,
    service_name: str = "ackscope",
    console: bool = False,
    install: bool = True,
    sources: Sources | None = None,
    prometheus_ports: int = 1,
) -> Telemetry:
    """Export spans, metrics and log records where the OTEL_* variables say; where they say nothing, start nothing.

    service_name: where neither OTEL_SERVICE_NAME nor OTEL_RESOURCE_ATTRIBUTES gives one.
    console: print spans and metrics to the standard error as well.
    install: make the providers those of the process, which can be done once: where somebody did before, theirs stay
        and nothing is started. sources: the buses; default all of this process.
    prometheus_ports: how many to try from OTEL_EXPORTER_PROMETHEUS_PORT on: more than one where several processes of
        one program each serve their own metrics.

    Waits for nothing: whether telemetry arrives is told by ``Telemetry.status``. At the end of the process at most 5 s
    are given to what still waits; ``Telemetry.shutdown`` does it earlier. Call it before ``connect``.
    Raises ConfigError for a variable with a wrong value (its name, what was given, what is allowed), and where a
    package is missing.
    """
    chosen = () if disabled() else targets(console=console)
    if not chosen:
        return Telemetry((), None)
    try:
        from eventbus.telemetry.providers import Providers  # here: the SDK is an extra
    except ImportError as error:
        raise ConfigError(
            f'to export telemetry, {error.name or error} is needed; pip install "ackscope[otel]"'
        ) from None
    if install and _is_installed():
        _log.warning("OpenTelemetry is set up in this process already; it stays as it is")
        return Telemetry((), None)
    for target in chosen:
        if target.doubt:
            _log.warning("%s go to %s: %s", target.signal, target.endpoint, target.doubt)
    providers = Providers(chosen, service_name, sources, prometheus_ports)
    if install:
        _install(providers)
    telemetry = Telemetry([log.target for log in providers.logs], providers)
    atexit.register(telemetry.shutdown)
    return telemetry


class Telemetry:
    """What ``setup`` started. targets: where telemetry goes; empty where nothing was started.

    providers: the SDK's, for tests and for what an application wants to add; None where nothing was started.
    """

    def __init__(self, targets: Sequence[Target], providers: Providers | None) -> None:
        self.targets = tuple(targets)
        self.providers = providers
        self._over = False
        self._arrived = True

    def status(self) -> tuple[ExportStatus, ...]:
        """Of each target, as of now. From any thread; never waits."""
        return () if self.providers is None else tuple(log.status() for log in self.providers.logs)

    def flush(self, timeout_s: float = _SHUTDOWN_S) -> bool:
        """Export what waits; True if that ended within ``timeout_s`` (whether it arrived, ``status`` tells)."""
        return self.providers is None or not _run(self.providers.flush(), timeout_s)

    def shutdown(self, timeout_s: float = _SHUTDOWN_S) -> bool:
        """Export what waits and end everything, in at most ``timeout_s`` and 0.5 s; True if nothing was given up.

        Call it after the buses are closed. Idempotent; never raises for a collector that is dead, slow or hanging: the
        SDK's own shutdown waited 35 to 46 s for one, so it runs in daemon threads of its own.
        """
        if self.providers is None or self._over:
            return self._arrived
        self._over = True
        atexit.unregister(self.shutdown)
        begun = time.monotonic()
        late = _run(self.providers.ending(), timeout_s)
        if late:
            _log.warning("gave up sending %s after %.1f s", " and ".join(late), time.monotonic() - begun)
            _run(self.providers.abandon(), _ABANDON_S)
        self.providers.ended()
        self._arrived = not late
        return self._arrived


def _run(calls: Sequence[tuple[str, Callable[[], object]]], timeout_s: float) -> list[str]:
    """Make all calls at once, each in a daemon thread; the names of those that had not ended after ``timeout_s``."""
    deadline = time.monotonic() + timeout_s
    threads = []
    late = []
    for name, call in calls:
        thread = threading.Thread(target=_contained, args=(name, call), name=f"telemetry {name}", daemon=True)
        try:
            thread.start()
            threads.append((name, thread))
        except RuntimeError:  # CPython 3.12.0 to 3.12.2 start none once the process is ending
            late.append(name)
    for _, thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    return late + [name for name, thread in threads if thread.is_alive()]


def _contained(name: str, call: Callable[[], object]) -> None:
    try:
        call()
    except Exception as error:  # of the SDK and of exporters: telemetry that fails must not fail the application
        _log.warning("ending %s: %s", name, error)


def _is_installed() -> bool:
    from opentelemetry import metrics, trace

    providers = (trace.get_tracer_provider(), metrics.get_meter_provider())
    return not all(type(provider).__module__.startswith(_BARE_API) for provider in providers)


def _install(providers: Providers) -> None:
    from opentelemetry import _logs, metrics, trace

    if providers.meters is not None:
        metrics.set_meter_provider(providers.meters)
    if providers.tracers is not None:
        trace.set_tracer_provider(providers.tracers)
    if providers.records is not None:
        _logs.set_logger_provider(providers.records)
