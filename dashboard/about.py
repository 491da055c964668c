"""What there is to know of this AckScope: versions, files and their sizes, documents. Without Streamlit."""

from __future__ import annotations

import importlib.metadata
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from dashboard import style
from eventbus import ConfigError
from eventbus.embedded.nats import find_nats_server
from eventbus.observe import RunInfo, describe_environment

ROOT = Path(__file__).resolve().parent.parent
LICENSE = "Apache License 2.0"
DOCUMENTS = (
    ("README.md", "What it is, how to begin, and how to use the library"),
    ("docs/DESIGN.md", "How it fits together, and which file has what"),
    ("docs/load.md", "Load plans: shapes, templates, replay, several processes"),
    ("docs/alerts.md", "Alert rules, and who is told"),
    ("docs/expressions.md", "What thresholds and rules can ask"),
    ("docs/telemetry.md", "Every span, metric and attribute"),
    ("docs/nats-replies.md", "What NATS answers, and what becomes of it"),
    ("docs/kafka-replies.md", "What Kafka answers, and what becomes of it"),
    ("deploy/README.md", "A collector, Prometheus and Grafana"),
    ("CHANGELOG.md", "What changed"),
)
_PACKAGES = ("streamlit", "nats-py", "aiokafka", "confluent-kafka", "opentelemetry-sdk", "pandas", "plotly", "uvloop")
_NO_PACKAGE = "not installed"
_VERSION_TIMEOUT_S = 5.0
_IMAGE = re.compile(r"!\[[^\]]*\]\([^)]*\)")
_LANGUAGE = re.compile(r"^```\w+", re.MULTILINE)
"""Of code, whose colours would be too pale to read."""
_LINK_IN_REPOSITORY = re.compile(r"\[([^\]]*)\]\((?!https?:)[^)]*\)")


@dataclass(frozen=True, slots=True)
class Fact:
    """One line: what, and its value."""

    what: str
    value: str


@dataclass(frozen=True, slots=True)
class KeptFile:
    """A file of this dashboard. size: in words; why there is none where it cannot be looked at."""

    what: str
    path: Path
    size: str


def versions() -> list[Fact]:
    """Of AckScope, what it runs on, and what it talks to brokers with. Blocks for some 20 ms the first time."""
    environment: dict[str, Any] = describe_environment()
    return [
        Fact("AckScope", _version("ackscope")),
        Fact("Python", environment["python"]),
        Fact("System", f"{environment['system']}, {environment['machine']}, {environment['cores']} cores"),
        *(Fact(name, _version(name)) for name in _PACKAGES),
        Fact("embedded nats-server", server_version()),
    ]


@cache
def server_version() -> str:
    """What the embedded nats-server says of itself."""
    try:
        said = subprocess.run(
            [find_nats_server(), "--version"], capture_output=True, text=True, timeout=_VERSION_TIMEOUT_S, check=True
        ).stdout
    except ConfigError:
        return _NO_PACKAGE
    except (OSError, subprocess.SubprocessError) as error:
        return f"does not tell: {type(error).__name__}"
    return said.strip().removeprefix("nats-server: ").removeprefix("v")


def kept_files(store: Path, rules: Path, profiles: Path) -> list[KeptFile]:
    """Where runs, rules and profiles are, and how large. Blocks for a look at each."""
    beside = [store.with_name(store.name + ending) for ending in ("-wal", "-shm")]
    return [
        KeptFile("Runs", store, _size([store, *beside])),
        KeptFile("Alert rules and sinks", rules, _size([rules])),
        KeptFile("Connection profiles", profiles, _size([profiles])),
    ]


def newest(runs: Sequence[RunInfo]) -> str:
    """The newest run in words; for a bug report."""
    if not runs:
        return "none yet"
    run = runs[0]
    broker = run.environment.get("broker") or run.settings.get("embedded") or run.url.partition("://")[0]
    reason = f": {run.error}" if run.error else ""
    return f"{run.run_id}, {run.status}, {broker}{reason}"


def report(facts: Sequence[Fact], files: Sequence[KeptFile], newest_run: str) -> str:
    """All of it as text, for a bug report: folders of the user without the user's name."""
    rows = [(fact.what, fact.value) for fact in facts]
    rows += [(file.what, f"{short(file.path)} ({file.size})") for file in files]
    rows.append(("Newest run", newest_run))
    return "\n".join(f"{what}: {value}".replace(style.THIN_SPACE, " ") for what, value in rows)


def short(path: Path) -> str:
    """A path with ``~`` for the user's folder."""
    try:
        return str(Path("~") / path.relative_to(Path.home()))
    except (ValueError, RuntimeError):
        return str(path)


def documents() -> dict[str, str]:
    """Those of the repository that are there, with what they are about."""
    return {name: what for name, what in DOCUMENTS if (ROOT / name).is_file()}


def document(name: str) -> str:
    """Its Markdown for a page, where neither its images nor its links into the repository lead anywhere. Blocks."""
    try:
        text = (ROOT / name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return f"It cannot be read: {type(error).__name__}."
    return _LANGUAGE.sub("```", _LINK_IN_REPOSITORY.sub(r"\1", _IMAGE.sub("", text)))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return _NO_PACKAGE


def _size(paths: Sequence[Path]) -> str:
    """Of the first, with those beside it that are there."""
    total = 0
    for number, path in enumerate(paths):
        try:
            total += path.stat().st_size
        except FileNotFoundError:
            if number == 0:
                return "not made yet"
        except OSError as error:
            return f"cannot be looked at: {error.strerror or error}"
    return style.size(total)
