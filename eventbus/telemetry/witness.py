"""BusTelemetry: all that one bus tells OpenTelemetry. Made by ``connect`` where telemetry is wanted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from opentelemetry import metrics, trace

from eventbus.config import TelemetryConfig
from eventbus.message import Extras, Message
from eventbus.ports import Clock, Ended, Failure
from eventbus.report import AckOutcome
from eventbus.snapshot import BusSnapshot
from eventbus.telemetry import names, source
from eventbus.telemetry.instruments import is_api_only, observe_buses
from eventbus.telemetry.meter import OutcomeMeter
from eventbus.telemetry.tracing import OutcomeTracer


def sdk_is_set_up() -> bool:
    """True where somebody in this process exports traces or metrics: the providers are not those of the bare API."""
    providers = (trace.get_tracer_provider(), metrics.get_meter_provider())
    return not all(map(is_api_only, providers))


@dataclass(frozen=True, slots=True)
class _NotSent:
    """Implements ports.Ended for a message that had no token."""

    topic: str
    extras: Extras | None
    accepted_ns: int
    failure: Failure
    token: int = 0
    attempts: int = 0
    duplicate: bool = False
    place: tuple[str, int | None] | None = None
    offset: int = -1

    @property
    def message_id(self) -> str:
        """The caller's; it got none."""
        return (self.extras and self.extras[2]) or ""


class BusTelemetry:
    """Implements ports.Witness. ``tracing``: asked at each publish; see OutcomeTracer.

    Nothing that the SDK, its samplers and processors do reaches the ledger, but for time: what they raise is contained
    by OutcomeTracer, message by message, and the meter calls nothing of theirs.
    snapshot: of the bus. call_later: of its event loop.
    """

    def __init__(
        self,
        config: TelemetryConfig,
        attributes: Mapping[str, str | int],
        clock: Clock,
        snapshot: Callable[[], BusSnapshot],
        call_later: Callable[[float, Callable[[], None]], object],
    ) -> None:
        self.tracing = OutcomeTracer(
            trace.get_tracer(names.SCOPE, schema_url=names.SCHEMA_URL), config, attributes, clock, call_later
        )
        self._clock = clock
        self._meter = OutcomeMeter(attributes, int(clock.wall_s() * 1e9), snapshot)

    def begin(self) -> None:
        """The bus is there: from now on its metrics are collected."""
        source.register(self._meter)
        observe_buses()

    def ended(self, outcome: AckOutcome, settled: Sequence[Ended], now_ns: int) -> None:
        """Count these, and end or make their spans."""
        self._meter.ended(outcome, settled, now_ns)
        self.tracing.ended(outcome, settled, now_ns)

    def acked_late(self, pending: Ended, now_ns: int) -> None:
        """A span of its own, linked to the earlier one."""
        self.tracing.acked_late(pending, now_ns)

    def not_sent(self, message: Message, failure: Failure) -> None:
        """A message to be sent without an ack could not be: it is rejected, and never was in the ledger."""
        now_ns = self._clock.monotonic_ns()
        self.ended(AckOutcome.REJECTED, [_NotSent(message.topic, message.extras, now_ns, failure)], now_ns)

    def close(self) -> None:
        """What is gathered becomes spans, and what was counted stays counted. Never waits."""
        self.tracing.close()
        source.retire(self._meter)
