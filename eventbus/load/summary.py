"""What a run came to: the rows of the table and the JSON that ``load`` prints. Pure."""

from __future__ import annotations

from typing import Any

from eventbus.latency import LatencyHistogram
from eventbus.load.plan import LoadPlan
from eventbus.load.run import RunResult

PERCENTILES = (50, 95, 99, 99.9)
KEPT_UP_SHARE = 0.99
"""Of what the schedule wanted, that has to be sent for a producer to have kept up."""
KEPT_UP_LAG_S = 0.5
"""And the longest that a message may be sent after its time."""


def to_json(plan: LoadPlan, result: RunResult) -> dict[str, Any]:
    """Plain values. Totals carry BusSnapshot's names, so that ``BusSnapshot.from_dict`` reads them.

    Times are seconds. acked_per_s: over sending and drain. ack_latency_s: of the last attempt, send to ack;
    scheduled_latency_s: from the time that the schedule had for the message to its ack, which shows what waited before
    it was sent; both after the warm-up.
    """
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
        "ack_latency_s": _figures(result.latency),
        "scheduled_latency_s": _figures(result.scheduled),
        "scheduled_latency": result.scheduled.to_dict(),
        "schedule_lag_s": result.schedule_lag_s,
        "kept_up": kept_up(result) is None,
        "verdict": None if result.verdict is None else result.verdict.to_dict(),
        "aborted": result.aborted,
        "sinks": [sink.to_dict() for sink in result.sinks],
        "close": {
            "left_unknown": result.report.left_unknown,
            "left_unsent": result.report.left_unsent,
            "duration_s": result.report.duration_s,
            "timed_out": result.report.timed_out,
        },
    }


def to_rows(result: RunResult, warm_up_s: float = 0.0) -> list[tuple[str, str, str]]:
    """Name, figure and note of each row; figures of zero that are no news are left out. warm_up_s: of the plan."""
    snapshot, latency = result.snapshot, result.latency
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
    later = f", after the first {warm_up_s:g} s" if warm_up_s else ""
    for percent in PERCENTILES:
        rows.append((f"ack latency p{percent:g}", latency_text(latency.percentile_s(percent)), ""))
    rows.append(("ack latency max", latency_text(latency.max_s), f"send to ack, last attempt{later}"))
    if result.scheduled.total:
        for percent in (50, 99):
            rows.append((f"scheduled latency p{percent}", latency_text(result.scheduled.percentile_s(percent)), ""))
        told = f"from its time in the schedule to the ack{later}"
        rows.append(("scheduled latency max", latency_text(result.scheduled.max_s), told))
        rows.append(("schedule lag", latency_text(result.schedule_lag_s), "longest that a message was sent too late"))
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


def kept_up(result: RunResult) -> str | None:
    """None where what was sent is what the schedule wanted, when it wanted it; else a sentence that says why not."""
    snapshot = result.snapshot
    sent = snapshot.accepted + snapshot.unacknowledged + result.refused
    if sent >= KEPT_UP_SHARE * result.offered and result.schedule_lag_s <= KEPT_UP_LAG_S:
        return None
    behind = (
        f"{sent:,} of {result.offered:,} offered messages were sent, up to {latency_text(result.schedule_lag_s)} late"
    )
    if snapshot.stalled_s_total > 0.1 * result.sending_s or snapshot.stalled_s_total > KEPT_UP_LAG_S:
        return (
            f"The broker could not keep up: {behind}; the window of {snapshot.max_pending:,} was full for "
            f"{snapshot.stalled_s_total:.1f} s."
        )
    return f"The producer could not keep up: {behind}. Lower the rate, or use more processes."


def not_told(result: RunResult) -> list[str]:
    """A sentence for each sink that did not take all that it was to be told of alerts."""
    told = []
    for sink in result.sinks:
        lost = sink.failed + sink.dropped
        if lost:
            why = sink.last_error or "there was no time for them"
            many = f"{lost:,} of {lost + sink.delivered:,} notifications of alerts"
            told.append(f"{many} did not arrive at {sink.name} ({sink.where}): {why}")
    return told


def _figures(latency: LatencyHistogram) -> dict[str, float | None]:
    figures = {f"p{p:g}": latency.percentile_s(p) for p in PERCENTILES}
    return {**figures, "max": latency.max_s, "mean": latency.mean_s}


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
