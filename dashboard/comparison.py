"""What is compared: the runs of a comparison of strategies or of brokers, and what their figures advise. Pure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from dashboard import style
from dashboard.broker import KAFKA_URL, NAMES, NATS_URL, SYSTEMS
from dashboard.control import LoadSettings
from dashboard.run_sequence import Planned
from eventbus import AckStrategy
from eventbus.observe import RunInfo
from eventbus.runs import Run

STRATEGIES, BROKERS = "strategies", "brokers"
WARM_UP_S = 1.0
"""Left out of the figures: connecting and the first messages are slower."""
MAX_LABEL = 28
STRATEGY_NAMES = {
    AckStrategy.UNIFIED: "unified",
    AckStrategy.TASK_PER_MESSAGE: "task per message",
    AckStrategy.WAIT_EACH: "wait for each",
    AckStrategy.IGNORE: "ignore acks",
}


@dataclass(frozen=True, slots=True)
class ComparisonPlan:
    """What each run of a comparison does: a constant rate, so that they differ in one thing only.

    rate: messages per second. duration_s: of each run, warm-up included. workers: of the run that waits for each ack,
    which sends as fast as they can and has no rate of its own.
    """

    url: str = NATS_URL
    topic: str = "demo.events"
    rate: float = 5_000.0
    duration_s: float = 10.0
    payload_size: int = 128
    workers: int = 1
    max_pending: int = 10_000
    ack_timeout_s: float = 5.0

    def settings(self, name: str, **more: object) -> LoadSettings:
        """Of one run; more: settings of a LoadPlan."""
        return LoadSettings(
            url=self.url,
            topic=self.topic,
            rate=self.rate,
            payload_size=self.payload_size,
            duration_s=self.duration_s,
            max_pending=self.max_pending,
            ack_timeout_s=self.ack_timeout_s,
            more={"name": name, "warm_up_s": min(WARM_UP_S, self.duration_s / 4), **more},
        )


def strategy_runs(plan: ComparisonPlan, when: str) -> list[Planned]:
    """A run for each strategy. when: the time, for their names."""
    found = []
    for strategy, label in STRATEGY_NAMES.items():
        more: dict[str, object] = {"strategy": str(strategy)}
        if strategy is AckStrategy.WAIT_EACH:
            more |= {"rate": None, "workers": plan.workers}
        found.append(Planned(label, plan.settings(f"{label}, {when}", **more)))
    return found


def broker_runs(plan: ComparisonPlan, when: str) -> list[Planned]:
    """A run for each broker that the dashboard brings along."""
    return [
        Planned(label, replace(plan, url=url).settings(f"{label}, {when}"))
        for url in (NATS_URL, KAFKA_URL)
        for label in (NAMES[SYSTEMS[url]],)
    ]


LABELS = {
    STRATEGIES: tuple(STRATEGY_NAMES.values()),
    BROKERS: tuple(NAMES[SYSTEMS[url]] for url in (NATS_URL, KAFKA_URL)),
}
"""Of the runs of each comparison, in its order."""


def kept(found: Sequence[RunInfo], kind: str) -> list[RunInfo]:
    """The runs of the newest comparison of that kind, by their names; none where no two of them are kept.

    found: newest first. So a comparison is there again after the dashboard was.
    """
    sets: dict[str, dict[str, RunInfo]] = {}
    for run in found:
        label, _, when = run.name.partition(", ")
        if label in LABELS[kind] and when and run.status.is_over:
            sets.setdefault(when, {}).setdefault(label, run)
    newest = next((by_label for by_label in sets.values() if len(by_label) > 1), {})
    return [newest[label] for label in LABELS[kind] if label in newest]


@dataclass(frozen=True, slots=True)
class Finding:
    """What the figures say of one strategy. good: None where it is neither good nor bad."""

    strategy: AckStrategy
    title: str
    text: str
    good: bool | None


def findings(runs: Sequence[Run]) -> list[Finding]:
    """What comparing strategies teaches, in the figures of these very runs; nothing where all have the same one."""
    by_strategy: dict[AckStrategy, Run] = {}
    for run in runs:
        strategy = strategy_of(run)
        if strategy is not None:
            by_strategy.setdefault(strategy, run)
    if len(by_strategy) < 2:
        return []
    unified = by_strategy.get(AckStrategy.UNIFIED)
    return [
        Finding(strategy, *_FINDINGS[strategy](by_strategy[strategy], unified))
        for strategy in AckStrategy
        if strategy in by_strategy
    ]


def strategy_of(run: Run) -> AckStrategy | None:
    """Of a run; None where it is one that is not known here."""
    told = run.info.settings.get("strategy", AckStrategy.UNIFIED)
    return AckStrategy(told) if told in list(AckStrategy) else None


def label_of(run: Run) -> str:
    """What a run is called beside others: as its comparison called it, else its name, else its topic."""
    label, _, when = run.info.name.partition(", ")
    if when and any(label in labels for labels in LABELS.values()):
        return label
    name = run.info.name or run.info.topic
    return name if len(name) <= MAX_LABEL else name[: MAX_LABEL - 1] + "…"


def sent_rate(run: Run) -> float:
    """Messages in a second of sending, after the warm-up."""
    return run.summary.sent / run.summary.sending_s if run.summary.sending_s > 0 else 0.0


def _latency(run: Run, percent: float) -> str:
    return style.duration(run.summary.ack.percentile_s(percent))


def _unified(run: Run, unified: Run | None) -> tuple[str, str, bool | None]:
    summary = run.summary
    sent, acked = summary.sent, summary.counts["acked"]
    fate = (
        f"All {style.count(sent)} messages were acked"
        if acked >= sent
        else f"{style.percent(acked / sent)} of {style.count(sent)} messages were acked, "
        f"{style.count(summary.failed)} failed and are told one by one"
    )
    return (
        "Use this one",
        f"{fate}, at {style.rate(sent_rate(run))}, p99 {_latency(run, 99)}. At most {style.count(summary.pending_max)} "
        "were pending at once; the window bounds that, and one handler takes all acks.",
        True,
    )


def _task_per_message(run: Run, unified: Run | None) -> tuple[str, str, bool | None]:
    summary = run.summary
    lag = ""
    if unified is not None:
        lag = (
            f" The event loop came up to {style.duration(summary.loop_lag_max_s)} late, with the unified handler up to "
            f"{style.duration(unified.summary.loop_lag_max_s)}."
        )
    return (
        "A task a message costs memory",
        f"Up to {style.count(summary.pending_max)} tasks waited at once, one a message, each an object of the event "
        f"loop that is woken on its own: {style.rate(sent_rate(run))}, p99 {_latency(run, 99)}.{lag}",
        None,
    )


def _wait_each(run: Run, unified: Run | None) -> tuple[str, str, bool | None]:
    workers = run.info.settings.get("workers") or 1
    share = ""
    if unified is not None and sent_rate(unified) > 0:
        share = f", {style.percent(sent_rate(run) / sent_rate(unified))} of what the unified run sent"
    return (
        "Waiting for each ack is slow",
        f"{style.rate(sent_rate(run))} with {style.count(workers)} worker{'s' * (workers != 1)}{share}: a worker sends "
        f"nothing before its last message is acked, after {_latency(run, 50)} at the median. A broker farther away "
        "makes it slower still.",
        None if unified is None or sent_rate(run) >= 0.95 * sent_rate(unified) else False,
    )


def _ignore(run: Run, unified: Run | None) -> tuple[str, str, bool | None]:
    seen = ""
    if unified is not None and unified.summary.failed:
        seen = (
            f" The unified run of the same plan saw {style.count(unified.summary.failed)} messages fail; here as many "
            "are lost, and nothing shows it."
        )
    return (
        "Ignored acks lose messages unseen",
        f"{style.count(run.summary.sent)} messages were sent, at {style.rate(sent_rate(run))}, and nobody knows what "
        f"became of one of them: no latency, no failure, no alert.{seen}",
        False,
    )


_FINDINGS: dict[AckStrategy, Callable[[Run, Run | None], tuple[str, str, bool | None]]] = {
    AckStrategy.UNIFIED: _unified,
    AckStrategy.TASK_PER_MESSAGE: _task_per_message,
    AckStrategy.WAIT_EACH: _wait_each,
    AckStrategy.IGNORE: _ignore,
}
