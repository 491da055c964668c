"""What a run came to: the rows of the table and the JSON that ``load`` prints. Pure."""

from __future__ import annotations

from typing import Any

from eventbus.load.plan import LoadPlan
from eventbus.load.run import RunResult

PERCENTILES = (50, 95, 99)


def to_json(plan: LoadPlan, result: RunResult) -> dict[str, Any]:
    """Plain values. Totals carry BusSnapshot's names, so that ``BusSnapshot.from_dict`` reads them.

    Times are seconds. acked_per_s: over sending and drain. ack_latency_s: of the last attempt, send to ack.
    """
    latency = result.snapshot.latency
    figures: dict[str, float | None] = {f"p{p}": latency.percentile_s(p) for p in PERCENTILES}
    figures["max"], figures["mean"] = latency.max_s, latency.mean_s
    return {
        "status": str(result.status),
        "clean": result.clean,
        "error": result.error,
        "url": result.url,
        "settings": plan.settings(),
        "run_id": result.run_id,
        "offered": result.offered,
        "refused": result.refused,
        "refusal": result.refusal,
        **result.snapshot.to_dict(),
        "sending_s": result.sending_s,
        "elapsed_s": result.elapsed_s,
        "accepted_per_s": _per_s(result.snapshot.accepted, result.sending_s),
        "acked_per_s": _per_s(result.snapshot.acked, result.elapsed_s),
        "ack_latency_s": figures,
        "close": {
            "left_unknown": result.report.left_unknown,
            "left_unsent": result.report.left_unsent,
            "duration_s": result.report.duration_s,
            "timed_out": result.report.timed_out,
        },
    }


def to_rows(result: RunResult) -> list[tuple[str, str, str]]:
    """Name, figure and note of each row; figures of zero that are no news are left out."""
    snapshot, latency = result.snapshot, result.snapshot.latency
    rows = [
        ("offered", f"{result.offered:,}", "messages that the schedule wanted to send"),
        ("accepted", f"{snapshot.accepted:,}", "" if result.offered == snapshot.accepted else _why_fewer(result)),
        ("acked", f"{snapshot.acked:,}", _share(snapshot.acked, snapshot.accepted)),
        ("  duplicates", f"{snapshot.duplicates:,}", "acked, and stored by an earlier attempt"),
        ("  late acks", f"{snapshot.late_acks:,}", "acked after they had been given up"),
        ("rejected", f"{snapshot.rejected:,}", _share(snapshot.rejected, snapshot.accepted, "certainly not stored")),
        ("unknown", f"{snapshot.unknown:,}", _share(snapshot.unknown, snapshot.accepted, "may be stored")),
    ]
    if snapshot.unacknowledged:
        rows.append(("unacknowledged", f"{snapshot.unacknowledged:,}", "sent in a way that has no ack"))
    if result.refused:
        rows.append(("refused", f"{result.refused:,}", f"before sending: {result.refusal}"))
    rows += [
        ("retries", f"{snapshot.retries:,}", ""),
        ("ack timeouts", f"{snapshot.ack_timeouts:,}", ""),
        (
            "rate",
            f"{_per_s(snapshot.accepted, result.sending_s):,.0f} msg/s",
            f"accepted in {result.sending_s:.2f} s of sending",
        ),
    ]
    for percent in PERCENTILES:
        rows.append((f"ack latency p{percent}", latency_text(latency.percentile_s(percent)), ""))
    rows.append(("ack latency max", latency_text(latency.max_s), "send to ack, last attempt"))
    rows += [(f"error {kind}", f"{count:,}", "attempts") for kind, count in sorted(snapshot.errors.items()) if count]
    return rows


def verdict(result: RunResult) -> str:
    """One sentence: what became of what was accepted."""
    snapshot = result.snapshot
    lost = snapshot.accepted - snapshot.acked
    if result.error is not None:
        return f"The run failed: {result.error}"
    if lost:
        return f"{lost:,} of {snapshot.accepted:,} accepted messages were not acked."
    if result.refused:
        return (
            f"All {snapshot.accepted:,} accepted messages were acked; {result.refused:,} were refused before sending."
        )
    return f"All {snapshot.accepted:,} accepted messages were acked."


def latency_text(seconds: float | None) -> str:
    """A latency with the unit that suits it; a dash where there is none."""
    if seconds is None:
        return "-"
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.{2 if seconds < 0.1 else 0}f} ms"
    return f"{seconds:.2f} s"


def _per_s(count: int, seconds: float) -> float:
    return count / seconds if seconds > 0 else 0.0


def _share(part: int, whole: int, note: str = "") -> str:
    if not whole or not (part or not note):
        return note
    return f"{part / whole:.2%}" + (f", {note}" if note else "")


def _why_fewer(result: RunResult) -> str:
    return f"{result.offered - result.snapshot.accepted:,} offered messages found no room or were not sent"
