"""The command line: ``ackscope``, or ``python -m eventbus``. Builds the parts, runs them, and maps errors to exits."""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import click
from click.exceptions import NoArgsIsHelpError
from click.shell_completion import get_completion_class

from eventbus.clock import SystemClock
from eventbus.connect import inspect
from eventbus.console import check_writable, set_up_log, store_option
from eventbus.errors import EventBusError
from eventbus.load.loop import new_event_loop
from eventbus.load.outlet import Outlet
from eventbus.load.signals import ending_signals
from eventbus.load.worker import Worker, read_lines
from eventbus.load_bus import driver
from eventbus.observe import StoreWriter, default_store_path
from eventbus.telemetry.setup import setup

LAST_WORDS_S = 2.0
"""For what a worker has said and nobody has read yet."""
USAGE = 2
INTERRUPTED = 130

_FIRST_STEPS = """\b
First steps:
  ackscope load --preset smoke      five seconds of messages to a NATS server of its own
  ackscope runs show                what became of them
  ackscope doctor nats://127.0.0.1:4222 --topic orders.created
"""
_DOCTOR_EXIT_CODES = """\b
Exit codes:
  0    nothing to worry about
  1    there are warnings
  2    wrong usage, or no server
"""


_LATER: Mapping[str, tuple[str, str]] = {
    "alerts": ("eventbus.alerts.command", "alerts"),
    "load": ("eventbus.load_command", "load"),
    "part": ("eventbus.part_command", "part"),
    "runs": ("eventbus.runs_command", "runs_group"),
}
"""Commands by module and name there: loaded when asked for, since the worker has to be there at once."""


class _Commands(click.Group):
    """Some of them are loaded only when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted([*super().list_commands(ctx), *_LATER])

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _LATER:
            return super().get_command(ctx, cmd_name)
        module, name = _LATER[cmd_name]
        found = getattr(importlib.import_module(module), name)
        assert isinstance(found, click.Command)
        return found


@click.group(
    cls=_Commands,
    invoke_without_command=True,
    epilog=_FIRST_STEPS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.option("--version", is_flag=True, help="Show the version and exit.")
@click.pass_context
def cli(context: click.Context, version: bool) -> None:
    """Publish to NATS JetStream or Kafka, and see what became of every ack."""
    if version:
        click.echo(f"ackscope {_version()}")
        context.exit()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command(epilog=_DOCTOR_EXIT_CODES, short_help="Look at a broker and a topic, and tell what may go wrong.")
@click.argument("url")
@click.option("--topic", required=True, help="Topic to look at; on NATS the subject.")
@click.option(
    "--json",
    "json_out",
    metavar="OUT",
    help="Write what was found as JSON to this file; '-' is standard output, and the text goes to stderr.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show the library's log on standard error.")
def doctor(url: str, topic: str, json_out: str | None, verbose: bool) -> int:
    """Look at the broker at URL and at a topic there, on NATS its stream, and tell what may go wrong. Changes nothing.

    URL: nats://HOST:PORT, tls://, ws://, wss:// or nats+context://NAME; kafka://HOST:PORT or kafka+ssl://.
    """
    if json_out is not None and json_out != "-":
        check_writable(Path(json_out))
    set_up_log(verbose)
    from eventbus.doctor import Doctor  # here: it loads rich, as load does

    return asyncio.run(Doctor(inspect, json_out=json_out).run(url, topic))


@cli.command(short_help="Print what makes a shell complete commands and options.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print what makes SHELL complete commands and options: in ~/.bashrc, eval "$(ackscope completion bash)"."""
    found = get_completion_class(shell)
    assert found is not None
    click.echo(found(cli, {}, "ackscope", "_ACKSCOPE_COMPLETE").source())


@cli.command(short_help="Carry out commands from standard input; the dashboard uses it.")
@store_option("Record runs in this file.")
def worker(store: Path | None) -> int:
    """Carry out commands from standard input, one JSON object a line. The dashboard uses it."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    telemetry = setup()  # before the writer, which would have to be closed where a variable is wrong
    writer = StoreWriter(store or default_store_path())
    outlet = Outlet(1)  # who does not read what is said must not hold up the load
    worker = Worker(
        partial(driver, clock=SystemClock()),
        writer,
        outlet.tell,
        telemetry=lambda: [status.to_dict() for status in telemetry.status()],
    )
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_work(worker))
    finally:
        writer.close()
        telemetry.shutdown()
        worker.tell_telemetry()  # what was exported at the very end
        outlet.close(LAST_WORDS_S)
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Wrong usage and unusable brokers give one line on stderr, and 2."""
    try:
        code = cli.main(
            args=None if arguments is None else list(arguments), prog_name="ackscope", standalone_mode=False
        )
    except NoArgsIsHelpError as error:
        click.echo(error.format_message())
        return 0
    except click.ClickException as error:
        return _fail(error.format_message().rstrip(".") + _where_to_look(error))
    except EventBusError as error:
        return _fail(str(error))
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has gone; without this, Python would complain about it once more when it ends.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code if isinstance(code, int) else 0


async def _work(worker: Worker) -> None:
    with ending_signals(lambda _number: worker.leave()):
        read_lines(0, asyncio.get_running_loop(), worker.command, worker.leave)
        await worker.work()


def _version() -> str:
    try:
        return importlib.metadata.version("ackscope")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _where_to_look(error: click.ClickException) -> str:
    """The help that tells what is missing or not known; what is wrong with a value, the error itself tells."""
    tells = isinstance(error, click.BadParameter) and not isinstance(error, click.MissingParameter)
    if tells or not isinstance(error, click.UsageError) or error.ctx is None:
        return ""
    return f". See: {error.ctx.command_path} --help"


def _fail(text: str) -> int:
    print("error:", " ".join(text.split()), file=sys.stderr)
    return USAGE
