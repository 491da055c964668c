"""Writes docs/expressions.md from eventbus.alerts.figures and the default rules: python -m docs.list_expressions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from eventbus.alerts import default_rules
from eventbus.alerts.figures import (
    COUNTERS,
    DISTRIBUTIONS,
    FUNCTIONS,
    GAUGES,
    PERCENTILE_EXAMPLE,
    Counter,
    Distribution,
    Gauge,
    Metric,
)
from eventbus.alerts.parser import MAX_WINDOW_S, MIN_WINDOW_S
from eventbus.alerts.quantity import duration_text
from eventbus.alerts.rule import AlertRule
from eventbus.config import WindowConfig

TARGET = Path(__file__).with_name("expressions.md")

_ACK_TIMEOUT_S = 5.0
"""The default of ``connect``."""

_SHORTEST, _LONGEST = duration_text(MIN_WINDOW_S), duration_text(MAX_WINDOW_S)

_KINDS: dict[type[Metric], str] = {Gauge: "gauge", Counter: "total", Distribution: "distribution"}

_INTRODUCTION = f"""\
# Expressions

Made by `python -m docs.list_expressions` from `eventbus/alerts/`: do not edit.

Thresholds and alert rules are written in the same way: two sides, and a comparison between them. A threshold must hold
for a run to pass; an alert fires while its expression holds.

```
p99(ack_latency, 1m) < 250ms            ratio(failed, accepted) < 1%
max(pending) < 5000                     rate(acked) > 0.95 * rate(offered)
pending >= 90% * window_limit           rate(stalled_time, 10s) > 50%
```

- Comparisons: `<` `<=` `>` `>=` `==` `!=`. Calculation: `+` `-` `*` `/` and parentheses.
- An alert rule may need several comparisons, with `and` between them: it fires while all of them hold. The first one is
  the one that is shown and drawn, and that `clear` and `min_samples` are about. A threshold is one comparison.
- Numbers: `5000`, `1_000`, `0.5`, `1e3`; with a unit: `us` `ms` `s` `m` `h` (minutes and hours), `%`, `B` `KiB` `MiB`
  `GiB`, and `950/s`. Times and sizes need theirs.
- Both sides must be of one kind: `p99(ack_latency) < 1%` is refused, and so is anything that names no metric.
- The last argument of a function may be a window, from {_SHORTEST} to {_LONGEST}: the time up to now that counts.
  Where the run is younger, what there is counts. Without a window it is the whole run: from the end of the warm-up
  on, the drain included.
- What cannot be said (the latency of no acks, a division by 0) is no data: a threshold is not met then, and what an
  alert does is said by its `no_data`.

"""

_RULES = """\
## Alert rules

```toml
[[rules]]
name = "slow_acks"                       # required, as is when
when = "p99(ack_latency, 30s) > 250ms"
clear = "200ms"                          # over only when down to this; without it, when `when` does not hold
for = "5s"                               # must hold so long before it fires; 0s
keep_firing_for = "10s"                  # goes on so long after it is over; 0s
severity = "warning"                     # info, warning, critical
labels = { team = "orders" }
summary = "Acks are slow"
description = "Look at the broker's disk."
min_samples = 100                        # fewer latencies, or messages of a ratio's second counter, are no data; 1
no_data = "ok"                           # ok, keep, no_data, firing; keep
inhibited_by = ["broker_disconnected"]   # while that fires, nobody is told of this; a default rule comes along
repeat = "1h"                            # told again while it fires; 1h
```

`min_samples` counts what the expression rests on: latencies for a distribution, messages for a ratio (those of its
second counter), samples of the run (four a second) for all others.

"""

_THRESHOLDS = """\
## Thresholds

```toml
thresholds = ["p99(ack_latency) < 250ms", "ratio(failed, accepted) < 1%"]
```

or, where a run should end as soon as one is missed:

```toml
[[thresholds]]
expression = "ratio(failed, settled, 10s) < 5%"
abort = true                             # false
grace = "10s"                            # not before so long after the warm-up; 10s
```

"""


def markdown() -> str:
    """The whole page, as text."""
    return _INTRODUCTION + "\n".join([_functions(), _metrics(), _THRESHOLDS.rstrip("\n") + "\n", _RULES + _defaults()])


def _functions() -> str:
    rows = [
        (_code(f.name), " or ".join(_KINDS[kind] for kind in f.of), f.text, _code(f.example))
        for f in FUNCTIONS.values()
    ]
    rows.append(
        ("`p50`, `p99`, `p99.9`, …", _KINDS[Distribution], "The percentile; within 0.8 %.", _code(PERCENTILE_EXAMPLE))
    )
    return "## Functions\n\n" + _table(("name", "of", "what it is", "example"), rows)


def _metrics() -> str:
    rows = [(_code(m.name), _KINDS[type(m)], _kind(m), m.text) for m in (*GAUGES, *COUNTERS, *DISTRIBUTIONS)]
    return "## Metrics\n\n" + _table(("name", "kind", "in", "what it is"), rows)


def _kind(metric: Metric) -> str:
    if isinstance(metric, Distribution):
        return "a time"
    return str(metric.dimension)


def _defaults() -> str:
    limit = WindowConfig().max_pending
    rules = default_rules(max_pending=limit, ack_timeout_s=_ACK_TIMEOUT_S)
    return (
        f"### Default rules\n\nFor a window of {limit:,} messages and an ack timeout of {_ACK_TIMEOUT_S:g} s. While "
        "`broker_disconnected` fires, nobody is told of those marked with *.\n\n"
        + _table(("name", "fires while", "for", "severity", "what it says"), map(_default, rules))
    )


def _default(rule: AlertRule) -> tuple[str, ...]:
    mark = "*" if rule.inhibited_by else ""
    return _code(rule.name) + mark, _code(rule.expression.text), duration_text(rule.for_s), rule.severity, rule.summary


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _code(text: str) -> str:
    return f"`{text}`"


if __name__ == "__main__":
    TARGET.write_text(markdown(), encoding="utf-8")
