"""Doctor: what a broker and the stream of a topic are like, told to people before anything is published."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from eventbus.errors import ConfigError
from eventbus.inspection import (
    ClusterFacts,
    Finding,
    Inspection,
    KafkaTopicFacts,
    Level,
    PartitionFacts,
    ServerFacts,
    StreamFacts,
)

HEALTHY = 0
WARNED = 1

_PARTITIONS_SHOWN = 12
"""So many have a line each; the JSON has all."""

Inspect = Callable[[str, str], Awaitable[Inspection]]
"""Of a broker URL and a topic; see eventbus.connect.inspect."""


class Doctor:
    """Looks at one server and one topic, and says what it found.

    json_out: a file for the same as JSON; ``-`` is standard output, and then the text goes to standard error.
    """

    def __init__(self, inspect: Inspect, *, json_out: str | None = None) -> None:
        self._inspect = inspect
        self._json_out = json_out
        self._console = Console(stderr=json_out == "-")

    async def run(self, url: str, topic: str) -> int:
        """The exit code: 1 where something needs attention. Raises ConfigError, ConnectFailed."""
        inspection = await self._inspect(url, topic)
        self._print(inspection)
        if self._json_out is not None:
            self._write_json(inspection, self._json_out)
        return WARNED if inspection.warnings else HEALTHY

    def _print(self, inspection: Inspection) -> None:
        # Text and not str: what a broker says may look like rich's markup.
        table = Table(show_header=False, box=None, pad_edge=False)
        table.add_column(no_wrap=True, style="dim")
        table.add_column(overflow="fold")
        server, stream = inspection.server, inspection.stream
        rows = [("url", inspection.url)]
        rows += _cluster_rows(server) if isinstance(server, ClusterFacts) else _server_rows(server)
        rows.append(("topic", inspection.topic))
        if stream is not None:
            rows += _topic_rows(stream) if isinstance(stream, KafkaTopicFacts) else _stream_rows(stream)
        for row in rows:
            table.add_row(*map(Text, row))
        self._console.print(table)
        for finding in inspection.findings:
            self._console.print(_as_text(finding), soft_wrap=True)
        self._console.print(_verdict(len(inspection.warnings)), soft_wrap=True)

    def _write_json(self, inspection: Inspection, out: str) -> None:
        text = json.dumps(inspection.to_dict(), indent=2) + "\n"
        if out == "-":
            print(text, end="", flush=True)
            return
        try:
            Path(out).write_text(text, encoding="utf-8")
        except OSError as error:
            raise ConfigError(f"{out}: cannot be written: {error.strerror or error}") from error


def _server_rows(server: ServerFacts) -> list[tuple[str, str]]:
    cluster = "on its own" if server.cluster is None else f"in cluster {server.cluster}"
    return [
        ("server", f"{server.name}, nats-server {server.version}, {cluster}"),
        ("connection", f"{server.transport}, {'TLS' if server.tls else 'not encrypted'}"),
        ("round trip", f"{server.round_trip_s * 1e3:.2f} ms"),
        ("JetStream", "enabled" if server.jetstream else "not enabled"),
        ("max payload", f"{server.max_payload_bytes:,} bytes, headers included"),
    ]


def _stream_rows(stream: StreamFacts) -> list[tuple[str, str]]:
    limits = ", ".join(f"{name} {value:,g}" + (" s" if name == "max_age" else "") for name, value in _limits(stream))
    rows = [
        ("stream", stream.name if stream.exists else f"none yet; {stream.name} would be made on the first publish"),
        ("subjects", ", ".join(stream.subjects)),
        ("storage", f"{stream.storage}, {stream.replicas} {'replica' if stream.replicas == 1 else 'replicas'}"),
        ("duplicate window", f"{stream.duplicate_window_s:g} s"),
        ("limits", f"{limits or 'none'}; retention {stream.retention}, discard {stream.discard}"),
    ]
    if stream.exists:
        rows.append(("stored", f"{stream.messages:,} messages, {stream.stored_bytes:,} bytes"))
        rows.append(("consumers", f"{stream.consumers:,}"))
    return rows


def _cluster_rows(cluster: ClusterFacts) -> list[tuple[str, str]]:
    brokers = ", ".join(f"{node} at {address}" for node, address in sorted(cluster.brokers.items()))
    login = f", login {cluster.mechanism}" if cluster.mechanism else ", no login"
    requests = ", ".join(f"{name} {version}" for name, version in cluster.requests.items())
    return [
        ("cluster", f"Kafka, {cluster.cluster or 'without a name'}"),
        ("brokers", f"{len(cluster.brokers)}: {brokers}"),
        ("controller", "none named" if cluster.controller is None else f"{cluster.controller}"),
        ("connection", f"tcp, {'TLS' if cluster.tls else 'not encrypted'}{login}"),
        ("round trip", f"{cluster.round_trip_s * 1e3:.2f} ms"),
        ("requests", f"up to {requests}; brokers do not tell their version"),
    ]


def _topic_rows(topic: KafkaTopicFacts) -> list[tuple[str, str]]:
    def counted(number: int | None) -> str:
        return "as the broker is set up" if number is None else f"{number:,}"

    exists = "yes" if topic.exists else "no; it would be made on the first publish, if it may be"
    rows = [
        ("exists", exists),
        ("partitions", counted(topic.partition_count)),
        ("replicas", counted(topic.replicas)),
    ]
    rows += [(name, _value(name, text)) for name, text in sorted(topic.settings.items())]
    rows += [(f"partition {partition.number}", _state(partition)) for partition in topic.partitions[:_PARTITIONS_SHOWN]]
    if len(topic.partitions) > _PARTITIONS_SHOWN:
        rows.append(("...", f"and {len(topic.partitions) - _PARTITIONS_SHOWN:,} more partitions, all in the JSON"))
    return rows


def _value(name: str, text: str) -> str:
    """A setting with its unit. Kafka says -1 for no limit."""
    if not text.lstrip("-").isdigit():
        return text
    number = int(text)
    if number < 0:
        return "no limit"
    if name.endswith(".ms"):
        return f"{number / 1e3:,g} s"
    return f"{number:,} bytes" if name.endswith(".bytes") else f"{number:,}"


def _state(partition: PartitionFacts) -> str:
    leader = "no leader" if partition.leader is None else f"leader {partition.leader}"
    in_sync = ", ".join(map(str, sorted(partition.in_sync))) or "none"
    return f"{leader}, in sync {in_sync} of {', '.join(map(str, sorted(partition.replicas)))}"


def _limits(stream: StreamFacts) -> list[tuple[str, float]]:
    return sorted(stream.limits.items())


def _as_text(finding: Finding) -> Text:
    style = "bold yellow" if finding.level is Level.WARNING else "bold"
    return Text.assemble(
        (f"{finding.level}: {finding.what}", style), f"\n  why   {finding.why}\n  to do {finding.advice}"
    )


def _verdict(warnings: int) -> Text:
    if not warnings:
        return Text("Nothing to worry about.", style="bold green")
    return Text(f"{warnings} {'warning' if warnings == 1 else 'warnings'}.", style="bold red")
