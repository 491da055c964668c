"""Result: what a run found, as plain values: medians over the rounds, ratios within the run, and each round."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from benchmarks.arena import Entry
from benchmarks.catalog import Race

Round = dict[str, Any]


@dataclass(slots=True)
class Record:
    """The rounds of one entry. failure: why there is no more of them."""

    entry: Entry
    rounds: list[Round] = field(default_factory=list)
    failure: str | None = None


def _spread(values: Sequence[float | None]) -> dict[str, float] | None:
    found = [value for value in values if value is not None]
    return {"median": median(found), "min": min(found), "max": max(found)} if found else None


def _of(rounds: Sequence[Round], part: str, value: Callable[[dict[str, Any]], float | None]) -> dict[str, float] | None:
    return _spread([value(one[part]) for one in rounds if one.get(part) is not None])


def _row(race: Race, record: Record) -> dict[str, Any]:
    contestant, rounds = race.by_name[record.entry.name], record.rounds
    published = sum(one["published"] for one in rounds)
    stored = sum(one["stored"] for one in rounds)
    phases = [one[part] for one in rounds for part in ("throughput", "paced") if one.get(part)]
    return {
        "name": contestant.name,
        "label": contestant.label,
        "loop": record.entry.loop,
        "message_ids": contestant.message_ids,
        "acknowledged": contestant.acknowledged,
        "failure": record.failure,
        "published": published,
        "stored": stored,
        "lost": published - stored,
        "unacked": sum(phase["messages"] - phase["acked"] for phase in phases) if contestant.acknowledged else None,
        "messages_per_s": _of(rounds, "throughput", lambda t: t["messages"] / t["elapsed_s"]),
        "cpu_us_per_message": _of(rounds, "throughput", lambda t: t["cpu_s"] * 1e6 / t["messages"]),
        "paced_rate": _of(rounds, "paced", lambda p: p["rate"]),
        "p50_ms": _of(rounds, "paced", lambda p: p["p50_ms"]),
        "p99_ms": _of(rounds, "paced", lambda p: p["p99_ms"]),
        "bytes_per_pending_frozen": _of(rounds, "pending", lambda p: p["frozen_bytes"]),
        "bytes_per_pending": _of(rounds, "pending", lambda p: p["awaiting_bytes"]),
        "rounds": rounds,
    }


_RATIOS = {"rate": "messages_per_s", "cpu": "cpu_us_per_message", "p50": "p50_ms", "p99": "p99_ms"}


def _ratios(row: dict[str, Any], other: dict[str, Any] | None) -> dict[str, float] | None:
    """Each figure of ``row`` as a multiple of the other's, by their medians; what one of them lacks is left out."""
    if other is None:
        return None
    return {
        short: row[name]["median"] / other[name]["median"]
        for short, name in _RATIOS.items()
        if row[name] and other[name]
    }


def rows_of(race: Race, records: Sequence[Record]) -> list[dict[str, Any]]:
    """A row for each entry, in their order. Compared are entries with the same event loop and the same use of ids."""
    rows = [_row(race, record) for record in records]
    by_entry = {Entry(row["name"], row["loop"]): row for row in rows}
    for row in rows:
        contestant = race.by_name[row["name"]]
        for reference in race.references:
            row[reference.key] = _ratios(row, by_entry.get(Entry(reference.of(contestant), row["loop"])))
    return rows


def wrong(rows: Sequence[dict[str, Any]]) -> list[str]:
    """What makes a run worthless for an entry, in words: it failed, or acks and stored messages do not agree.

    A contestant without acks may lose messages: that is what it is there to show.
    """
    found = []
    for row in rows:
        name = f"{row['name']} ({row['loop']})"
        if row["failure"]:
            found.append(f"{name}: {row['failure']}")
        elif row["acknowledged"] and (row["lost"] or row["unacked"]):
            found.append(f"{name}: {row['unacked']} without ack, {row['lost']} of {row['published']} not stored")
    return found
