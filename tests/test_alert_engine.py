"""The alert engine: every transition on a fake clock, who is told, and that nothing of it ever goes wrong."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from eventbus.alerts import AlertEngine, AlertPhase, AlertRule, History, default_rules, fingerprint, parse, rules_in_use
from eventbus.alerts.engine import KEPT_CHANGES
from eventbus.errors import ConfigError
from eventbus.latency import LatencyHistogram
from eventbus.observe.run import AlertChange, Sample
from eventbus.snapshot import ConnectionState
from tests.run_samples import MS, sample

EPOCH_S = 1_800_000_000.0
"""Wall time at which the fake runs begin; far from their monotonic time, so that mixing both up shows."""


class Run:
    """Feeds an engine with one sample a second; ``pending`` is what the rules look at, None is no data."""

    def __init__(self, *rules: AlertRule) -> None:
        self.engine = AlertEngine(rules)
        self.now_s = 100.0

    def step(self, pending: float | None, passed_s: float = 1.0) -> list[AlertChange]:
        self.now_s += passed_s
        looked_at = History()
        if pending is not None:
            looked_at.add(sample(self.now_s, pending=pending))
        return self.engine.evaluate(looked_at, self.now_s, self.wall_s)

    @property
    def wall_s(self) -> float:
        return EPOCH_S + self.now_s

    def play(self, values: Iterable[float | None]) -> list[str]:
        """The phase after each second."""
        phases = []
        for value in values:
            self.step(value)
            phases.append(str(self.engine.states()[0].phase))
        return phases


def high(name: str = "high", **given: Any) -> AlertRule:
    """Fires while more than 10 are pending."""
    return AlertRule(name, parse("pending > 10"), **given)


LETTERS = dict(zip("IPFCRN", ("inactive", "pending", "firing", "recovering", "resolved", "no_data"), strict=True))
NONE = None

TRANSITIONS: list[tuple[str, dict[str, Any], list[float | None], str]] = [
    ("never high", {}, [0, 10, 9], "III"),
    ("at once", {}, [11, 12, 10, 10, 11], "FFRRF"),
    ("for", {"for_s": 2}, [11, 11, 11, 11], "PPFF"),
    ("not for long enough", {"for_s": 2}, [11, 11, 9, 11, 11, 11], "PPIPPF"),
    ("for again after it was over", {"for_s": 1}, [11, 11, 0, 11, 11], "PFRPF"),
    ("not for long enough after it was over", {"for_s": 1}, [11, 11, 0, 11, 0], "PFRPI"),
    ("keep firing", {"keep_firing_s": 2}, [11, 0, 0, 0, 0], "FCCRR"),
    ("high again while recovering", {"keep_firing_s": 2}, [11, 0, 11, 0, 0, 0], "FCFCCR"),
    ("for does not count again while recovering", {"for_s": 1, "keep_firing_s": 2}, [11, 11, 0, 11], "PFCF"),
    ("hysteresis", {"clear": 5}, [11, 8, 6, 5, 8, 11], "FFFRRF"),
    ("hysteresis before it fires", {"clear": 5, "for_s": 2}, [11, 8, 11, 11, 11], "PIPPF"),
    ("hysteresis while recovering", {"clear": 5, "keep_firing_s": 3}, [11, 4, 8, 4, 4, 4, 4], "FCFCCCR"),
    ("no data, keep: inactive", {}, [NONE, 0, NONE], "III"),
    ("no data, keep: firing", {}, [11, NONE, NONE, 0], "FFFR"),
    ("no data, keep: time passes", {"for_s": 2}, [11, NONE, 11], "PPF"),
    ("no data, keep: never fires by it", {"for_s": 1}, [11, NONE, NONE, 0], "PPPI"),
    ("no data, keep: recovering", {"keep_firing_s": 1}, [11, 0, NONE, NONE, 0], "FCCCR"),
    ("no data, ok", {"no_data": "ok"}, [NONE, 11, NONE, 11], "IFRF"),
    ("no data, ok: pending", {"no_data": "ok", "for_s": 1}, [11, NONE, 11], "PIP"),
    ("no data, ok: clear does not matter", {"no_data": "ok", "clear": 5}, [11, 8, NONE], "FFR"),
    ("no data, firing", {"no_data": "firing"}, [NONE, NONE, 0], "FFR"),
    ("no data, firing after for", {"no_data": "firing", "for_s": 1}, [NONE, NONE, 0], "PFR"),
    ("no data, firing while recovering", {"no_data": "firing", "keep_firing_s": 9}, [11, 0, NONE], "FCF"),
    ("no data, its own", {"no_data": "no_data"}, [NONE, NONE, 0, NONE, 11, NONE, 0], "NNINFNI"),
    ("no data, its own: pending", {"no_data": "no_data", "for_s": 1}, [11, NONE, 11, 11], "PNPF"),
    ("no data, its own: over", {"no_data": "no_data", "keep_firing_s": 5}, [11, 0, NONE, 11], "FCNF"),
    ("no data, its own: resolved", {"no_data": "no_data"}, [11, 0, NONE, 0], "FRNI"),
    ("too few samples are no data", {"min_samples": 2, "no_data": "no_data"}, [0, 11], "NN"),
]


@pytest.mark.parametrize(("given", "values", "phases"), [t[1:] for t in TRANSITIONS], ids=[t[0] for t in TRANSITIONS])
def test_phases(given: dict[str, Any], values: list[float | None], phases: str) -> None:
    """One value a second, and the phase after each."""
    assert Run(high(**given)).play(values) == [LETTERS[letter] for letter in phases]


@pytest.mark.parametrize(
    ("text", "clear", "values", "phases"),
    [
        ("pending < 5", 8, [4, 6, 7, 8, 5], "FFFRR"),
        ("pending <= 5", None, [5, 6], "FR"),
        ("pending >= 5", 2, [5, 3, 2], "FFR"),
        ("pending == 5", None, [5, 4], "FR"),
        ("pending != 5", None, [4, 5], "FR"),
        ("pending > 0.5 * waiting_publishers + 10", 4, [11, 5, 4], "FFR"),
    ],
)
def test_comparisons_in_both_directions(text: str, clear: float | None, values: list[float], phases: str) -> None:
    """With < it is over when the value has come up to ``clear``, with > when it has come down to it."""
    assert Run(AlertRule("rule", parse(text), clear=clear)).play(values) == [LETTERS[letter] for letter in phases]


def test_change_tells_all() -> None:
    """Rule, both phases, value and threshold at the transition, severity, labels, sentence, and when."""
    run = Run(high(severity="critical", labels={"team": "a"}, summary="Too many", for_s=1))
    (begun,) = run.step(11)
    assert (begun.state, begun.previous, begun.firing) == ("pending", "inactive", False)
    (fired,) = run.step(12)
    assert fired == AlertChange(
        run.wall_s, "high", True, 12.0, 10.0, "Too many", "firing", "pending", "critical", "", {"team": "a"}
    )
    assert run.step(13) == []
    (over,) = run.step(3)
    assert (over.state, over.previous, over.firing, over.value) == ("resolved", "firing", False, 3.0)
    assert run.engine.changes == (begun, fired, over)


def test_change_without_data() -> None:
    """Its value is NaN; without a summary the expression speaks."""
    (change,) = Run(high(no_data="firing")).step(None)
    assert math.isnan(change.value)
    assert change.text == "pending > 10"


def test_states() -> None:
    """Every rule in its order, since when by the wall, and both sides of its expression."""
    run = Run(high(), high("low", for_s=60))
    assert [(s.rule.name, s.phase, s.since_s, s.value) for s in run.engine.states()] == [
        ("high", AlertPhase.INACTIVE, 0.0, None),
        ("low", AlertPhase.INACTIVE, 0.0, None),
    ]
    run.step(11)
    since = run.wall_s
    run.step(12)
    assert [(s.phase, s.since_s, s.value, s.threshold, s.muted) for s in run.engine.states()] == [
        (AlertPhase.FIRING, since, 12.0, 10.0, ""),
        (AlertPhase.PENDING, since, 12.0, 10.0, ""),
    ]


def test_repeats_while_it_fires() -> None:
    """Each repeat_s a change from firing to firing; not while it recovers, and not once it is over."""
    run = Run(high(repeat_s=10, keep_firing_s=30))
    told = []
    for second in range(70):
        told += [(second, change.previous, change.state) for change in run.step(11 if second < 36 else 0)]
    assert told == [
        (0, "inactive", "firing"),
        (10, "firing", "firing"),
        (20, "firing", "firing"),
        (30, "firing", "firing"),
        (36, "firing", "recovering"),
        (66, "recovering", "resolved"),
    ]


def test_silence_until_its_end() -> None:
    """What happens while silenced is recorded with who silenced it; what still fires at the end is told then."""
    run = Run(high())
    run.engine.silence("high", run.wall_s + 3.5, "ana", "deploy")
    (fired,) = run.step(11)
    assert fired.muted == "silenced by ana: deploy"
    assert run.engine.states()[0].muted == "silenced by ana: deploy"
    assert (run.step(11), run.step(11)) == ([], [])
    (told,) = run.step(11)
    assert (told.state, told.previous, told.muted) == ("firing", "firing", "")
    assert run.step(11) == []
    assert run.engine.states()[0].muted == ""
    assert run.engine.silences == {}


def test_silence_of_all_and_its_end_by_hand() -> None:
    """ "*" is for all rules; unsilence ends it, and what fires unheard is told."""
    run = Run(high(), high("other"))
    run.engine.silence("*", run.wall_s + 1_000, "ana")
    assert [change.muted for change in run.step(11)] == ["silenced by ana"] * 2
    run.engine.silence(["*"], run.wall_s + 2_000, "ben")
    assert [str(silence) for silence in run.engine.silences.values()] == ["silenced by ben"]
    run.engine.unsilence("*")
    assert [(change.rule, change.muted) for change in run.step(11)] == [("high", ""), ("other", "")]


def test_silence_of_some() -> None:
    """Only those named are silent; a later silence of the same name replaces the first."""
    run = Run(high(), high("other"), high("third"))
    run.engine.silence(["high", "third"], run.wall_s + 1_000, "ana")
    run.engine.silence("third", run.wall_s + 0.5, "ben")
    assert [bool(change.muted) for change in run.step(11)] == [True, False, False]
    run.engine.unsilence(["high"])
    assert [change.rule for change in run.step(11)] == ["high"]


def test_silence_after_it_was_told() -> None:
    """A silence stops repeats; when it ends nobody needs to hear at once what they heard before."""
    run = Run(high(repeat_s=5))
    run.step(11)
    run.engine.silence("high", run.wall_s + 2.5, "ana")
    assert [run.step(11) for _ in range(4)] == [[], [], [], []]
    assert [change.state for change in run.step(11)] == ["firing"]


def test_over_while_silenced() -> None:
    """The end of an alert is recorded as muted as well."""
    run = Run(high())
    run.step(11)
    run.engine.silence("high", run.wall_s + 100, "ana")
    assert [(change.state, change.muted) for change in run.step(0)] == [("resolved", "silenced by ana")]


@pytest.mark.parametrize("names", ["hihg", ["high", "other"], [""]])
def test_silence_of_no_rule(names: str | list[str]) -> None:
    """A name that is no rule is refused, and nothing is silenced."""
    run = Run(high())
    with pytest.raises(ConfigError, match="is not an alert rule; there are high"):
        run.engine.silence(names, run.wall_s + 5, "ana")
    assert run.engine.silences == {}
    with pytest.raises(ConfigError):
        run.engine.silence("*", math.inf, "ana")


def test_acknowledged() -> None:
    """Somebody looks after it: no repeats, not even when it fires again while it recovers; its end is told."""
    run = Run(high(repeat_s=2, keep_firing_s=2))
    assert not run.engine.acknowledge("high", "ana")
    run.step(11)
    assert run.engine.acknowledge("high", "ana")
    assert (run.engine.states()[0].acknowledged, run.engine.states()[0].muted) == ("ana", "acknowledged by ana")
    assert [run.step(11) for _ in range(5)] == [[]] * 5
    assert [(change.state, change.muted) for change in run.step(0)] == [("recovering", "")]
    assert [(change.state, change.muted) for change in run.step(11)] == [("firing", "acknowledged by ana")]
    assert [change.state for value in (0, 0, 0) for change in run.step(value)] == ["recovering", "resolved"]
    assert run.engine.changes[-1].muted == ""
    assert run.engine.states()[0].acknowledged == ""
    assert [(change.state, change.muted) for change in run.step(11)] == [("firing", "")]
    with pytest.raises(ConfigError):
        run.engine.acknowledge("other", "ana")


def test_inhibited() -> None:
    """While the other fires nobody is told, whatever the order of the rules; what is left when it is over is told."""
    low = high("low", inhibited_by=("very_high",))
    very_high = AlertRule("very_high", parse("pending > 100"), keep_firing_s=1)
    for rules in ((low, very_high), (very_high, low)):
        run = Run(*rules)
        told = {change.rule: change.muted for change in run.step(101)}
        assert told == {"low": "inhibited by very_high", "very_high": ""}
        assert [(change.rule, change.state) for change in run.step(11)] == [("very_high", "recovering")]
        last = {change.rule: (change.state, change.muted) for change in run.step(11)}
        assert last == {"very_high": ("resolved", ""), "low": ("firing", "")}


def test_inhibited_by_one_that_only_waits() -> None:
    """A pending alert inhibits nothing yet."""
    run = Run(high("low", inhibited_by=("other",)), high("other", for_s=5))
    assert [(change.rule, change.muted) for change in run.step(11)] == [("low", ""), ("other", "")]


@pytest.mark.parametrize(
    ("rules", "cause"),
    [
        ([high(), high()], "two rules named 'high'"),
        ([high(inhibited_by=("hihg",)), high("high2")], "did you mean high2"),
        ([high(inhibited_by=("high",))], "would inhibit itself"),
        ([high("a", inhibited_by=("b",)), high("b", inhibited_by=("c",)), high("c", inhibited_by=("a",))], "'a' would"),
        (
            [
                high("no_acks", inhibited_by=("broker_disconnected",)),
                high("broker_disconnected", inhibited_by=("no_acks",)),
            ],
            "itself",
        ),
        ([high("broker_disconnected", inhibited_by=("no_acks",))], "'broker_disconnected' would inhibit itself"),
        ([high(f"r{index}") for index in range(201)], "at most 200"),
    ],
)
def test_rules_that_cannot_be_together(rules: list[AlertRule], cause: str) -> None:
    """One name each; what inhibits is there; no circle in which all mute each other."""
    with pytest.raises(ConfigError, match=cause):
        AlertEngine(rules)


def test_history_of_changes_is_bounded() -> None:
    """The newest thousand are kept."""
    run = Run(high())
    for second in range(1_500):
        run.step(11 if second % 2 else 0)
    assert len(run.engine.changes) == KEPT_CHANGES
    assert run.engine.changes[-1].wall_s == run.wall_s


def test_fingerprint() -> None:
    """The same for the same rule and labels in whatever order, in every process; another for others."""
    assert fingerprint("high", {"a": "1", "b": "2"}) == fingerprint("high", {"b": "2", "a": "1"}) == "ad25bba546aee99f"
    others = {fingerprint("high", {}), fingerprint("high", {"a": "1"}), fingerprint("higha", {}), fingerprint("a", {})}
    assert len(others) == 4


# The default rules, on runs as they are.


class Load:
    """A run at a steady rate, sampled each 250 ms: what a broker acks is up to the test."""

    def __init__(self, rate: float = 1_000, max_pending: int = 10_000, ack_timeout_s: float = 5.0) -> None:
        rules = default_rules(max_pending=max_pending, ack_timeout_s=ack_timeout_s)
        self.engine = AlertEngine(rules)
        self.history = History.covering(rule.expression for rule in rules)
        self.rate, self.max_pending = rate, max_pending
        self.at_s = 0.0
        self.counts = {"offered": 0, "accepted": 0, "acked": 0, "rejected": 0, "unknown": 0, "ack_timeouts": 0}
        self.latency = LatencyHistogram()
        self.changes: list[AlertChange] = []

    def quarter(
        self, *, acks: bool = True, failing: float = 0.0, latency_ms: float = 2, connected: bool = True
    ) -> Sample:
        """The next 250 ms. acks: all that is pending is settled, ``failing`` of it as rejected."""
        self.at_s += 0.25
        counts = self.counts
        new = round(self.rate * 0.25)
        counts["offered"] += new
        counts["accepted"] += min(new, self.max_pending - self.pending)
        if acks:
            settled = self.pending - round(self.rate * 0.002)
            failed = round(settled * failing)
            counts["rejected"] += failed
            counts["acked"] += settled - failed
            bunch = LatencyHistogram.of([round(latency_ms * MS)])
            values = settled - failed
            more = LatencyHistogram(
                {index: values for index in bunch.counts}, values, bunch.sum_ns * values, bunch.max_ns
            )
            self.latency = self.latency.merged(more)
            self.acked_at_s = self.at_s
        age_s = 0.002 if acks else self.at_s - self.acked_at_s
        state = ConnectionState.CONNECTED if connected else ConnectionState.RECONNECTING
        taken = sample(
            self.at_s,
            **counts,
            pending=self.pending,
            max_pending=self.max_pending,
            oldest_pending_age_s=age_s,
            latency=self.latency,
            connection=state,
        )
        self.history.add(taken)
        self.changes += self.engine.evaluate(self.history, self.at_s, EPOCH_S + self.at_s)
        return taken

    @property
    def pending(self) -> int:
        counts = self.counts
        return counts["accepted"] - counts["acked"] - counts["rejected"] - counts["unknown"]

    def told(self) -> list[str]:
        """What people heard, in its order."""
        return [f"{c.rule} {c.state}" for c in self.changes if not c.muted and c.state in ("firing", "resolved")]


@pytest.mark.parametrize(("rate", "max_pending"), [(1_000, 10_000), (20, 10_000), (15_000, 10_000), (1_000, 100_000)])
def test_healthy_run(rate: float, max_pending: int) -> None:
    """No default rule fires, from the first message on, nor when the load ends and all is acked."""
    load = Load(rate, max_pending)
    for _ in range(240):
        load.quarter()
    load.rate = 0
    for _ in range(100):
        load.quarter()
    assert load.told() == []


@pytest.mark.parametrize("rate", [1_000, 200, 40_000])
def test_frozen_broker(rate: float) -> None:
    """A default rule fires within 1.5 s of the broker's last ack, and all are over soon after it answers again."""
    load = Load(rate)
    for _ in range(40):
        load.quarter()
    frozen_at_s = load.at_s
    for _ in range(16):
        load.quarter(acks=False)
    fired = [change for change in load.changes if change.state == "firing" and not change.muted]
    assert "no_acks" in {change.rule for change in fired}
    assert fired[0].wall_s - EPOCH_S - frozen_at_s <= 1.5
    for _ in range(200):
        load.quarter()
    assert {state.phase for state in load.engine.states()} <= {AlertPhase.INACTIVE, AlertPhase.RESOLVED}
    told = load.told()
    assert sorted(line for line in told if line.endswith("firing")) == sorted(
        line.replace("resolved", "firing") for line in told if line.endswith("resolved")
    )


def test_frozen_broker_seen_once_a_second() -> None:
    """Also an engine that evaluates only each second tells of it within 2 s."""
    for offset in range(4):
        load = Load()
        rules = default_rules(max_pending=10_000, ack_timeout_s=5.0)
        engine = AlertEngine(rules)
        for _ in range(40 + offset):
            load.quarter()
        frozen_at_s = load.at_s
        fired_at_s = math.inf
        for quarter in range(12):
            load.quarter(acks=False)
            if (40 + offset + quarter) % 4 == 3 and engine.evaluate(load.history, load.at_s, load.at_s):
                fired_at_s = min(fired_at_s, load.at_s)
        assert fired_at_s - frozen_at_s <= 2.0


def test_broker_away() -> None:
    """People are told that the broker is away, and not of everything that follows from it."""
    load = Load()
    for _ in range(40):
        load.quarter()
    for _ in range(18):
        load.quarter(acks=False, connected=False)
    for _ in range(100):
        load.quarter()
    assert load.told() == ["broker_disconnected firing", "broker_disconnected resolved"]
    assert {change.rule for change in load.changes if change.muted} >= {"no_acks", "oldest_pending"}


def test_errors() -> None:
    """2 % refused: the ratio and both burn rates fire, and are over again when their windows are."""
    load = Load()
    for _ in range(400):
        load.quarter()
    for _ in range(80):
        load.quarter(failing=0.02)
    assert load.told() == ["error_ratio firing"]
    for _ in range(4 * 60):
        load.quarter(failing=0.02)
    assert set(load.told()) == {f"{name} firing" for name in ("error_ratio", "error_budget_fast", "error_budget_slow")}
    for _ in range(4 * 420):
        load.quarter()
    assert {state.phase for state in load.engine.states()} <= {AlertPhase.INACTIVE, AlertPhase.RESOLVED}


def test_burn_rate_that_is_over() -> None:
    """The short window ends the fast one 5 s after its cause, and 5 s later it is told; the long one alone would hold
    it for most of a minute. It comes back only with failures that are new."""
    load = Load()
    for _ in range(400):
        load.quarter()
    for _ in range(40):
        load.quarter(failing=0.2)
    assert "error_budget_fast firing" in load.told()
    over_at_s = load.at_s
    for _ in range(48):
        load.quarter()
    (ended,) = [change for change in load.changes if (change.rule, change.state) == ("error_budget_fast", "resolved")]
    assert 9 <= ended.wall_s - EPOCH_S - over_at_s <= 11
    long = parse("ratio(failed, settled, 1m) > 1.44%").evaluate(load.history)
    assert long.holds
    load.quarter(failing=0.0)
    for _ in range(8):
        load.quarter(failing=0.2)
    assert load.told().count("error_budget_fast firing") == 2


def test_one_bad_moment_is_no_burn_rate() -> None:
    """5 % within 5 s, after a minute without any: the short window alone fires nothing."""
    load = Load()
    for _ in range(400):
        load.quarter()
    for _ in range(12):
        load.quarter(failing=0.05)
    assert parse("ratio(failed, settled, 5s) > 1.44%").evaluate(load.history).holds
    assert not [line for line in load.told() if line.startswith("error_budget")]


def test_failures_in_bursts_are_one_burn_rate() -> None:
    """All that is sent to a broker that is gone fails in a burst at each ack timeout: between two bursts the short
    window says nothing, and the alert goes on all the same."""
    load = Load()
    for _ in range(400):
        load.quarter()
    for _ in range(4):
        for _ in range(23):
            load.quarter(acks=False)
        load.quarter(failing=1.0)
    assert "error_budget_fast firing" in load.told()
    assert "error_budget_fast resolved" not in load.told()


def test_default_rules_come_along_where_they_inhibit() -> None:
    """With limits that fit the run; an own rule of the same name takes its place; what is not named stays away."""
    own = high("own", inhibited_by=("oldest_pending",))
    used = rules_in_use([own], max_pending=100, ack_timeout_s=30.0)
    assert [rule.name for rule in used] == ["own", "broker_disconnected", "oldest_pending"]
    assert used[2].expression.constant == 15.0
    assert AlertEngine(used).rules == used
    mine = high("broker_disconnected")
    assert rules_in_use([high(inhibited_by=("broker_disconnected",)), mine], max_pending=1, ack_timeout_s=1)[1:] == (
        mine,
    )
    assert rules_in_use(None, max_pending=9, ack_timeout_s=1) == default_rules(max_pending=9, ack_timeout_s=1)
    assert rules_in_use([], max_pending=9, ack_timeout_s=1) == ()


def test_default_rule_that_is_not_there_inhibits_nothing() -> None:
    """An engine takes the rule; it is told, as if the other never fired."""
    run = Run(high(inhibited_by=("broker_disconnected",)))
    assert [change.muted for change in run.step(11)] == [""]


def test_slow_acks() -> None:
    """A 99th percentile above a tenth of the ack timeout, for 2 s."""
    load = Load()
    for _ in range(40):
        load.quarter()
    for _ in range(10):
        load.quarter(latency_ms=700)
    assert load.told() == ["ack_latency firing"]


def test_load_that_is_not_managed() -> None:
    """Offered twice of what the broker acks: the backlog grows, acks fall behind, the window stays full."""
    load = Load(rate=4_000, max_pending=10_000)
    for quarter in range(160):
        load.quarter(acks=quarter % 16 == 0)
    assert {"acks_behind firing", "pending firing"} <= set(load.told())


def test_default_rules_of_the_smallest_windows() -> None:
    """They can be made for any window and ack timeout."""
    for max_pending in (1, 2, 30, 5_000, 10_000_000):
        for ack_timeout_s in (0.05, 0.1 + 0.2, 5, 3_600):
            rules = default_rules(max_pending=max_pending, ack_timeout_s=ack_timeout_s)
            assert len(AlertEngine(rules).states()) == 11


# Whatever comes, in whatever order.


class EngineMachine(RuleBasedStateMachine):
    """Values, gaps in the data, silences and acknowledgements in any order, against the simplest of models."""

    @initialize(
        for_s=st.sampled_from([0.0, 1.0, 2.5]),
        keep_s=st.sampled_from([0.0, 1.0, 2.5]),
        clear=st.sampled_from([None, 5.0]),
        no_data=st.sampled_from(["ok", "keep", "no_data", "firing"]),
        other_no_data=st.sampled_from(["ok", "keep"]),
    )
    def begin(self, for_s: float, keep_s: float, clear: float | None, no_data: str, other_no_data: str) -> None:
        self.rule = high(for_s=for_s, keep_firing_s=keep_s, clear=clear, no_data=no_data, repeat_s=7)
        other = AlertRule("very_high", parse("pending > 15"), no_data=other_no_data)
        muted = high("muted", inhibited_by=("very_high",))
        self.run = Run(self.rule, other, muted)
        self.phase = {name: "inactive" for name in ("high", "very_high", "muted")}
        self.told_s = {name: -math.inf for name in self.phase}
        self.holds_since_s: float | None = None
        self.over_since_s: float | None = None

    @rule(value=st.one_of(st.none(), st.integers(0, 20)), passed_s=st.sampled_from([0.25, 1.0, 3.0]))
    def evaluate(self, value: int | None, passed_s: float) -> None:
        changes = self.run.step(value, passed_s)
        self._remember(value)
        names = [change.rule for change in changes]
        assert len(names) == len(set(names)), "one change for each alert at most"
        for change in changes:
            self._check(change)

    def _remember(self, value: int | None) -> None:
        """Since when it holds without having been seen not to, and the same for being over."""
        if value is None:
            holds = {"ok": False, "firing": True}.get(self.rule.no_data)
            over = holds is False
            if self.rule.no_data == "no_data":
                self.holds_since_s = self.over_since_s = None
        else:
            holds = value > 10
            over = not holds and (self.rule.clear is None or value <= self.rule.clear)
        if holds is not None:
            self.holds_since_s = (self.holds_since_s or self.run.now_s) if holds else None
            self.over_since_s = (self.over_since_s or self.run.now_s) if over else None

    def _check(self, change: AlertChange) -> None:
        assert change.previous == self.phase[change.rule], "each change begins where the last ended"
        assert change.firing == (change.state in ("firing", "recovering"))
        if change.state == change.previous:
            assert change.state == "firing", "only what fires is told again"
            assert not change.muted
        self.phase[change.rule] = change.state
        if change.rule != "high":
            return
        if change.state == "firing" and change.previous in ("inactive", "pending", "resolved", "no_data"):
            assert self.holds_since_s is not None, "fires only while it holds"
            assert self.run.now_s - self.holds_since_s >= self.rule.for_s, "never before `for` has elapsed"
        if change.state == "resolved":
            assert self.over_since_s is not None, "resolves only when it is over"
            assert self.run.now_s - self.over_since_s >= self.rule.keep_firing_s
        if change.state == change.previous == "firing":
            assert self.run.now_s - self.told_s["high"] >= self.rule.repeat_s
        if change.state == "firing" and not change.muted:
            self.told_s["high"] = self.run.now_s

    @rule(until_s=st.sampled_from([0.5, 5.0]))
    def silence(self, until_s: float) -> None:
        self.run.engine.silence("muted", self.run.wall_s + until_s, "ana")

    @rule()
    def unsilence(self) -> None:
        self.run.engine.unsilence("*")

    @rule()
    def acknowledge(self) -> None:
        self.run.engine.acknowledge("muted", "ben")

    @rule()
    def recover(self) -> None:
        """Whatever was, enough good values end it."""
        for _ in range(8):
            self.evaluate(0, 1.0)
        assert {state.phase for state in self.run.engine.states()} <= {AlertPhase.INACTIVE, AlertPhase.RESOLVED}

    @invariant()
    def states_are_what_was_told(self) -> None:
        assert {state.rule.name: str(state.phase) for state in self.run.engine.states()} == self.phase


EngineMachine.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestEngineMachine = EngineMachine.TestCase
