"""``python -m benchmarks telemetry``: what OpenTelemetry costs a bus, next to the same bus without it in one run.

With all messages acked, and with none (a stream that never answers, and a short ack timeout); with exporters that
discard, with a collector that answers at once, with one that is dead, with one that answers each export after a second
and a half, and with one that accepts connections and never answers. Every run is a process of its own
(telemetry_process.py) on one server and the same collectors (telemetry_collectors.py); within a round they follow each
other, so that they meet the same machine. Here: the values and the judgement.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from statistics import median, quantiles
from typing import Any, Literal

Telling = Literal["none", "discarded", "answering", "dead", "slow", "hanging"]
TELLINGS: Mapping[Telling, str] = {
    "none": "no telemetry",
    "discarded": "SDK, exporters discard",
    "answering": "SDK, collector answers",
    "dead": "SDK, collector is dead",
    "slow": "SDK, collector is slow",
    "hanging": "SDK, collector hangs",
}
Situation = Literal["acked", "timeouts"]
SITUATIONS: Mapping[Situation, str] = {"acked": "every message acked", "timeouts": "every message times out"}
LEAST_SHARE: Mapping[Situation, float] = {"acked": 0.9, "timeouts": 0.8}
"""Of the rate without telemetry: what telemetry costs, where it goes somewhere."""
BAD: tuple[Telling, ...] = ("dead", "slow", "hanging")
LEAST_OF_ANSWERING = 0.95
"""Of the rate with a collector that answers, where it does not: what a bad collector costs beyond telemetry itself.
That is to be nothing, but for what medians differ by themselves."""
MIB = 1024 * 1024
MOST_MEMORY = 24 * MIB
"""That telemetry may add: queues of the SDK (2,048 spans), its threads, and the counts by destination."""
WARM_S = 1.3
"""Exports are a second apart: one falls into it."""
CLOSE_S, SHUTDOWN_S, EXIT_S = 2.0, 1.0, 2.0
"""Deadlines of the bus's close, of the set-up's shutdown, and of the end of the process after both."""
SPARE_S = 1.0
"""What a busy machine adds to a deadline."""
MOST_LATENCY, LATENCY_SPARE_MS = 1.25, 0.3
"""Of the median ack latency without telemetry."""


@dataclass(frozen=True, slots=True)
class Settings:
    """Of one process. paced: messages at ``rate`` a second, for the latency; 0 for none. warm_s: time before anything
    is measured, in which the first export loads its code and meets its collector.
    """

    telling: Telling
    situation: Situation
    url: str
    messages: int
    paced: int
    warm_s: float
    rate: float = 10_000.0
    window: int = 50_000
    ack_timeout_s: float = 0.1


@dataclass(frozen=True, slots=True)
class Measured:
    """One process. elapsed_s: from the first publish to the last outcome, less the time that nothing can shorten: the
    ack timeout of the last message, where all time out. told: failures that exported spans stood for, None where it is
    not known. grown: resident bytes. exit_s: from the end of the shutdown to the end of the process.
    """

    telling: Telling
    situation: Situation
    messages: int
    elapsed_s: float
    cpu_s: float
    acked: int
    unknown: int
    told: int | None
    p50_ms: float | None
    p99_ms: float | None
    grown: int
    close_s: float
    shutdown_s: float
    exit_s: float = 0.0

    @property
    def rate(self) -> float:
        """Messages a second."""
        return self.messages / self.elapsed_s


Round = Mapping[Telling, Measured]


@dataclass(frozen=True, slots=True)
class Row:
    """One way of telling in one situation, over all rounds: medians. ``share``, ``cpu_share``: of none, by round, and
    the quartiles of ``share``. of_answering: the rate's share of that with a collector that answers, by round; None
    where there is no collector.
    """

    telling: Telling
    situation: Situation
    rate: float
    share: float
    quartiles: tuple[float, float]
    of_answering: float | None
    cpu_us: float
    cpu_share: float
    p50_ms: float | None
    p99_ms: float | None
    grown: float
    close_s: float
    shutdown_s: float
    exit_s: float


def row_of(situation: Situation, telling: Telling, rounds: Sequence[Round]) -> Row:
    """Medians, and the ratios within each round."""
    mine, without = [one[telling] for one in rounds], [one["none"] for one in rounds]

    def middle(values: Sequence[float | None]) -> float | None:
        found = [value for value in values if value is not None]
        return median(found) if found else None

    pairs = list(zip(mine, without, strict=True))
    shares = [m.rate / w.rate for m, w in pairs]
    of_answering = [one[telling].rate / one["answering"].rate for one in rounds] if telling in BAD else []
    return Row(
        telling,
        situation,
        rate=median(m.rate for m in mine),
        share=median(shares),
        quartiles=_quartiles(shares),
        of_answering=middle(of_answering),
        cpu_us=median(m.cpu_s * 1e6 / m.messages for m in mine),
        cpu_share=median(m.cpu_s / w.cpu_s for m, w in pairs),
        p50_ms=middle([m.p50_ms for m in mine]),
        p99_ms=middle([m.p99_ms for m in mine]),
        grown=median(m.grown for m in mine),
        close_s=max(m.close_s for m in mine),
        shutdown_s=max(m.shutdown_s for m in mine),
        exit_s=max(m.exit_s for m in mine),
    )


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, high


def wrong_counts(measured: Measured) -> list[str]:
    """What makes a run worthless: messages without the outcome that they must have, or failures that no span told."""
    name = f"{measured.situation}, {TELLINGS[measured.telling]}"
    right = measured.acked if measured.situation == "acked" else measured.unknown
    found = []
    if right != measured.messages:
        found.append(f"{name}: {measured.acked} acked and {measured.unknown} unknown of {measured.messages}")
    if measured.told is not None and measured.told != measured.unknown:
        found.append(f"{name}: spans stood for {measured.told} of {measured.unknown} failures")
    return found


def too_much(row: Row, without: Row) -> list[str]:
    """What costs more than it may, in words."""
    found = []
    if row.of_answering is None and row.share < LEAST_SHARE[row.situation]:
        found.append(f"{row.share:.2f} of the rate without telemetry, {LEAST_SHARE[row.situation]:g} is asked for")
    if row.of_answering is not None and row.of_answering < LEAST_OF_ANSWERING:
        words = f"of the rate with a collector that answers, {LEAST_OF_ANSWERING:g} is asked for"
        found.append(f"{row.of_answering:.2f} {words}")
    if row.p50_ms and without.p50_ms and row.p50_ms > MOST_LATENCY * without.p50_ms + LATENCY_SPARE_MS:
        found.append(f"median ack latency {row.p50_ms:.2f} ms, {without.p50_ms:.2f} without telemetry")
    if row.grown - without.grown > MOST_MEMORY:
        found.append(f"{(row.grown - without.grown) / MIB:.1f} MiB more memory than without telemetry")
    deadlines = (
        ("close", row.close_s, CLOSE_S),
        ("shutdown", row.shutdown_s, SHUTDOWN_S),
        ("exit", row.exit_s, EXIT_S),
    )
    found += [f"{name} took {took:.1f} s of {most:g}" for name, took, most in deadlines if took > most + SPARE_S]
    return [f"{row.situation}, {TELLINGS[row.telling]}: {complaint}" for complaint in found]


def plain(value: Settings | Measured | Row) -> dict[str, Any]:
    """For JSON."""
    return asdict(value)
