"""``load`` on the command line: a plan from a file, a preset and options; then its run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from eventbus.alerts import parse
from eventbus.clock import SystemClock
from eventbus.config import AckStrategy
from eventbus.console import Converted, HeadedCommand, check_writable, set_up_log, store_option, write
from eventbus.errors import ConfigError
from eventbus.load.loop import new_event_loop
from eventbus.load.option_text import (
    dask_from,
    duration_or_none_from,
    header_from,
    rate_from,
    size_from,
    stage_from,
    topic_from,
)
from eventbus.load.payload import open_messages
from eventbus.load.plan import LoadPlan, parse_duration
from eventbus.load.plan_options import plan_of
from eventbus.load.plan_text import plan_text
from eventbus.load.presets import PRESETS
from eventbus.load_bus import driver
from eventbus.observe import StoreWriter, default_store_path
from eventbus.telemetry.environment import Target
from eventbus.telemetry.setup import setup
from eventbus.url import BrokerUrl

_EPILOG = """\b
Examples:
  ackscope load --preset smoke
  ackscope load --rate 5000 --duration 1m --threshold 'p99(ack_latency) < 250ms'
  ackscope load plan.toml --url nats://127.0.0.1:4222 --json result.json

\b
Exit codes:
  0    all thresholds hold; without thresholds: every message was acked
  1    without thresholds: some were not acked, or refused; or the run failed on the way
  2    wrong usage, unusable file, no broker or no topic: nothing was sent
  99   a threshold does not hold
  130  ended by Ctrl-C (143: SIGTERM, 129: SIGHUP); the table tells what was
"""


_HEADINGS = {
    "preset": "What to run",
    "url": "Where to",
    "rate": "How fast",
    "duration": "How long",
    "payload_size": "What to send",
    "strategy": "How acks are awaited",
    "processes": "Who sends",
    "thresholds": "What is asked of it",
    "name": "What is kept of it",
    "verbose": "Other",
}
_FILE = click.Path(path_type=Path)
_DURATION = Converted("duration", parse_duration)
_DURATION_OR_NONE = Converted("duration", duration_or_none_from)


@click.command(cls=HeadedCommand, headings=_HEADINGS, epilog=_EPILOG)
@click.argument("plan_file", metavar="[PLAN.toml]", required=False, type=_FILE)
@click.option("--preset", type=click.Choice(list(PRESETS)), help="A plan that comes along, instead of a file.")
@click.option("--presets", "list_presets", is_flag=True, help="Tell what the presets are, and exit.")
@click.option("--check", is_flag=True, help="Check the plan and show it. Nothing is connected or sent.")
@click.option(
    "--url",
    metavar="URL",
    help="Broker: nats://HOST:PORT, tls://, ws://, wss://; kafka://HOST:PORT, kafka+ssl:// (several by comma); "
    "embedded+nats://, a server of its own; embedded+kafka://, a mock of one; or memory://. Default: embedded+nats://.",
)
@click.option(
    "--topic",
    "topics",
    multiple=True,
    metavar="NAME[=WEIGHT]",
    type=Converted("topic", topic_from),
    help="Topic to publish to; on NATS the subject. Given again: messages go to each by its weight. "
    "Default: demo.events.",
)
@click.option(
    "--rate",
    metavar="RATE",
    type=Converted("rate", rate_from),
    help="Messages per second, or 'max': as fast as the window lets. Default 1000; max with --replay.",
)
@click.option(
    "--stage",
    "stages",
    multiple=True,
    metavar="DURATION:RATE",
    type=Converted("stage", stage_from),
    help="Go from the rate before (at first 0) to RATE within DURATION, as 30s:5000. Given again: the next stage.",
)
@click.option("--poisson", is_flag=True, help="Send at random intervals around the rate, as independent callers do.")
@click.option(
    "--workers", type=int, metavar="N", help="Instead of a rate: N publishers, each of which awaits its ack first."
)
@click.option(
    "--duration",
    metavar="DURATION",
    type=_DURATION,
    help="How long to send: 500ms, 10s, 2m, 1h. Default 10s, unless --count, --stage or --replay is given.",
)
@click.option("--count", type=int, metavar="N", help="Send N messages at most.")
@click.option(
    "--warm-up",
    metavar="DURATION",
    type=_DURATION_OR_NONE,
    help="Leave the first DURATION out of latencies and thresholds. Default 0s.",
)
@click.option(
    "--drain",
    metavar="DURATION",
    type=_DURATION_OR_NONE,
    help="How long to wait for acks after the last message. Default 30s.",
)
@click.option(
    "--payload-size",
    metavar="BYTES",
    type=Converted("size", size_from),
    help="Random payloads of so many bytes, or of a range of sizes as 100-2000. Default 128.",
)
@click.option("--template", type=_FILE, help="JSON payloads made after this file, whose {{ fields }} are made up.")
@click.option("--replay", type=_FILE, help="Send what this JSONL, CSV or Parquet file holds, row by row.")
@click.option(
    "--replay-at",
    type=click.Choice(["rate", "recorded"]),
    help="Replay at the rate, or at the times in the file's 'timestamp'. Default: rate.",
)
@click.option("--loop", is_flag=True, help="Begin the --replay file again at its end.")
@click.option("--keys", type=int, metavar="N", help="Give each message one of N keys, at random.")
@click.option(
    "--header",
    "headers",
    multiple=True,
    metavar="NAME=VALUE",
    type=Converted("header", header_from),
    help="Give each message this header. May be given again.",
)
@click.option("--seed", type=int, metavar="N", help="Make payloads, keys and intervals repeatable.")
@click.option(
    "--strategy", type=click.Choice([str(s) for s in AckStrategy]), help="How acks are treated. Default: unified."
)
@click.option("--max-pending", type=int, metavar="N", help="Messages that may await their ack at once. Default 10,000.")
@click.option(
    "--ack-timeout",
    metavar="DURATION",
    type=_DURATION,
    help="How long to wait for the ack of one attempt. Default 5s.",
)
@click.option("--max-attempts", type=int, metavar="N", help="How often a message is tried. Default 5.")
@click.option("--processes", type=int, metavar="N", help="Share the load among N processes of this machine. Default 1.")
@click.option(
    "--dask",
    metavar="ADDRESS",
    type=Converted("address", dask_from),
    help="Share it among the workers of a Dask cluster: tcp://HOST:PORT.",
)
@click.option(
    "--threshold",
    "thresholds",
    multiple=True,
    metavar="EXPRESSION",
    type=Converted("expression", parse),
    help="What must hold at the end, as 'p99(ack_latency) < 250ms' or 'ratio(failed, accepted) < 1%'. "
    "May be given again. These replace the plan's.",
)
@click.option(
    "--abort", is_flag=True, help="End the run as soon as a --threshold does not hold, but not in its first 10 s."
)
@click.option("--rules", type=_FILE, help="Alert rules, and whom they are told to ([[sinks]]), from this TOML file.")
@click.option("--name", help="A name for the run.")
@store_option("Record the run in this file.")
@click.option("--no-store", is_flag=True, help="Record the run nowhere.")
@click.option(
    "--json",
    "json_out",
    metavar="OUT",
    help="Write the result as JSON to this file; '-' is standard output, and the table goes to stderr.",
)
@click.option(
    "--junit", "junit_out", metavar="OUT", type=_FILE, help="Write the thresholds as JUnit's XML to this file, for CI."
)
@click.option("-v", "--verbose", is_flag=True, help="Show the library's log on standard error.")
@click.pass_context
def load(
    context: click.Context,
    /,
    plan_file: Path | None,
    preset: str | None,
    list_presets: bool,
    store: Path | None,
    no_store: bool,
    json_out: str | None,
    junit_out: Path | None,
    dask: str | None,
    check: bool,
    verbose: bool,
    **options: Any,
) -> int:
    """Send messages as a plan says, and tell what became of each.

    A plan is a TOML file or a preset; options change what it says. Without one, options alone are the plan. Messages
    are sent on time, whether or not acks come (an open model); with --workers, each waits for its ack.
    """
    if list_presets:
        for name, one in PRESETS.items():
            click.echo(f"{name:10} {one.description}")
        return 0
    if no_store and store is not None:
        raise click.UsageError("--store and --no-store exclude each other")
    given = {name: value for name, value in options.items() if _given(context, name)}
    plan = plan_of(plan_file, preset, given)
    BrokerUrl.parse(plan.url)
    for out in (json_out, junit_out):
        if out is not None and str(out) != "-":
            check_writable(Path(out))
    try:
        messages = open_messages(plan)
    except ConfigError as error:
        if plan.template is None:
            raise  # it names the file
        raise ConfigError(f"{options['template'] or plan_file}: {error}") from error
    make_run = driver(plan, messages, clock=SystemClock(), dask=dask)
    if check:
        show(plan, messages.total, json_out)
        return 0
    set_up_log(verbose)
    from eventbus.load.command import LoadCommand  # here: it loads rich, which the worker has no use for

    telemetry = setup()  # before the writer, which would have to be closed where a variable is wrong
    writer = None if no_store else StoreWriter(store or default_store_path())
    if plan.processes > 1 or dask is not None:
        tell_ports(telemetry.targets)
    try:
        command = LoadCommand(
            plan, make_run, total=messages.total, writer=writer, json_out=json_out, junit_out=junit_out
        )
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(command.run())
    finally:
        if writer is not None:
            writer.close()
        telemetry.shutdown()


def tell_ports(targets: Sequence[Target]) -> None:
    """Where several processes publish, each serves its own metrics to Prometheus: one endpoint has not all of them."""
    for target in targets:
        if target.exporter == "prometheus":
            click.echo(
                f"metrics: this process serves {target.endpoint}; each one that publishes serves its own, at the first "
                "free port after it",
                err=True,
            )


def show(plan: LoadPlan, total: int | None, json_out: str | None) -> None:
    """For --check: the plan for people, and as JSON where that was asked for."""
    click.echo("The plan can be run. Nothing was sent.\n" + plan_text(plan, total), err=json_out == "-")
    if json_out is not None:
        told = json.dumps({"settings": plan.settings(), "messages": total}, indent=2) + "\n"
        if json_out == "-":
            click.echo(told, nl=False)
        else:
            write(Path(json_out), told)


def _given(context: click.Context, option: str) -> bool:
    return context.get_parameter_source(option) is ParameterSource.COMMANDLINE
