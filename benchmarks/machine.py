"""What the numbers were made with: processor, system, Python and the versions of everything that took part."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

_PACKAGES = ("ackscope", "nats-py", "natsio", "uvloop")


def describe(server_version: str) -> dict[str, str | int | float]:
    """Plain values. ``load``: processes that wanted to run in the minute before, over all cores; best near zero."""
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else -1.0
    found: dict[str, str | int | float] = {
        "cpu": _cpu(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 0,
        "load": round(load, 2),
        "system": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "nats-server": server_version,
    }
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def in_words(machine: dict[str, str | int | float]) -> str:
    """One line for people."""
    hardware = f"{machine['cpu']}, {machine['cores']} cores, load {machine['load']} before, {machine['system']}"
    software = [f"{name} {machine[name]}" for name in ("nats-server", *_PACKAGES) if name in machine]
    return f"{hardware}; {machine['python']}, {', '.join(software)}"


def _cpu() -> str:
    information = Path("/proc/cpuinfo")
    if information.exists():
        for line in information.read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
