"""What the numbers were made with: processor, system, Python and the versions of everything that took part."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

from benchmarks.catalog import Kind

_HARDWARE = ("cpu", "cores", "load", "system", "python")
_PACKAGES = {
    "nats": ("ackscope", "nats-py", "natsio", "uvloop"),
    "kafka": ("ackscope", "aiokafka", "confluent-kafka", "uvloop"),
}

Machine = dict[str, str | int | float]


def describe(kind: Kind, broker: str, version: str) -> Machine:
    """Plain values. ``load``: processes that wanted to run in the minute before, over all cores; best near zero."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else -1.0
    found: Machine = {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        "load": round(load, 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        broker: version,
    }
    for package in _PACKAGES[kind]:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def in_words(machine: Machine) -> str:
    """One line for people."""
    hardware = f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']} before, {machine['system']}"
    software = [f"{name} {version}" for name, version in machine.items() if name not in _HARDWARE]
    return f"{hardware}; {machine['python']}, {', '.join(software)}"


def _cpu() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
