"""The command line: ``ackscope``, or ``python -m eventbus``. Builds the parts, runs them, and maps errors to exits."""

from __future__ import annotations

import asyncio
import importlib.metadata
import json
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from eventbus.clock import SystemClock
from eventbus.connect import connect, inspect
from eventbus.errors import ConfigError, EventBusError
from eventbus.load.loop import new_event_loop
from eventbus.load.payload import open_payloads
from eventbus.load.plan import LoadPlan, check_rate, parse_duration
from eventbus.load.signals import ending_signals
from eventbus.load.worker import Worker, read_lines
from eventbus.observe import StoreWriter, default_store_path
from eventbus.telemetry.setup import setup

USAGE = 2
INTERRUPTED = 130

_EXIT_CODES = """\b
Exit codes:
  0    everything that was accepted was acked
  1    something was not acked or was refused, or the run failed on the way
  2    wrong usage, unusable file, no broker or no topic: nothing was sent
  130  ended by Ctrl-C (143: SIGTERM, 129: SIGHUP); the table tells what was
"""

_DOCTOR_EXIT_CODES = """\b
Exit codes:
  0    nothing to worry about
  1    there are warnings
  2    wrong usage, or no server
"""


def _as_duration(context: click.Context, option: click.Parameter, value: str | None) -> float | None:
    try:
        return None if value is None else parse_duration(value)
    except ConfigError as error:
        raise click.BadParameter(str(error), context, option) from error


def _as_rate(context: click.Context, option: click.Parameter, value: str | None) -> float | None:
    if value is None or value == "max":
        return None
    try:
        return check_rate(float(value))
    except ConfigError as error:
        raise click.BadParameter(str(error), context, option) from error
    except ValueError as error:
        text = f"{value!r} is not a number of messages per second, nor 'max'"
        raise click.BadParameter(text, context, option) from error


_FILE = click.Path(path_type=Path)


@click.group(invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, help="Show the version and exit.")
@click.pass_context
def cli(context: click.Context, version: bool) -> None:
    """Publish to NATS JetStream or Kafka, and see what became of every ack."""
    if version:
        click.echo(f"ackscope {_version()}")
        context.exit()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@cli.command(epilog=_EXIT_CODES)
@click.option(
    "--url",
    default="embedded+nats://",
    show_default=True,
    help="Broker: nats://HOST:PORT, tls://, ws://, wss://; kafka://HOST:PORT, kafka+ssl:// (several by comma); "
    "embedded+nats://, a server of its own; embedded+kafka://, a mock of one; or memory://.",
)
@click.option("--topic", default="demo.events", show_default=True, help="Topic to publish to; on NATS the subject.")
@click.option(
    "--rate",
    metavar="RATE",
    callback=_as_rate,
    help="Messages per second, or 'max': as fast as the window lets. Default 1000; max with --replay.",
)
@click.option(
    "--duration",
    metavar="DURATION",
    callback=_as_duration,
    help="How long to send: 500ms, 10s, 2m, 1h. Default 10s, unless --count or --replay is given.",
)
@click.option("--count", type=int, help="Send at most so many messages.")
@click.option("--payload-size", type=int, default=128, show_default=True, help="Bytes of each random payload.")
@click.option(
    "--replay", type=_FILE, help="Send the lines of this JSONL file, byte for byte, instead of random payloads."
)
@click.option("--loop", is_flag=True, help="Begin the --replay file again at its end.")
@click.option(
    "--max-pending", type=int, default=10_000, show_default=True, help="Messages that may await their ack at once."
)
@click.option(
    "--ack-timeout",
    metavar="DURATION",
    callback=_as_duration,
    default="5s",
    show_default=True,
    help="How long to wait for the ack of one attempt.",
)
@click.option("--seed", type=int, help="Make the random payloads repeatable.")
@click.option("--store", type=_FILE, help="Record the run in this file too, for the dashboard.")
@click.option(
    "--json",
    "json_out",
    metavar="OUT",
    help="Write the result as JSON to this file; '-' is standard output, and the table goes to stderr.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show the library's log on standard error.")
@click.pass_context
def load(context: click.Context, /, json_out: str | None, store: Path | None, verbose: bool, **options: Any) -> int:
    """Send messages at a constant rate that does not wait for acks, and tell what became of each."""
    plan = _plan(options, payload_size_given=_given(context, "payload_size"), rate_given=_given(context, "rate"))
    if json_out is not None and json_out != "-":
        _check_writable(Path(json_out))
    _set_up_log(verbose)
    payloads = open_payloads(plan)
    from eventbus.load.command import LoadCommand  # here: it loads rich, which the worker has no use for

    writer = None if store is None else StoreWriter(store)
    telemetry = setup()
    try:
        command = LoadCommand(plan, payloads, connect, clock=SystemClock(), writer=writer, json_out=json_out)
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(command.run())
    finally:
        if writer is not None:
            writer.close()
        telemetry.shutdown()


@cli.command(epilog=_DOCTOR_EXIT_CODES)
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
        _check_writable(Path(json_out))
    _set_up_log(verbose)
    from eventbus.doctor import Doctor  # here: it loads rich, as load does

    return asyncio.run(Doctor(inspect, json_out=json_out).run(url, topic))


@cli.command()
@click.option("--store", type=_FILE, help="Where runs are recorded. Default: where the dashboard looks.")
def worker(store: Path | None) -> int:
    """Carry out commands from standard input, one JSON object a line. The dashboard uses it."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    writer = StoreWriter(store or default_store_path())
    telemetry = setup()
    worker = Worker(
        connect,
        writer,
        _reply,
        clock=SystemClock(),
        telemetry=lambda: [status.to_dict() for status in telemetry.status()],
    )
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(_work(worker))
    finally:
        writer.close()
        telemetry.shutdown()
        worker.tell_telemetry()  # what was exported at the very end
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code. Wrong usage and unusable brokers give one line on stderr, and 2."""
    try:
        code = cli.main(
            args=None if arguments is None else list(arguments), prog_name="ackscope", standalone_mode=False
        )
    except click.ClickException as error:
        return _fail(error.format_message())
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


def _reply(reply: Mapping[str, Any]) -> None:
    """One line on standard output, unbuffered; where nobody reads it any more it is lost."""
    left = (json.dumps(reply) + "\n").encode()
    try:
        while left:
            left = left[os.write(1, left) :]
    except OSError:
        pass


def _plan(options: Mapping[str, Any], *, payload_size_given: bool, rate_given: bool) -> LoadPlan:
    values = dict(options)
    values["duration_s"] = values.pop("duration")
    values["ack_timeout_s"] = values.pop("ack_timeout")
    if values["replay"] is None:
        if values["loop"]:
            raise click.UsageError("--loop needs --replay")
        if not rate_given:
            values["rate"] = 1000.0
        if values["duration_s"] is None and values["count"] is None:
            values["duration_s"] = 10.0
    elif payload_size_given:
        raise click.UsageError("--payload-size and --replay exclude each other")
    return LoadPlan(**values)


def _given(context: click.Context, option: str) -> bool:
    return context.get_parameter_source(option) is ParameterSource.COMMANDLINE


def _check_writable(path: Path) -> None:
    """Before anything is sent: a run whose result cannot be kept is of no use."""
    if path.is_dir() or not path.parent.is_dir():
        raise ConfigError(f"--json {path}: " + ("is a directory" if path.is_dir() else f"no directory {path.parent}"))
    if not os.access(path if path.exists() else path.parent, os.W_OK):
        raise ConfigError(f"--json {path}: may not be written")


def _set_up_log(verbose: bool) -> None:
    if verbose:
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    else:
        # The progress display shows what happens; a log beside it would break its lines.
        logging.getLogger().addHandler(logging.NullHandler())


def _version() -> str:
    try:
        return importlib.metadata.version("ackscope")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed)"


def _fail(text: str) -> int:
    print("error:", " ".join(text.split()), file=sys.stderr)
    return USAGE
