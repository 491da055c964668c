"""Threshold and Verdict: whether a run was good enough."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from eventbus.alerts.expression import Comparison
from eventbus.alerts.history import History
from eventbus.alerts.quantity import duration_text, shown
from eventbus.alerts.rule import MAX_DURATION_S
from eventbus.alerts.table import PlainSource, Source, Table, expression_at, items_at
from eventbus.errors import ConfigError
from eventbus.toml_text import TomlText

DEFAULT_GRACE_S = 10.0
"""The first seconds of a run are its least steady."""

NAMES = ("expression", "abort", "grace")


@dataclass(frozen=True, slots=True)
class Threshold:
    """A comparison that must hold for a run to pass: a single one, without ``and``.

    abort: the run ends as soon as it does not hold, but not in the first ``grace_s`` seconds (0 to 7 days) of what is
    judged.
    """

    expression: Comparison
    abort: bool = False
    grace_s: float = DEFAULT_GRACE_S

    def __post_init__(self) -> None:
        if not 0 <= self.grace_s <= MAX_DURATION_S:
            raise ConfigError(f"grace is {self.grace_s:g} s; use 0 s to 7 days")
        if self.expression.also:  # a verdict tells one value against one limit
            raise ConfigError(
                f"expression {self.expression.text[:60]!r} is two comparisons; write a threshold for each"
            )

    def to_plain(self) -> str | dict[str, Any]:
        """As ``thresholds_from_plain`` reads it: the expression alone, or a table."""
        if not self.abort and self.grace_s == DEFAULT_GRACE_S:
            return self.expression.text
        return {"expression": self.expression.text, "abort": self.abort, "grace": duration_text(self.grace_s)}


@dataclass(frozen=True, slots=True)
class VerdictRow:
    """One threshold's verdict.

    passed: None where there was nothing to judge. value, threshold: both sides of the comparison, in ``unit``:
    "s", "ratio", "B", "/s", or "" for a count.
    """

    text: str
    passed: bool | None
    value: float | None
    threshold: float | None
    unit: str = ""

    @property
    def value_text(self) -> str:
        """The left side for people, as in "213 ms"; "no data" where there was nothing."""
        return shown(self.value, self.unit)

    @property
    def threshold_text(self) -> str:
        """The right side for people."""
        return shown(self.threshold, self.unit)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a run passed: every threshold held. One about which nothing is known was not met."""

    passed: bool
    rows: tuple[VerdictRow, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` reads them back."""
        return {"passed": self.passed, "rows": [asdict(row) for row in self.rows]}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Verdict:
        """The inverse of ``to_dict``."""
        return cls(bool(data["passed"]), tuple(VerdictRow(**row) for row in data["rows"]))


def judge(thresholds: Iterable[Threshold], history: History) -> Verdict:
    """The verdict on ``history``: of the whole run, and of windows that end now. Nothing of a warm-up is in it."""
    judged = history.judged()
    rows = []
    for threshold in thresholds:
        expression = threshold.expression
        found = expression.evaluate(judged)
        rows.append(VerdictRow(expression.text, found.holds, found.value, found.threshold, expression.unit))
    return Verdict(all(row.passed is True for row in rows), tuple(rows))


def abort_due(thresholds: Iterable[Threshold], history: History, elapsed_s: float) -> Threshold | None:
    """The first threshold with ``abort`` that does not hold, once its grace is over; None where the run may go on.

    elapsed_s: since the run began, as in a Sample; the warm-up is taken off. What has no data yet ends nothing, and
    while the last sample is of the warm-up nothing does.
    """
    last = history.last
    if last is None or last.warming_up:
        return None
    judged = history.judged()
    for threshold in thresholds:
        due = threshold.abort and elapsed_s - history.began_s >= threshold.grace_s
        if due and threshold.expression.evaluate(judged).holds is False:
            return threshold
    return None


def thresholds_from(toml: TomlText, key: Sequence[str | int] = ("thresholds",)) -> tuple[Threshold, ...]:
    """The thresholds of a file: ``[[thresholds]]`` tables, or a list of expressions; none where ``key`` is not there.

    Raises ConfigError: file, line, cause, what is allowed.
    """
    return _thresholds(toml, tuple(key))


def thresholds_from_plain(items: Any) -> tuple[Threshold, ...]:
    """The thresholds of a list, as from JSON. Raises ConfigError: path (``thresholds[2]``), cause, what is allowed."""
    return _thresholds(PlainSource({"thresholds": items}), ("thresholds",))


def _thresholds(source: Source, key: tuple[str | int, ...]) -> tuple[Threshold, ...]:
    found = []
    for at, item in items_at(source, key):
        if isinstance(item, str):
            expression = expression_at(source, at, item)
            try:
                found.append(Threshold(expression))
            except ConfigError as error:
                source.refuse(at, str(error))
            continue
        table = Table(source, at, item, "a threshold")
        table.check_names(NAMES)
        expression, abort = table.expression("expression"), table.boolean("abort", False)
        grace_s = table.seconds("grace", DEFAULT_GRACE_S)
        try:
            found.append(Threshold(expression, abort, grace_s))
        except ConfigError as error:
            table.refuse(str(error).split(maxsplit=1)[0], str(error))  # a refusal begins with what it is about
    return tuple(found)
