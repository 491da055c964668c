"""OtlpLogHandler: AckScope's log records as OpenTelemetry's, with the trace that was current when they were logged."""

from __future__ import annotations

import logging

from opentelemetry._logs import LoggerProvider, LogRecord, SeverityNumber

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
        self._provider.get_logger(record.name).emit(
            LogRecord(
                timestamp=int(record.created * 1e9),
                severity_text=record.levelname,
                severity_number=next((s for level, s in _SEVERITIES if record.levelno >= level), SeverityNumber.DEBUG),
                body=record.getMessage(),
                attributes={n: v for n, v in extras.items() if isinstance(v, str | bool | int | float)},
                exception=record.exc_info[1] if record.exc_info else None,
            )
        )

    def _is_alone(self) -> bool:
        return not any(h is not self for name in (LOGGER, None) for h in logging.getLogger(name).handlers)
