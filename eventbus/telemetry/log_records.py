"""OtlpLogHandler: AckScope's log records as OpenTelemetry's, with their trace.

That is the one which a record names (names.LOG_TRACE_ID and LOG_SPAN_ID), else the one that was current.
"""

from __future__ import annotations

import logging

from opentelemetry._logs import LoggerProvider, LogRecord, SeverityNumber
from opentelemetry.context import Context
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags, set_span_in_context

from eventbus.telemetry import names

LOGGER = "eventbus"
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_SEVERITIES = (
    (logging.CRITICAL, SeverityNumber.FATAL),
    (logging.ERROR, SeverityNumber.ERROR),
    (logging.WARNING, SeverityNumber.WARN),
    (logging.INFO, SeverityNumber.INFO),
)


class OtlpLogHandler(logging.Handler):
    """Hands records on to a provider, which queues them. Never waits. ``extra`` fields become attributes.

    Where it is the only handler, warnings also go where logging sends those that have none: to the standard error.
    """

    def __init__(self, provider: LoggerProvider) -> None:
        super().__init__()
        self._provider = provider

    def emit(self, record: logging.LogRecord) -> None:
        """Called by logging."""
        last = logging.lastResort
        if last is not None and record.levelno >= last.level and self._is_alone():
            last.handle(record)
        extras = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        named = _named_trace(extras)
        self._provider.get_logger(record.name).emit(
            LogRecord(
                timestamp=int(record.created * 1e9),
                severity_text=record.levelname,
                severity_number=next((s for level, s in _SEVERITIES if record.levelno >= level), SeverityNumber.DEBUG),
                body=record.getMessage(),
                attributes={n: v for n, v in extras.items() if isinstance(v, str | bool | int | float)},
                exception=record.exc_info[1] if record.exc_info else None,
                context=named,
            )
        )

    def _is_alone(self) -> bool:
        return not any(h is not self for name in (LOGGER, None) for h in logging.getLogger(name).handlers)


def _named_trace(extras: dict[str, object]) -> Context | None:
    """A context with the trace that a record's fields name, which are taken out; None where they name none."""
    ids = [extras.get(name) for name in (names.LOG_TRACE_ID, names.LOG_SPAN_ID, names.LOG_TRACE_FLAGS)]
    try:
        trace_id, span_id, flags = (int(value, 16) for value in ids if isinstance(value, str))
    except ValueError:  # not three, or no numbers: fields of somebody else's
        return None
    for name in (names.LOG_TRACE_ID, names.LOG_SPAN_ID, names.LOG_TRACE_FLAGS):
        del extras[name]
    span = SpanContext(trace_id, span_id, is_remote=False, trace_flags=TraceFlags(flags))
    return set_span_in_context(NonRecordingSpan(span), Context())
