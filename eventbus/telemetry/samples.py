"""FailureSamples: of each kind of failure one message with its span, so that a log record can name them."""

from __future__ import annotations

from collections.abc import Mapping

from opentelemetry.trace import SpanContext, format_span_id, format_trace_id

from eventbus.ports import Ended
from eventbus.telemetry import names
from eventbus.telemetry.meter import error_type

_MOST = 100
"""Kinds of failures remembered; beyond it the oldest goes."""


class FailureSamples:
    """The first failure of each topic, outcome and error type since it was last asked for."""

    def __init__(self) -> None:
        self._found: dict[tuple[str, str, str], tuple[str, SpanContext]] = {}

    def note(self, pending: Ended, outcome: str, span: SpanContext) -> None:
        """A message that failed, and the span that tells of it."""
        key = (pending.topic, outcome, error_type(pending))
        if key in self._found or not span.is_valid:
            return
        if len(self._found) >= _MOST:
            del self._found[next(iter(self._found))]
        self._found[key] = (pending.message_id, span)

    def take(self, topic: str, outcome: str, failed: str) -> Mapping[str, str]:
        """Message id, trace and span as fields of a log record; empty where there is none. Forgets it."""
        found = self._found.pop((topic, outcome, failed), None)
        if found is None:
            return {}
        message_id, span = found
        return {
            names.MESSAGING_MESSAGE_ID: message_id,
            names.LOG_TRACE_ID: format_trace_id(span.trace_id),
            names.LOG_SPAN_ID: format_span_id(span.span_id),
            names.LOG_TRACE_FLAGS: f"{span.trace_flags:02x}",
        }
