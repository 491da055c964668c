"""What is compared: the runs of a comparison of strategies or of brokers, and which faults they can have. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from dashboard.broker import KAFKA_URL, NAMES, NATS_URL, SYSTEMS
from dashboard.control import LoadSettings
from dashboard.faults import Offer
from dashboard.run_sequence import Planned
from dashboard.sequence_fault import PlannedFault
from eventbus import AckStrategy
from eventbus.faults import Fault
from eventbus.observe import RunInfo, RunStatus
from eventbus.runs import Run
from eventbus.url import SCHEMES, BrokerUrl

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
    which sends as fast as they can and has no rate of its own. fault: begun at the same moment of each run. network:
    whether it is one of the way to the broker, which then leads through the proxy in each run.
    """

    url: str = NATS_URL
    topic: str = "demo.events"
    rate: float = 5_000.0
    duration_s: float = 10.0
    payload_size: int = 128
    workers: int = 1
    max_pending: int = 10_000
    ack_timeout_s: float = 5.0
    fault: PlannedFault | None = None
    network: bool = False

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
            breakable_network=self.network,
            more={"name": name, "warm_up_s": min(WARM_UP_S, self.duration_s / 4), **more},
        )


def strategy_runs(plan: ComparisonPlan, when: str) -> list[Planned]:
    """A run for each strategy. when: the time, for their names."""
    found = []
    for strategy, label in STRATEGY_NAMES.items():
        more: dict[str, object] = {"strategy": str(strategy)}
        if strategy is AckStrategy.WAIT_EACH:
            more |= {"rate": None, "workers": plan.workers}
        found.append(Planned(label, plan.settings(f"{label}, {when}", **more), plan.fault))
    return found


def broker_runs(plan: ComparisonPlan, when: str, urls: Sequence[str] = (NATS_URL, KAFKA_URL)) -> list[Planned]:
    """A run for each of these brokers; by default those that the dashboard brings along."""
    return [
        Planned(label, replace(plan, url=url).settings(f"{label}, {when}"), plan.fault)
        for url in urls
        for label in (broker_label(url),)
    ]


def broker_label(url: str) -> str:
    """What a broker is called beside another; never with user or password. Raises ConfigError for what is no URL."""
    return NAMES[SYSTEMS[url]] if url in SYSTEMS else BrokerUrl.parse(url).redacted


LABELS = {
    STRATEGIES: tuple(STRATEGY_NAMES.values()),
    BROKERS: tuple(NAMES[SYSTEMS[url]] for url in (NATS_URL, KAFKA_URL)),
}
"""Of the runs of each comparison that needs nothing but what comes along, in its order."""
_GIVEN = re.compile(rf"({'|'.join(map(re.escape, SCHEMES))})://")


def is_label(label: str, kind: str) -> bool:
    """Whether a run of such a comparison is called so: brokers may be others than LABELS has, by their URL."""
    return label in LABELS[kind] or (kind == BROKERS and _GIVEN.match(label) is not None)


def kept(found: Sequence[RunInfo], kind: str) -> list[RunInfo]:
    """The runs of the newest comparison of that kind, by their names; none where no two of them are kept.

    found: newest first. So a comparison is there again after the dashboard was.
    """
    sets: dict[str, dict[str, RunInfo]] = {}
    for run in found:
        label, _, when = run.name.partition(", ")
        if is_label(label, kind) and when and run.status.is_over:
            sets.setdefault(when, {}).setdefault(label, run)
    newest = next((by_label for by_label in sets.values() if len(by_label) > 1), {})
    if kind == BROKERS:
        return sorted(newest.values(), key=lambda run: run.started_wall_s)
    return [newest[label] for label in LABELS[kind] if label in newest]


# ---- faults -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FaultChoice:
    """A fault that a comparison can have, or why it cannot. network: of the way to the broker."""

    fault: Fault
    network: bool
    why_not: str | None = None


def fault_choices(offers: Callable[[RunInfo | None], Sequence[Offer]], urls: Sequence[str]) -> list[FaultChoice]:
    """All faults there are, each with why it cannot be made in runs on all of these brokers. offers: of the desk."""
    by_system = {system: {offer.fault.name: offer for offer in offers(_asking(system))} for system in NAMES}
    others = [url for url in urls if url not in SYSTEMS]
    found: dict[str, FaultChoice] = {}
    for named in by_system.values():
        for name, offer in named.items():
            without = [
                system for system in map(SYSTEMS.get, urls) if system is not None and name not in by_system[system]
            ]
            why_not = None
            if others:
                why_not = "Only the embedded brokers can be broken here, not one that the dashboard did not start."
            elif without and offer.network:
                why_not = f"The {NAMES[without[0]]} tells clients its own addresses, past the proxy that this needs."
            elif without:
                why_not = f"The {NAMES[without[0]]} has no such fault."
            found.setdefault(name, FaultChoice(offer.fault, offer.network, why_not))
    return list(found.values())


def _asking(system: str) -> RunInfo:
    """Nothing but a run on that embedded broker, to ask which faults there are for one."""
    return RunInfo("", 0.0, None, RunStatus.FINISHED, "", "", {"embedded": system}, 0)


# ---- how runs are called ----------------------------------------------------------------------------------------


def strategy_of(run: Run) -> AckStrategy | None:
    """Of a run; None where it is one that is not known here."""
    told = run.info.settings.get("strategy", AckStrategy.UNIFIED)
    return AckStrategy(told) if told in list(AckStrategy) else None


def label_of(run: Run) -> str:
    """What a run is called beside others: as its comparison called it, else its name, else its topic."""
    label, _, when = run.info.name.partition(", ")
    name = run.info.name or run.info.topic
    if when and any(is_label(label, kind) for kind in LABELS):
        name = label
    return name if len(name) <= MAX_LABEL else name[: MAX_LABEL - 1] + "…"
