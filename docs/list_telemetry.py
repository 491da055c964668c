"""Writes docs/telemetry.md from the names in eventbus.telemetry.names: python -m docs.list_telemetry.

What an error type means comes from the sentences below the members of eventbus.errors.ErrorKind.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from eventbus import errors, event
from eventbus.telemetry import names

TARGET = Path(__file__).with_name("telemetry.md")

_INTRODUCTION = f"""\
# Spans, metrics and attributes

Made by `python -m docs.list_telemetry` from `eventbus/telemetry/names.py`: do not edit. What to do with them is in
[`deploy/`](../deploy/README.md): a collector, Prometheus with alerts, a Grafana dashboard.

Names that begin with `messaging`, `error` or `server` are those of the OpenTelemetry semantic conventions
({names.SCHEMA_URL.rpartition("/")[2]}), those that begin with `eventbus` are ours. The scope is `{names.SCOPE}`.

"""

_SPANS = f"""\
## Spans

All have the name `{names.MESSAGE_SPAN.name}`, as in `publish orders.created`, and kind
PRODUCER. Status ERROR on rejected and unknown only: a failure that a retry cured is none of the span's. The
context travels with the message as `traceparent`, in its NATS or Kafka headers.

"""

_METRICS = """\
## Metrics

Exact for every message, sampled or not. In Prometheus dots become underscores, units are written out, counters end in
`_total`; attributes become labels in the same way, resource attributes stand in `target_info` alone.

"""

_CONSERVATION = """\
`messaging.client.sent.messages`, summed over its outcomes, and `eventbus.producer.in_flight` make up the accepted
messages. In a `BusSnapshot` a late ack moves a message from `unknown` to `acked`; a counter only grows, so here
`unknown` less `eventbus.producer.late_acks` is the snapshot's `unknown`.

"""

_LOGS = f"""\
## Log records

Through `logging`, with or without an SDK. The fields are attributes of Python's `LogRecord`, so that any structured
formatter writes them, and of OTLP's log records. A record about failures also names a span that tells of one of them,
where there is one: `{names.LOG_TRACE_ID}`, `{names.LOG_SPAN_ID}` and `{names.LOG_TRACE_FLAGS}`, in OTLP its own.
No payload and no header is in any. To have fewer, set the level of a logger.

"""

_ERROR_TYPES = """\
The values of `ErrorKind`. The same kind can leave a message rejected or unknown: the outcome says which. Which answer
of a broker becomes which kind: [nats-replies.md](nats-replies.md), [kafka-replies.md](kafka-replies.md). `_OTHER`, the
conventions' own word, stands where no failure was noted.

"""


def markdown() -> str:
    """The whole page, as text."""
    return _INTRODUCTION + "\n".join(
        [_spans(), _metrics(), _logs(), _attributes(), _outcomes(), _error_types(), _events()]
    )


def _spans() -> str:
    rows = [(span.text, _codes(span.attributes)) for span in names.SPANS]
    return _SPANS + _table(("what it stands for", "attributes"), rows)


def _metrics() -> str:
    rows = [
        (_code(metric.name), metric.instrument, _code(metric.unit), metric.text, _codes(metric.prometheus_names))
        for metric in names.METRICS
    ]
    bounds = ", ".join(f"{bound:g}" for bound in names.DURATION_BOUNDS_S)
    return (
        _METRICS
        + _table(("name", "instrument", "unit", "what it is", "in Prometheus"), rows)
        + f"\nUpper bounds of the duration's buckets, in seconds: {bounds}.\n\n"
        + _CONSERVATION
        + _table(("metrics", "attributes of their points"), _by_attributes())
    )


def _by_attributes() -> list[tuple[str, str]]:
    """Metrics whose points have the same attributes, together."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for metric in names.METRICS:
        groups.setdefault(metric.attributes, []).append(metric.name)
    return [(_codes(metrics), _codes(attributes)) for attributes, metrics in groups.items()]


def _logs() -> str:
    rows = [(_code(r.logger), r.level, r.text, _codes(r.attributes)) for r in names.RECORDS]
    return _LOGS + _table(("logger", "level", "what it stands for", "fields"), rows)


def _attributes() -> str:
    rows = [(_code(a.name), _code(names.prometheus_label(a.name)), a.text, _code(a.example)) for a in names.ATTRIBUTES]
    return "## Attributes\n\n" + _table(("name", "label in Prometheus", "what it is", "example"), rows)


def _outcomes() -> str:
    rows = [
        (_code(value), text, "ERROR" if value in names.FAILED else "unset", "yes" if value in names.FAILED else "no")
        for value, text in names.OUTCOMES.items()
    ]
    return f"## Values of `{names.ACK_OUTCOME}`\n\n" + _table(
        ("value", "what it means", "status of the span", "`error.type`"), rows
    )


def _error_types() -> str:
    rows = [(_code(kind), text) for kind, text in _kinds()]
    return f"## Values of `{names.ERROR_TYPE}`\n\n" + _ERROR_TYPES + _table(("value", "what it means"), rows)


def _events() -> str:
    return f"## Values of `{names.EVENT_KIND}`\n\n" + ", ".join(_code(kind.value) for kind in event.EventKind) + ".\n"


def _kinds() -> Iterator[tuple[str, str]]:
    """The members of ErrorKind and the sentence that stands below each."""
    (enum,) = ast.parse(inspect.getsource(errors.ErrorKind)).body
    assert isinstance(enum, ast.ClassDef)
    for member, text in pairwise(enum.body):
        match member, text:
            case (
                ast.Assign(targets=[ast.Name(id=name)]),
                ast.Expr(value=ast.Constant(value=str(sentence))),
            ):
                yield errors.ErrorKind[name].value, " ".join(sentence.split())


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _code(text: str) -> str:
    return f"`{text}`"


def _codes(texts: Iterable[str]) -> str:
    return ", ".join(map(_code, texts))


if __name__ == "__main__":
    TARGET.write_text(markdown(), encoding="utf-8")
