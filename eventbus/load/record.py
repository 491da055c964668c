"""RunRecord: what is made of a run while it goes on, whoever drives it: kept, alerted about, and judged.

One run in this process (LoadRun) and one that is spread over many (FleetRun) hand their samples, events and failed
messages to it; there is no other way into the store, to the alert engine and to the verdict.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace

from eventbus.alerts import (
    AlertEngine,
    AlertState,
    Announcer,
    History,
    Notifier,
    SinkStatus,
    Verdict,
    abort_due,
    judge,
    rules_in_use,
)
from eventbus.event import BusEvent, EventKind
from eventbus.latency import LatencyHistogram
from eventbus.load.plan import LoadPlan
from eventbus.load.shape import Shape
from eventbus.observe import (
    AlertChange,
    FailedMessage,
    FailureGroup,
    RunStatus,
    Sample,
    StoreWriter,
    describe_environment,
)
from eventbus.ports import Clock
from eventbus.report import CloseReport, DeliveryReport


class RunRecord:
    """Of one run. Also the bus's observer: it takes failed messages and events.

    writer: the store; None keeps nothing. notifier: whoever is told of alerts. on_sample, on_event, on_alert: called
    on the loop; they must not wait or raise. on_abort: a threshold with ``abort`` is crossed for longer than its grace;
    called once, with a sentence.
    """

    every_outcome = False

    def __init__(
        self,
        plan: LoadPlan,
        *,
        clock: Clock,
        writer: StoreWriter | None = None,
        notifier: Notifier | None = None,
        on_sample: Callable[[Sample], None] | None = None,
        on_event: Callable[[BusEvent], None] | None = None,
        on_alert: Callable[[AlertChange], None] | None = None,
        on_abort: Callable[[str], None] | None = None,
    ) -> None:
        self._plan = plan
        self._clock = clock
        self._writer = writer
        self._notifier = notifier
        self._on_sample = on_sample
        self._on_event = on_event
        self._on_alert = on_alert
        self._on_abort = on_abort
        rules = rules_in_use(plan.rules, max_pending=plan.max_pending, ack_timeout_s=plan.ack_timeout_s)
        self._engine = AlertEngine(rules)
        expressions = [rule.expression for rule in rules] + [threshold.expression for threshold in plan.thresholds]
        self._history = History.covering(expressions)
        self._announcer: Announcer | None = None
        self._first: Sample | None = None
        self._run_id: str | None = None
        self._early: list[BusEvent] = []
        self._aborted: str | None = None

    @property
    def run_id(self) -> str | None:
        """In the store; None without one, and before ``begin``."""
        return self._run_id

    @property
    def measured_from(self) -> Sample | None:
        """What was counted when the warm-up ended, or until now where it goes on: it is not judged. None without any
        warm-up."""
        return self._first

    @property
    def aborted(self) -> str | None:
        """Why the run had to end before its time; None where it had not."""
        return self._aborted

    def begin(self, url: str, broker: str = "") -> None:
        """The run is about to send. url: without user and password. broker: what answers there, with its version."""
        if self._writer is not None:
            self._run_id = self._writer.begin_run(
                url=url,
                topic=self._plan.topic,
                settings=self._plan.settings(),
                started_wall_s=self._clock.wall_s(),
                name=self._plan.name,
                environment=describe_environment(**({"broker": broker} if broker else {})),
            )
            for event in self._early:
                self._writer.event(self._run_id, event)
            self._early.clear()
        if self._notifier is not None:
            self._announcer = Announcer(self._engine.rules, run_id=self._run_id or "", url=url)

    def draining(self) -> None:
        """Nothing more is sent."""
        if self._writer is not None and self._run_id is not None:
            self._writer.set_status(self._run_id, RunStatus.DRAINING)

    # ---- what the bus tells ------------------------------------------------------------------------------------

    def settled(self, reports: Sequence[DeliveryReport]) -> None:
        """Implements ports.Observer: messages that were not plainly acked."""
        if self._writer is None or self._run_id is None:
            return
        wall_s = self._clock.wall_s()
        self._writer.count_failed(self._run_id, reports, wall_s)
        room = self._writer.room_for_failed(self._run_id)
        if room:
            self._writer.failed(self._run_id, [FailedMessage.of(report, wall_s) for report in reports[:room]])

    def failed_elsewhere(self, messages: Sequence[FailedMessage], groups: Sequence[FailureGroup]) -> None:
        """The same, of a part of the run in another process: some of the messages, and the counts of all since the
        last time."""
        if self._writer is not None and self._run_id is not None:
            self._writer.failed(self._run_id, messages)
            self._writer.count_groups(self._run_id, groups)

    def happened(self, event: BusEvent) -> None:
        """Implements ports.Observer: something that a person would want to know."""
        if self._writer is not None and self._run_id is not None:
            self._writer.event(self._run_id, event)
        elif self._writer is not None:
            self._early.append(event)  # while connecting
        if self._on_event is not None:
            self._on_event(event)

    # ---- samples -----------------------------------------------------------------------------------------------

    def took(self, sample: Sample) -> None:
        """One more look at the run, which does not know of the store yet."""
        if self._writer is not None:
            sample = replace(sample, store_delay_s=self._writer.delay_s)
        if sample.warming_up:
            self._first = sample
            self._history.begin(sample)
        self._history.add(sample)
        if self._writer is not None and self._run_id is not None:
            self._writer.sample(self._run_id, sample)
        self._evaluate(sample)
        if self._on_sample is not None:
            self._on_sample(sample)

    def _evaluate(self, sample: Sample) -> None:
        """At every sample: 0.3 ms for the default rules, and a frozen broker is told of a second sooner."""
        for change in self._engine.evaluate(self._history, sample.elapsed_s, sample.wall_s):
            self._changed(change)
        if self._aborted is None:
            crossed = abort_due(self._plan.thresholds, self._history, sample.elapsed_s)
            if crossed is not None:
                self._aborted = f"aborted after {sample.elapsed_s:.0f} s: {crossed.expression.text} did not hold"
                if self._on_abort is not None:
                    self._on_abort(self._aborted)

    def _changed(self, change: AlertChange) -> None:
        if self._writer is not None and self._run_id is not None:
            self._writer.alert(self._run_id, change)
        if self._on_alert is not None:
            self._on_alert(change)
        if self._notifier is not None and self._announcer is not None:
            self._notifier.notify(self._announcer.notification(change))

    def measured(self, last: Sample) -> tuple[LatencyHistogram, LatencyHistogram]:
        """Of what was acked after the warm-up, until ``last``: latency from the last attempt, and from the schedule."""
        ack, scheduled = last.snapshot.latency, last.scheduled
        if self._first is None:
            return ack, scheduled
        return ack.since(self._first.snapshot.latency), scheduled.since(self._first.scheduled)

    # ---- as people steer it ------------------------------------------------------------------------------------

    def note(self, kind: EventKind, text: str) -> None:
        """Something that was done to the broker or the run from outside, as an event of the run."""
        self.happened(BusEvent(self._clock.wall_s(), kind, text))

    def rate_changed(self, rate: float | None) -> None:
        """An event of the run: it goes on with another rate; None as fast as the window lets."""
        text = "as fast as the window lets" if rate is None else f"{rate:,g} messages/s"
        self.note(EventKind.RATE_CHANGED, f"{text} from now on")

    def shape_changed(self, shape: Shape) -> None:
        """An event of the run: it goes on with another shape."""
        self.note(EventKind.SHAPE_CHANGED, f"the rate follows another shape from now on: {shape.kind}")

    def alerts(self) -> Sequence[AlertState]:
        """Where each rule stands."""
        return self._engine.states()

    def sinks(self) -> tuple[SinkStatus, ...]:
        """What became of what was to be told of alerts, one for each sink."""
        return () if self._notifier is None else self._notifier.status()

    def silence(self, names: Sequence[str], for_s: float, by: str = "", comment: str = "") -> None:
        """Tell nobody of these alerts (``*`` for all) for ``for_s`` seconds. Raises ConfigError for unknown names."""
        self._engine.silence(names, self._clock.wall_s() + for_s, by, comment)

    def acknowledge(self, name: str, by: str = "") -> None:
        """Somebody looks at it: it is not repeated. Raises ConfigError for an unknown name."""
        self._engine.acknowledge(name, by)

    # ---- the end -----------------------------------------------------------------------------------------------

    def end(self, status: RunStatus, error: str | None, report: CloseReport) -> Verdict | None:
        """The run is over; what its thresholds say, None where it has none."""
        if self._notifier is not None and self._announcer is not None:
            for notification in self._announcer.at_end(self._clock.wall_s()):
                self._notifier.notify(notification)
        verdict = judge(self._plan.thresholds, self._history) if self._plan.thresholds else None
        if self._writer is not None and self._run_id is not None:
            self._writer.end_run(
                self._run_id,
                status=status,
                ended_wall_s=self._clock.wall_s(),
                error=error,
                report=asdict(report),
                verdict=None if verdict is None else verdict.to_dict(),
            )
        return verdict
