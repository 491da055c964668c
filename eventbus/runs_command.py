"""``runs`` on the command line: list, show, compare, export, report, name, note, pin, prune and delete kept runs."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eventbus import runs
from eventbus.console import store_option
from eventbus.observe import Retention, RunEditor, default_store_path
from eventbus.runs import tables
from eventbus.viz import export as files
from eventbus.viz.words import time_text

WORSE = 1
NOT_DELETED = 1
MIN_BYTES = 1 << 20
"""What Retention takes at least."""
WIDE = 130
"""Columns of a terminal from which on a list shows all there is of a run."""

_EXIT_CODES = """\b
Exit codes:
  0  done
  2  wrong usage, no such run, or a store that cannot be used
"""
_COMPARE_EXIT_CODES = """\b
Exit codes:
  0  compared; with --fail-if-worse: nothing is worse than in the first run
  1  with --fail-if-worse: something is
  2  wrong usage, no such run, or a store that cannot be used
"""
_DELETE_EXIT_CODES = """\b
Exit codes:
  0  deleted
  1  not deleted, as answered
  2  wrong usage, no such run, or a store that cannot be used
"""
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMG]i?B?|B)?", re.IGNORECASE | re.ASCII)
_FACTORS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def _as_bytes(context: click.Context, option: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    match = _SIZE.fullmatch(value.strip())
    if not match:
        raise click.BadParameter(f"{value!r} is no size; give one as 500MB, 2GiB or 1048576", context, option)
    size = int(float(match[1]) * _FACTORS[(match[2] or "")[:1].lower()])
    if size < MIN_BYTES:
        raise click.BadParameter(f"{value!r} is too small; give at least 1 MiB", context, option)
    return size


_store_option = store_option("File of the store.")


def _json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")(command)


@click.group(name="runs", epilog=_EXIT_CODES)
def runs_group() -> None:
    """Look into runs that were kept, compare them, and hand them on.

    Where a RUN is asked for, give an id, the beginning of one, a name, 'last', or 'baseline' (the newest that is
    pinned).
    """


@runs_group.command(name="list", epilog=_EXIT_CODES)
@click.option(
    "--limit",
    type=click.IntRange(min=1),
    metavar="N",
    default=20,
    show_default=True,
    help="At most so many, newest first.",
)
@_store_option
@_json_option
def list_runs(limit: int, store: Path | None, as_json: bool) -> None:
    """List the newest runs."""
    found = runs.list(store, limit)
    if as_json:
        _print_json({"runs": found.rows()})
        return
    if not found:
        _print(Text(f"no runs are kept in {store or default_store_path()}; ackscope load keeps one"))
        return
    head = ("run", "name", "status", "verdict", "took", "topic", "started", "broker")
    shown = head if Console().width >= WIDE else head[:-2]  # a run's id begins with when it was started
    table = tables.table(*shown)
    table.columns[0].no_wrap = True
    for run in found:
        words = runs.run_words(run.info)
        table.add_row(*(Text(words[name]) for name in shown))
    _print(table)


@runs_group.command(epilog=_EXIT_CODES)
@click.argument("run", default="last")
@_store_option
@_json_option
def show(run: str, store: Path | None, as_json: bool) -> None:
    """Show what a run came to. Default: the last one."""
    found = runs.open(run, store)
    if as_json:
        rows = {name: found.rows(name) for name in ("failures", "events", "alerts")}
        _print_json(found.to_dict() | rows)
        return
    info = found.info
    _print(Text(f"{found.title}: {info.status}", style="bold"))
    where = f"{info.topic} on {info.url}, {time_text(info.started_wall_s)}, run {info.run_id}"
    _print(Text(where, style="dim"))
    for text, style in ((info.error, "red"), (info.notes, "")):
        if text:
            _print(Text(text, style=style))
    for shown in tables.of_run(found):
        _print(shown)


@runs_group.command(epilog=_COMPARE_EXIT_CODES, short_help="Compare two to four runs with the first.")
@click.argument("run", nargs=-1, required=True)
@click.option(
    "--tolerance",
    type=float,
    metavar="SHARE",
    default=0.05,
    show_default=True,
    help="Share by which figures may differ and be the same.",
)
@click.option("--fail-if-worse", is_flag=True, help="Exit with 1 where a figure is worse than in the first run.")
@click.option("--html", type=click.Path(path_type=Path), help="Write a comparison with charts to this file.")
@_store_option
@_json_option
def compare(
    run: Sequence[str],
    tolerance: float,
    fail_if_worse: bool,
    html: Path | None,
    store: Path | None,
    as_json: bool,
) -> int:
    """Compare two to four runs with the first of them, without their warm-ups."""
    found = runs.compare(run, store, tolerance)
    if html is not None:
        files.write_text(found.to_html(), html)
    if as_json:
        _print_json({"runs": [each.to_dict() for each in found.runs], "figures": found.rows(), "worse": found.worse})
    else:
        for shown in tables.of_comparison(found):
            _print(shown)
    return WORSE if fail_if_worse and found.worse else 0


@runs_group.command(epilog=_EXIT_CODES, short_help="Write a run as CSV, Parquet, JSON or HTML.")
@click.argument("run")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--what",
    type=click.Choice(runs.FRAMES),
    default="series",
    show_default=True,
    help="Which rows, in CSV and Parquet.",
)
@click.option("--step", type=float, metavar="SECONDS", help="Length of a row's time. Default: at most 600 rows.")
@_store_option
@_json_option
def export(run: str, file: Path, what: str, step: float | None, store: Path | None, as_json: bool) -> None:
    """Write RUN to FILE, by the ending of its name: .csv, .parquet, .json (all there is) or .html (the report)."""
    found = runs.open(run, store)
    _wrote(found.run_id, found.export(file, what, step), as_json)


@runs_group.command(epilog=_EXIT_CODES, short_help="Write a run's report: one HTML page.")
@click.argument("run", default="last")
@click.argument("file", required=False, type=click.Path(path_type=Path))
@_store_option
@_json_option
def report(run: str, file: Path | None, store: Path | None, as_json: bool) -> None:
    """Write RUN's report to FILE: one HTML page that needs nothing else. Default: the last run, to <its id>.html."""
    found = runs.open(run, store)
    path = file or Path(f"{found.run_id}.html")
    files.write_text(found.to_html(), path)
    _wrote(found.run_id, path, as_json)


@runs_group.command(epilog=_EXIT_CODES, short_help="Write a run's notes, or name it.")
@click.argument("run")
@click.argument("text", required=False)
@click.option("--name", help="Give it this name too, or only; empty takes the name away.")
@_store_option
@_json_option
def note(run: str, text: str | None, name: str | None, store: Path | None, as_json: bool) -> None:
    """Write TEXT as RUN's notes, in place of those it has; empty takes them away."""
    if text is None and name is None:
        raise click.UsageError("give a text, or --name, or both")
    found, editor = runs.open(run, store), _editor(store)
    if text is not None:
        editor.note(found.run_id, text)
    if name is not None:
        editor.rename(found.run_id, name)
    _changed(found, as_json, "noted")


@runs_group.command(epilog=_EXIT_CODES, short_help="Pin a run as a baseline.")
@click.argument("run")
@click.option("--remove", is_flag=True, help="Take the pin away again.")
@_store_option
@_json_option
def pin(run: str, remove: bool, store: Path | None, as_json: bool) -> None:
    """Pin RUN as a baseline: to compare others with, and never deleted to make room."""
    found = runs.open(run, store)
    _editor(store).pin(found.run_id, not remove)
    _changed(found, as_json, "no baseline any more" if remove else "pinned as a baseline")


@runs_group.command(epilog=_EXIT_CODES, short_help="Delete the oldest runs.")
@click.option("--max-runs", type=click.IntRange(min=1), metavar="N", help="Keep at most so many.")
@click.option("--max-size", metavar="SIZE", callback=_as_bytes, help="Keep at most so much: 500MB, 2GiB.")
@_store_option
@_json_option
def prune(max_runs: int | None, max_size: int | None, store: Path | None, as_json: bool) -> None:
    """Delete the oldest runs until the store is within bounds; none that goes on, and no baseline."""
    if max_runs is None and max_size is None:
        raise click.UsageError("give --max-runs, or --max-size, or both")
    done = _editor(store).prune(Retention(max_bytes=max_size, max_runs=max_runs))
    if as_json:
        _print_json(dataclasses.asdict(done))
    else:
        _print(Text(f"{len(done.deleted)} runs deleted; the store holds {done.used_bytes / 1e6:,.1f} MB"))


@runs_group.command(epilog=_DELETE_EXIT_CODES)
@click.argument("run")
@click.option("--yes", is_flag=True, help="Do not ask.")
@_store_option
@_json_option
def delete(run: str, yes: bool, store: Path | None, as_json: bool) -> int:
    """Delete RUN with all that is known of it."""
    found = runs.open(run, store)
    if not yes and not _agreed(f"Delete {found.run_id} ({found.info.topic} on {found.info.url})?"):
        click.echo("not deleted", err=True)
        return NOT_DELETED
    _editor(store).delete(found.run_id)
    if as_json:
        _print_json({"deleted": found.run_id})
    else:
        _print(Text(f"{found.run_id} deleted"))
    return 0


def _agreed(question: str) -> bool:
    try:
        return click.confirm(question, err=True)
    except click.Abort as error:
        if isinstance(error.__context__, EOFError):  # else Ctrl-C
            click.echo(err=True)
            raise click.UsageError("nobody answered; --yes deletes without asking") from None
        raise


def _editor(store: Path | None) -> RunEditor:
    return RunEditor(store or default_store_path())


def _changed(found: runs.Run, as_json: bool, done: str) -> None:
    if as_json:
        _print_json({"run": runs.run_row(found.refreshed().info)})
    else:
        _print(Text(f"{found.run_id}: {done}"))


def _wrote(run_id: str, path: Path, as_json: bool) -> None:
    if as_json:
        _print_json({"run": run_id, "file": str(path), "bytes": path.stat().st_size})
    else:
        _print(Text(f"{run_id} written to {path}"))


def _print(shown: Table | Text) -> None:
    Console().print(shown)


def _print_json(values: Mapping[str, Any]) -> None:
    click.echo(files.to_json(values), nl=False)
