"""The shape of the code: which module may import which, what is public, and where the outside world may be known."""

from __future__ import annotations

import ast
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]

LAYERS: tuple[frozenset[str], ...] = (
    frozenset(
        {
            "message",
            "topic",
            "report",
            "errors",
            "config",
            "context",
            "snapshot",
            "event",
            "latency",
            "url",
            "clock",
            "inspection",
            "toml_text",
        }
    ),
    frozenset({"ports", "receipt"}),
    frozenset({"ack"}),
    frozenset({"publishers", "observe", "telemetry", "alerts", "load", "faults", "embedded", "viz", "audit"}),
    frozenset(
        {
            "bus",
            "bus_figures",
            "routing",
            "connect",
            "doctor",
            "runs",
            "console",
            "load_bus",
            "load_command",
            "own_broker",
            "part_command",
            "stall",
            "unacknowledged",
            "runs_command",
            "cli",
            "__main__",
            "__init__",
        }
    ),
)
"""Parts of eventbus from the bottom up; each module belongs to the part that its first name after eventbus says."""

ADAPTERS = 3
SHARED_VALUES = frozenset({"eventbus.observe.run"})
"""Frozen values of a run (samples, failed messages): they lie in observe/, and import nothing above the ports."""

FOR_USERS = frozenset(
    {
        "eventbus",
        "eventbus.alerts",
        "eventbus.alerts.quantity",
        "eventbus.alerts.rule",
        "eventbus.alerts.table",
        "eventbus.alerts.term",
        "eventbus.connect",
        "eventbus.embedded.kafka",
        "eventbus.embedded.nats",
        "eventbus.faults",
        "eventbus.load.connection",
        "eventbus.load.duration",
        "eventbus.load.loop",
        "eventbus.load.message",
        "eventbus.load.payload",
        "eventbus.load.plan",
        "eventbus.load.plan_file",
        "eventbus.load.presets",
        "eventbus.load.runner",
        "eventbus.load.scheduled_latency",
        "eventbus.load.setting",
        "eventbus.load.shape",
        "eventbus.observe",
        "eventbus.observe.reader",
        "eventbus.observe.run",
        "eventbus.observe.schema",
        "eventbus.runs",
        "eventbus.telemetry.environment",
        "eventbus.telemetry.setup",
        "eventbus.telemetry.status",
    }
)
"""What dashboard/, benchmarks/, examples/ and notebooks/ may import, besides the values and the ports."""

MAY_IMPORT_STREAMLIT = (
    "dashboard/streamlit_app.py",
    "dashboard/widgets.py",
    "dashboard/views/",
    "benchmarks/dashboard.py",
)
"""The last one reads what Streamlit sends to a page."""

PUBLIC = [
    "AckOutcome",
    "AckStrategy",
    "BusClosed",
    "BusEvent",
    "BusSnapshot",
    "CloseReport",
    "ConfigError",
    "ConnectFailed",
    "ConnectionConfig",
    "ConnectionState",
    "DeliveryFailed",
    "DeliveryReport",
    "ErrorClass",
    "ErrorKind",
    "EventBus",
    "EventBusError",
    "EventKind",
    "FlushTimeout",
    "InvalidMessage",
    "KafkaAuth",
    "KafkaConfig",
    "LatencyHistogram",
    "Message",
    "NatsAuth",
    "PingTimeout",
    "Position",
    "PublishRejected",
    "PublishUnknown",
    "Receipt",
    "RetryPolicy",
    "StallTimeout",
    "TlsConfig",
    "TopicConfig",
    "TopicError",
    "WindowConfig",
    "WindowFull",
    "WindowStatistics",
    "connect",
]
"""The exact public names. Adding one is a promise: write it into CHANGELOG.md too."""


class Import(NamedTuple):
    """One imported module, where, and whether it is there when the program runs (not only for type checkers)."""

    path: str
    line: int
    module: str
    at_run_time: bool

    def __str__(self) -> str:
        return f"{self.path}:{self.line} imports {self.module}"


def files(folder: str) -> list[Path]:
    return sorted((ROOT / folder).rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@cache
def imports(path: Path) -> tuple[Import, ...]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for_types = {
        node
        for branch in ast.walk(tree)
        if isinstance(branch, ast.If) and "TYPE_CHECKING" in ast.unparse(branch.test)
        for statement in branch.body
        for node in ast.walk(statement)
    }
    where = str(path.relative_to(ROOT))
    return tuple(
        Import(where, node.lineno, module, node not in for_types)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for module in _modules(node, path)
    )


def _modules(node: ast.Import | ast.ImportFrom, path: Path) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    base = node.module or ""
    if node.level:
        package = module_name(path).split(".")
        above = node.level - (path.name == "__init__.py")
        base = ".".join([*package[: len(package) - above], *([base] if base else [])])
    for alias in node.names:
        below = ROOT.joinpath(*base.split("."), alias.name)
        # `from package import module` imports the module; `from module import name` imports the module before it.
        yield f"{base}.{alias.name}" if below.with_suffix(".py").exists() or below.is_dir() else base


def part_of(module: str) -> str:
    """The part of eventbus that a module belongs to; ``__init__`` for eventbus itself."""
    return [*module.split("."), "__init__"][1]


def layer_of(module: str) -> int:
    if module in SHARED_VALUES:
        return 1
    for layer, parts in enumerate(LAYERS):
        if part_of(module) in parts:
            return layer
    pytest.fail(f"{module} is in no layer: give it one in LAYERS, and in docs/DESIGN.md")


def inside(package: str, module: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def test_library_imports_only_downwards() -> None:
    """A module imports only from its own layer or from below; types for the checker are no exception."""
    wrong = [
        found
        for path in files("eventbus")
        for found in imports(path)
        if inside("eventbus", found.module) and layer_of(found.module) > layer_of(module_name(path))
    ]
    assert not wrong, "\n".join(map(str, wrong))


def test_adapters_know_neither_each_other_nor_the_ledger() -> None:
    """A part of the adapters' layer imports nothing from ack/, and from another part only its package's own names."""
    wrong = [
        found
        for path in files("eventbus")
        if layer_of(own := module_name(path)) == ADAPTERS
        for found in imports(path)
        if inside("eventbus", found.module)
        and (
            inside("eventbus.ack", found.module)
            or (
                layer_of(found.module) == ADAPTERS
                and part_of(found.module) != part_of(own)
                and found.module.count(".") > 1
            )
        )
    ]
    assert not wrong, "\n".join(map(str, wrong))


def test_library_does_not_know_its_users() -> None:
    """Nothing in eventbus imports the dashboard, the benchmarks or the tests: the wheel carries eventbus alone."""
    wrong = [
        found
        for path in files("eventbus")
        for found in imports(path)
        if found.module.split(".")[0] in {"dashboard", "benchmarks", "notebooks", "examples", "tests", "streamlit"}
    ]
    assert not wrong, "\n".join(map(str, wrong))


def test_users_take_only_public_modules() -> None:
    """Dashboard, benchmarks and examples use eventbus through its public names, the values and the store's readers."""
    wrong = [
        found
        for folder in ("dashboard", "benchmarks", "examples")
        for path in files(folder)
        for found in imports(path)
        if inside("eventbus", found.module)
        and found.module not in FOR_USERS
        and not inside("eventbus.viz", found.module)
        and layer_of(found.module) > 1
    ]
    assert not wrong, "\n".join(map(str, wrong))


def test_only_pages_know_streamlit() -> None:
    """Streamlit is imported by the pages and their shared pieces alone, so that the rest runs and tests without it."""
    wrong = [
        found
        for folder in ("dashboard", "benchmarks", "examples")
        for path in files(folder)
        for found in imports(path)
        if inside("streamlit", found.module) and not found.path.startswith(MAY_IMPORT_STREAMLIT)
    ]
    assert not wrong, "\n".join(map(str, wrong))


def test_one_file_of_the_ledger_knows_asyncio() -> None:
    """In ack/ only handler.py runs on asyncio; window, retry and states are plain values without a clock."""
    knowing = {
        found.path
        for path in files("eventbus/ack")
        for found in imports(path)
        if found.module == "asyncio" and found.at_run_time
    }
    assert knowing == {"eventbus/ack/handler.py"}


def test_only_connect_names_the_adapters() -> None:
    """Which publisher a URL means is decided in one place."""
    naming = {
        found.path
        for path in files("eventbus")
        for found in imports(path)
        if inside("eventbus.publishers", found.module) and part_of(module_name(path)) != "publishers"
    }
    assert naming == {"eventbus/connect.py"}


def test_public_names_are_these() -> None:
    """``eventbus.__all__`` is sorted and exactly the promised list, and every name is there."""
    eventbus = import_module("eventbus")
    assert eventbus.__all__ == sorted(eventbus.__all__)
    assert eventbus.__all__ == PUBLIC
    assert [name for name in PUBLIC if not hasattr(eventbus, name)] == []


@pytest.mark.parametrize("path", files("eventbus"), ids=module_name)
def test_every_module_says_what_it_is(path: Path) -> None:
    """The first thing in a module is a sentence about it."""
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


def test_wheel_says_that_it_is_typed() -> None:
    """Type checkers of those who use the library read its annotations only where py.typed lies beside them."""
    assert (ROOT / "eventbus" / "py.typed").exists()


@pytest.mark.parametrize(
    ("file", "extras"),
    [("requirements.txt", ["dashboard", "kafka"]), ("requirements-dev.txt", ["dashboard", "kafka", "otel", "dev"])],
)
def test_requirements_agree_with_pyproject(file: str, extras: list[str]) -> None:
    """Every requirement is pinned to one version that pyproject.toml allows, and the project itself comes last."""
    lines = [line for line in (ROOT / file).read_text(encoding="utf-8").splitlines() if not line.startswith("#")]
    assert lines[-1] == "-e ."
    pins: dict[str, list[Version]] = {}
    for line in lines[:-1]:
        requirement = Requirement(line)
        (pin,) = requirement.specifier
        assert pin.operator == "==", line
        pins.setdefault(canonicalize_name(requirement.name), []).append(Version(pin.version))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *(line for extra in extras for line in project["optional-dependencies"][extra])]
    for requirement in map(Requirement, wanted):
        versions = pins[canonicalize_name(requirement.name)]
        assert all(requirement.specifier.contains(version) for version in versions), requirement


@pytest.mark.parametrize(
    "file", ["requirements.txt", "requirements-dev.txt", "pyproject.toml", "Dockerfile", ".ci/run"]
)
def test_set_up_names_no_machine(file: str) -> None:
    """Set-up works with whatever index and paths a machine is configured for: none is written down."""
    text = (ROOT / file).read_text(encoding="utf-8")
    assert not re.search(r"--?(extra-)?index-url|find-links|trusted-host|file://|/(?:root|home(?!/ackscope))/", text)


def test_ci_runs_the_commands_of_the_readme() -> None:
    """What the README tells a newcomer to run is what .ci/run runs, step by step, with the environment elsewhere."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    first = "python3 -m venv .venv && . .venv/bin/activate && pip install -r"
    assert f"\n{first} requirements.txt && streamlit run dashboard\n" in readme
    assert f"\n{first} requirements-dev.txt && pytest\n" in readme
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    steps = ["python3 -m venv ", "bin/activate", "pip install --quiet -r requirements-dev.txt", "step tests pytest"]
    assert [ci.find(step) for step in steps] == sorted(ci.find(step) for step in steps)
    assert all(step in ci for step in steps)
