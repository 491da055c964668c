"""The command ``alerts``: try the sinks of a file, check its rules, show the default ones."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eventbus.alerts.defaults import ACK_TIMEOUT_S, MAX_PENDING, default_rules, rules_in_use
from eventbus.alerts.notify import Sink, SinkStatus, try_sinks
from eventbus.alerts.quantity import duration_s, duration_text
from eventbus.alerts.rule import AlertRule
from eventbus.alerts.rule_file import rules_from
from eventbus.alerts.sinks.log import LogSink
from eventbus.alerts.sinks.settings import sinks_from
from eventbus.clock import SystemClock
from eventbus.errors import ConfigError
from eventbus.toml_text import TomlText

DELIVERED = 0
NOT_DELIVERED = 1

_TEST_EXIT_CODES = """\b
Exit codes:
  0    every sink took it
  1    at least one did not
  2    wrong usage, or an unusable file: nothing was sent
"""

_CHECK_EXIT_CODES = """\b
Exit codes:
  0    rules and sinks can be used
  2    wrong usage, or the file cannot be used; the line says where
"""

_FILE = click.Path(path_type=Path)
_JSON = click.option(
    "--json",
    "json_out",
    metavar="OUT",
    help="Write the same as JSON to this file; '-' is standard output, and the table goes to stderr.",
)


def _as_duration(context: click.Context, option: click.Parameter, value: str) -> float:
    try:
        seconds = duration_s(value)
    except ConfigError as error:
        raise click.BadParameter(str(error), context, option) from error
    if not seconds > 0:
        raise click.BadParameter("use more than 0s", context, option)
    return seconds


@click.group()
def alerts() -> None:
    """Check alert rules, and try who is told of alerts."""


@alerts.command(epilog=_TEST_EXIT_CODES)
@click.argument("file", type=_FILE)
@click.option("--sink", "names", multiple=True, metavar="NAME", help="Only this sink; may be given several times.")
@click.option(
    "--severity",
    type=click.Choice(["info", "warning", "critical"]),
    default="warning",
    show_default=True,
    help="Of the test notification.",
)
@click.option(
    "--timeout",
    metavar="DURATION",
    default="15s",
    show_default=True,
    callback=_as_duration,
    help="How long each sink may take.",
)
@_JSON
def test(file: Path, names: Sequence[str], severity: str, timeout: float, json_out: str | None) -> int:
    """Send a test notification through the sinks of FILE ([[sinks]] of a plan or of a file of rules), once each."""
    sinks = _chosen(sinks_from(TomlText.read(file)), names, file)
    _check_writable(json_out)
    if any(isinstance(sink, LogSink) for sink in sinks):
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    statuses = asyncio.run(try_sinks(sinks, clock=SystemClock(), severity=severity, timeout_s=timeout))
    delivered = all(status.delivered for status in statuses)
    _print(_delivery_table(statuses), json_out)
    _write_json({"delivered": delivered, "sinks": [status.to_dict() for status in statuses]}, json_out)
    return DELIVERED if delivered else NOT_DELIVERED


@alerts.command(epilog=_CHECK_EXIT_CODES)
@click.argument("file", type=_FILE)
@_JSON
def check(file: Path, json_out: str | None) -> int:
    """Read the rules and sinks of FILE and show them. Sends nothing."""
    toml = TomlText.read(file)
    _refuse_misspelled(toml)
    rules, sinks = rules_from(toml), sinks_from(toml)
    if not rules and not sinks:
        raise ConfigError(f"{file}: neither [[rules]] nor [[sinks]]; is it the right file?")
    _check_writable(json_out)
    if rules:
        _print(_rule_table(rules), json_out)
        _tell_along(rules, json_out)
    if sinks:
        _print(_sink_table(sinks), json_out)
    _write_json(
        {
            "rules": [rule.to_plain() for rule in rules],
            "sinks": [{"name": sink.name, "where": sink.where} for sink in sinks],
        },
        json_out,
    )
    return 0


@alerts.command(name="list")
@click.option("--max-pending", type=click.IntRange(1), default=10_000, show_default=True, help="Of the run's window.")
@click.option(
    "--ack-timeout",
    metavar="DURATION",
    default="5s",
    show_default=True,
    callback=_as_duration,
    help="Of the run.",
)
@_JSON
def list_rules(max_pending: int, ack_timeout: float, json_out: str | None) -> int:
    """Show the rules of a run that brings none of its own."""
    _check_writable(json_out)
    rules = default_rules(max_pending=max_pending, ack_timeout_s=ack_timeout)
    _print(_rule_table(rules), json_out)
    _write_json({"rules": [rule.to_plain() for rule in rules]}, json_out)
    return 0


def _chosen(sinks: Sequence[Sink], names: Sequence[str], file: Path) -> Sequence[Sink]:
    if not sinks:
        raise ConfigError(f'{file}: no [[sinks]]; write at least one, as in [[sinks]] kind = "log"')
    known = [sink.name for sink in sinks]
    for name in names:
        if name not in known:
            raise ConfigError(f"{file}: no sink is named {name!r}; there are {', '.join(known)}")
    return [sink for sink in sinks if not names or sink.name in names]


def _refuse_misspelled(toml: TomlText) -> None:
    """[[rule]] instead of [[rules]] would silently be no rule at all."""
    for key in toml.data:
        close = get_close_matches(key, ("rules", "sinks"), 1, cutoff=0.75)
        if close and key != close[0]:
            toml.refuse((key,), f"{key!r} is not known here; did you mean {close[0]}?")


def _delivery_table(statuses: Sequence[SinkStatus]) -> Table:
    table = _table("sink", "where", "result", "time", "reason")
    for status in statuses:
        result = Text("✓ delivered", style="green") if status.delivered else Text("✗ failed", style="bold red")
        took = "" if status.last_duration_s is None else f"{status.last_duration_s * 1e3:,.0f} ms"
        reason = status.last_error or ("" if status.delivered else "no answer in time")
        table.add_row(Text(status.name), Text(status.where), result, Text(took), Text(reason))
    return table


def _rule_table(rules: Sequence[AlertRule]) -> Table:
    table = _table("rule", "severity", "fires while", "for", "keeps firing", "summary")
    for rule in rules:
        table.add_row(
            Text(rule.name),
            Text(rule.severity, style={"critical": "bold red", "warning": "yellow"}.get(rule.severity, "")),
            Text(rule.expression.text),
            Text(duration_text(rule.for_s) if rule.for_s else "at once"),
            Text(duration_text(rule.keep_firing_s) if rule.keep_firing_s else ""),
            Text(rule.summary),
        )
    return table


def _tell_along(rules: Sequence[AlertRule], json_out: str | None) -> None:
    """Default rules that the run gets too, since these are inhibited by them."""
    used = rules_in_use(rules, max_pending=MAX_PENDING, ack_timeout_s=ACK_TIMEOUT_S)
    along = [rule.name for rule in used[len(rules) :]]
    if along:
        words = "default rule comes" if len(along) == 1 else "default rules come"
        Console(stderr=json_out == "-").print(f"The {words} along, to inhibit: {', '.join(along)}", markup=False)


def _sink_table(sinks: Sequence[Sink]) -> Table:
    table = _table("sink", "where")
    for sink in sinks:
        table.add_row(Text(sink.name), Text(sink.where))
    return table


def _table(*columns: str) -> Table:
    # Cells are Text and not str: names and reasons of others may look like rich's markup.
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _print(table: Table, json_out: str | None) -> None:
    Console(stderr=json_out == "-").print(table)


def _check_writable(json_out: str | None) -> None:
    if json_out is not None and json_out != "-" and not Path(json_out).parent.is_dir():
        raise ConfigError(f"--json {json_out}: no directory {Path(json_out).parent}")


def _write_json(data: dict[str, Any], json_out: str | None) -> None:
    if json_out is None:
        return
    text = json.dumps(data, indent=2) + "\n"
    if json_out == "-":
        print(text, end="", flush=True)
        return
    try:
        Path(json_out).write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{json_out}: cannot be written: {error.strerror or error}") from error
