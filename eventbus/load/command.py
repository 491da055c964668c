"""LoadCommand: one run in the terminal: progress while it goes on, then a table, then an exit code."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from eventbus.alerts import Verdict
from eventbus.errors import ConfigError
from eventbus.event import BusEvent, EventKind
from eventbus.load.junit import to_junit
from eventbus.load.plan import LoadPlan
from eventbus.load.plan_text import topics_text
from eventbus.load.progress import ShowsProgress, progress_for
from eventbus.load.run import HURRIED_DRAIN_S, MakeRun, RunResult
from eventbus.load.signals import ending_signals
from eventbus.load.summary import kept_up, not_told, to_json, to_rows, verdict
from eventbus.observe import AlertChange, Sample, StoreWriter

CLEAN = 0
NOT_ALL_ACKED = 1
CROSSED = 99
"""A threshold did not hold; k6 ends so too."""
MOCK = "librdkafka's mock, for a first look: it checks no sequence numbers, sizes or logins"
_MARKS: dict[bool | None, tuple[str, str]] = {True: ("✓", "green"), False: ("✗", "bold red"), None: ("?", "yellow")}
SIGNALLED = 128
"""Plus the signal's number, as shells have it: 130 for Ctrl-C."""


class LoadCommand:
    """Runs ``plan`` once. Progress goes to standard error, the table to standard output.

    make_run: of the same plan. total: messages that it has, if known. writer: records the run too.
    json_out: a file for the result as JSON; ``-`` is standard output, and then the table goes to standard error.
    junit_out: a file for the thresholds as JUnit's XML.
    """

    def __init__(
        self,
        plan: LoadPlan,
        make_run: MakeRun,
        *,
        total: int | None = None,
        writer: StoreWriter | None = None,
        json_out: str | None = None,
        junit_out: Path | None = None,
    ) -> None:
        self._plan = plan
        self._total = total
        self._junit_out = junit_out
        self._writer = writer
        self._json_out = json_out
        self._errors = Console(stderr=True)
        self._figures = self._errors if json_out == "-" else Console()
        self._progress: ShowsProgress | None = None
        self._early: list[BusEvent] = []
        self._signal: int | None = None
        self._opening: asyncio.Task[None] | None = None
        self._run = make_run(writer=writer, on_sample=self._sampled, on_event=self._happened, on_alert=self._alerted)

    async def run(self) -> int:
        """The exit code. Raises ConfigError, ConnectFailed or TopicError where nothing could be sent.

        A first signal ends the sending and waits up to 5 s for outstanding acks, a second one ends that wait; in both
        cases the table is printed and an embedded broker is stopped.
        """
        with ending_signals(self._asked_to_end):
            if not await self._opened():
                return self._exit_code(None)
            # Only now: where nothing can be sent, one line about it is all there is.
            self._progress = progress_for(self._errors, self._plan, self._total)
            try:
                mock = f" ({MOCK})" if self._plan.on_mock else ""
                self._progress.say(f"publishing to {self._run.url}{mock}, {topics_text(self._plan)}")
                for event in self._early:
                    self._progress.happened(event)
                result = await self._run.run()
            finally:
                self._progress.close()
        if result.error is not None and not result.snapshot.accepted and not result.snapshot.unacknowledged:
            raise ConfigError(result.error)  # not even the first message could be sent
        self._print(result)
        return self._exit_code(result)

    async def _opened(self) -> bool:
        """Connect; False where a signal came first."""
        self._opening = asyncio.create_task(self._run.open())
        await asyncio.wait([self._opening])
        if self._opening.cancelled():
            return False
        self._opening.result()
        return True

    def _asked_to_end(self, number: int) -> None:
        again, self._signal = self._signal is not None, number
        if self._opening is not None and not self._opening.done():
            self._opening.cancel()
        elif again:
            self._run.stop(0.0)
        else:
            self._run.stop(HURRIED_DRAIN_S)
            if self._progress is not None:
                self._progress.say(
                    f"stopping: waiting up to {HURRIED_DRAIN_S:.0f} s for outstanding acks; Ctrl-C again ends at once"
                )

    def _sampled(self, sample: Sample) -> None:
        if self._progress is not None:
            self._progress.sampled(sample)

    def _happened(self, event: BusEvent) -> None:
        if self._progress is None:
            self._early.append(event)
        elif event.kind is not EventKind.CLOSED:  # the table says so
            self._progress.happened(event)

    def _alerted(self, change: AlertChange) -> None:
        if self._progress is not None and change.state != change.previous and change.state in ("firing", "resolved"):
            self._progress.say(f"alert {change.state}: {change.rule}: {change.text}")

    def _print(self, result: RunResult) -> None:
        # Text and not str: what a broker says may look like rich's markup.
        title = Text(verdict(result), style="bold green" if result.clean else "bold red")
        table = Table(show_header=False, box=None, pad_edge=False)
        table.add_column(no_wrap=True)
        table.add_column(justify="right", no_wrap=True)
        table.add_column(style="dim")
        for row in to_rows(result, self._plan.warm_up_s):
            table.add_row(*map(Text, row))
        self._figures.print(title, table, sep="\n")
        behind = kept_up(result)
        if behind is not None:
            self._figures.print(Text(behind, style="yellow"))
        if result.aborted is not None:
            self._figures.print(Text(f"The run was {result.aborted}.", style="bold red"))
        if result.verdict is not None:
            self._figures.print(verdict_table(result.verdict))
            crossed = sum(row.passed is not True for row in result.verdict.rows)
            if crossed:
                self._figures.print(Text(_crossed(crossed, len(result.verdict.rows)), style="bold red"))
        warnings = not_told(result)
        if self._writer is not None and self._writer.error is not None:
            warnings.append(str(self._writer.error))
        elif result.run_id is not None:
            self._figures.print(Text(f"Kept as {result.run_id}: ackscope runs show last", style="dim"))
        for warning in warnings:
            self._errors.print(f"warning: {warning}", markup=False, highlight=False, soft_wrap=True)
        if self._json_out is not None:
            # A name a line: the histogram has hundreds of numbers, which an indent would spread over as many lines.
            lines = [
                f"  {json.dumps(name)}: {json.dumps(value)}" for name, value in to_json(self._plan, result).items()
            ]
            text = "{\n" + ",\n".join(lines) + "\n}\n"
            if self._json_out == "-":
                print(text, end="", flush=True)
            else:
                _write(Path(self._json_out), text)
        if self._junit_out is not None:
            _write(self._junit_out, to_junit(self._plan, result))

    def _exit_code(self, result: RunResult | None) -> int:
        if self._signal is not None:
            return SIGNALLED + self._signal
        if result is not None and (result.verdict is not None or result.aborted is not None):
            return CROSSED if not result.passed else CLEAN if result.error is None else NOT_ALL_ACKED
        return CLEAN if result is not None and result.clean else NOT_ALL_ACKED


def _crossed(count: int, of: int) -> str:
    if of == 1:
        return "The threshold does not hold."
    return f"{count} of {of} thresholds {'does' if count == 1 else 'do'} not hold."


def verdict_table(verdict: Verdict) -> Table:
    """A tick or a cross for each threshold, with both sides of it as they were in the end."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    table.add_column("threshold", overflow="fold")
    table.add_column("value", justify="right", no_wrap=True)
    table.add_column("limit", justify="right", no_wrap=True, style="dim")
    for row in verdict.rows:
        table.add_row(Text(*_MARKS[row.passed]), Text(row.text), row.value_text, row.threshold_text)
    return table


def _write(path: Path, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from error
