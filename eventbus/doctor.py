"""Doctor: what a broker and the stream of a topic are like, told to people before anything is published."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from eventbus.errors import ConfigError
from eventbus.inspection import Finding, Inspection, Level, ServerFacts, StreamFacts

HEALTHY = 0
WARNED = 1

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
        rows = [("url", inspection.url), *_server_rows(inspection.server), ("topic", inspection.topic)]
        if inspection.stream is not None:
            rows += _stream_rows(inspection.stream)
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
