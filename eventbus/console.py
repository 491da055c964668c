"""What commands do alike at the console: options that are checked where plans are, help under headings, outputs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from eventbus.errors import ConfigError


class Converted(click.ParamType[Any]):
    """An option whose text ``convert`` reads; what is wrong with it is told as ConfigError says it."""

    def __init__(self, name: str, convert: Callable[[str], Any]) -> None:
        self.name = name
        self._convert = convert

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Implements click.ParamType."""
        if not isinstance(value, str):
            return value
        try:
            return self._convert(value)
        except ConfigError as error:
            self.fail(str(error), param, ctx)


class HeadedCommand(click.Command):
    """A command with so many options that its help shows them under headings.

    headings: the first option under each, by its name in the program; in the order of the options.
    """

    def __init__(self, *args: Any, headings: Mapping[str, str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._headings = headings

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Implements click.Command."""
        heading, rows = "Options", list[tuple[str, str]]()
        for param in self.get_params(ctx):
            row = param.get_help_record(ctx)
            if row is None or isinstance(param, click.Argument):  # arguments are in the line of usage
                continue
            if param.name in self._headings:
                _section(formatter, heading, rows)
                heading, rows = self._headings[param.name], []
            rows.append(row)
        _section(formatter, heading, rows)


def _section(formatter: click.HelpFormatter, heading: str, rows: Sequence[tuple[str, str]]) -> None:
    if rows:
        with formatter.section(heading):
            formatter.write_dl(rows)


def store_option(what: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """The option of a command that reads or writes a store; what: to begin its help with."""
    return click.option(
        "--store",
        type=click.Path(dir_okay=False, path_type=Path),
        help=f"{what} Default: where the dashboard looks, runs.db in $ACKSCOPE_HOME or in the user's state folder.",
    )


def check_writable(path: Path) -> None:
    """Before anything is sent: a run whose result cannot be kept is of no use. Raises ConfigError."""
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(f"{path}: " + ("is a directory" if path.is_dir() else f"no directory {path.parent}"))
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError(f"{path}: may not be written")


def write(path: Path, text: str) -> None:
    """Write a whole file in UTF-8. Raises ConfigError."""
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from error


def set_up_log(verbose: bool) -> None:
    """verbose: the library's log goes to standard error; else nowhere, since it would break the progress display."""
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    else:
        logging.getLogger().addHandler(logging.NullHandler())
