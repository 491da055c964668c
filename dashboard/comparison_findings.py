"""What comparing strategies teaches, by the figures of these very runs; what they do not show is said. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dashboard import style
from dashboard.comparison_figures import Side
from eventbus import AckStrategy

SLOWER = 0.95
"""Below this share of another run's rate a run is called slower: figures of the same plan differ by a few percent."""
NOTICEABLE_BYTES = 2 << 20
"""Memory below this is the allocator's: it takes and keeps whole arenas of 1 MiB."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What the figures say of one strategy. good: None where it is neither good nor bad, or not to be seen."""

    strategy: AckStrategy
    title: str
    text: str
    good: bool | None


_Told = tuple[str, str, bool | None]
_Sides = Mapping[AckStrategy, Side]


def findings(sides: Sequence[Side]) -> list[Finding]:
    """A verdict on each strategy, the first run of each; nothing where all have the same one."""
    by_strategy: dict[AckStrategy, Side] = {}
    for side in sides:
        if side.strategy is not None:
            by_strategy.setdefault(side.strategy, side)
    if len(by_strategy) < 2:
        return []
    return [
        Finding(strategy, *_FINDINGS[strategy](by_strategy[strategy], by_strategy))
        for strategy in AckStrategy
        if strategy in by_strategy
    ]


def sent_rate(side: Side) -> float:
    """Messages in a second of sending, after the warm-up."""
    summary = side.run.summary
    return summary.sent / summary.sending_s if summary.sending_s > 0 else 0.0


def _latency(side: Side, percent: float) -> str:
    return style.duration(side.run.summary.ack.percentile_s(percent))


def _unified(side: Side, sides: _Sides) -> _Told:
    summary = side.run.summary
    acked, failed = summary.counts["acked"], summary.failed
    if not acked + failed:
        return "Nothing to see", "No message came to an end after the warm-up.", None
    fastest = max(sides.values(), key=sent_rate)
    slower = sent_rate(side) < SLOWER * sent_rate(fastest)
    fate = (
        f"{style.count(failed)} of {style.count(acked + failed)} messages failed, and each is told"
        if failed
        else f"All {style.count(acked)} messages were acked"
    )
    if side.stored is not None and side.sent is not None:
        fate += f"; the broker stored {style.count(side.stored)} of the {style.count(side.sent)} that were sent in all"
    pace = f"{style.rate(sent_rate(side))}, p99 {_latency(side, 99)}"
    if slower and fastest.strategy is not None:
        pace += f"; the fastest run here sent {style.rate(sent_rate(fastest))}"
    if side.lost_acked:
        return f"{style.count(side.lost_acked)} acked messages are gone", f"{fate}. {pace}.", False
    title = ("Every failure is known" if failed else "Nothing was lost") + (", but it is slower" if slower else "")
    return (
        title,
        f"{fate}. {pace}. At most {style.count(summary.pending_max)} were pending at once, with one handler for all "
        f"their acks{_memory(side)}.",
        None if slower else True,
    )


def _memory(side: Side) -> str:
    return "" if side.memory is None else f" and {style.size(side.memory.growth)} more memory"


def _task_per_message(side: Side, sides: _Sides) -> _Told:
    unified, waited = sides.get(AckStrategy.UNIFIED), side.run.summary.pending_max
    pace = f" {style.rate(sent_rate(side))}, p99 {_latency(side, 99)}."
    if unified is None:
        return "Nothing to compare it with", f"There is no unified run beside it.{pace}", None
    if side.memory is None or unified.memory is None:
        return (
            "Its memory is not known",
            f"Up to {style.count(waited)} tasks waited at once; what they took was not measured in these runs.{pace}",
            None,
        )
    grew = (
        f"Memory grew by {style.size(side.memory.growth)} while up to {style.count(waited)} tasks waited, with the "
        f"unified handler by {style.size(unified.memory.growth)} with up to "
        f"{style.count(unified.run.summary.pending_max)} pending"
    )
    more = side.memory.growth - unified.memory.growth
    if waited and more >= max(NOTICEABLE_BYTES, (1 - SLOWER) * unified.memory.growth):
        return "A task a message costs memory", f"{grew}: {style.size(more / waited)} more a task.{pace}", False
    return (
        "Its memory does not show here",
        f"{grew}. Where more wait at once it would: at a higher rate, or while the broker stands still.{pace}",
        None,
    )


def _wait_each(side: Side, sides: _Sides) -> _Told:
    unified, workers = sides.get(AckStrategy.UNIFIED), side.run.info.settings.get("workers") or 1
    pace = f"{style.rate(sent_rate(side))} with {style.count(workers)} worker{'s' * (workers != 1)}"
    why = f"a worker sends nothing before its last message is acked, after {_latency(side, 50)} at the median"
    if unified is None or sent_rate(unified) <= 0:
        return "Nothing to compare it with", f"{pace}: {why}. There is no unified run beside it.", None
    share = f"{pace}, {style.percent(sent_rate(side) / sent_rate(unified))} of what the unified run sent"
    if sent_rate(side) < SLOWER * sent_rate(unified):
        return "Waiting for each ack is slow", f"{share}: {why}.", False
    return (
        "Waiting was not slower here",
        f"{share}: {why}. A broker farther away, a higher rate of the others or fewer workers would show it.",
        None,
    )


def _ignore(side: Side, sides: _Sides) -> _Told:
    sent, stored, lost = side.unasked, side.stored, side.lost_unseen
    unified, refused = sides.get(AckStrategy.UNIFIED), side.run.summary.counts["rejected"]
    seen = ""
    if refused:
        seen = f" Only what could not be sent for want of a connection is told: {style.count(refused)} messages."
    if unified is not None and unified.run.summary.failed:
        seen += f" The unified run of the same plan saw {style.count(unified.run.summary.failed)} messages fail."
    if sent is None or stored is None or lost is None:
        count = side.run.summary.counts["unacknowledged"]
        return (
            "Nobody knows what was lost",
            f"{style.count(count)} messages were sent with no known end, and how many of them the broker stored was "
            f"not counted.{seen}",
            None,
        )
    told = f"{style.count(sent)} messages were sent without asking for an ack, and the broker stored "
    if lost:
        return (
            f"{style.count(lost)} messages lost unseen",
            f"{told}{style.count(stored)}: {style.percent(lost / sent)} of them are gone, and no failure tells it."
            f"{seen}",
            False,
        )
    return (
        "Nothing was lost this time",
        f"{told}all of them; the run itself would not have told otherwise. A fault such as killing the broker shows "
        f"it.{seen}",
        None,
    )


_FINDINGS: dict[AckStrategy, Callable[[Side, _Sides], _Told]] = {
    AckStrategy.UNIFIED: _unified,
    AckStrategy.TASK_PER_MESSAGE: _task_per_message,
    AckStrategy.WAIT_EACH: _wait_each,
    AckStrategy.IGNORE: _ignore,
}
