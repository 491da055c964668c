"""A real Prometheus on loopback, with the rules of ``deploy/``, for the length of a ``with``."""

from __future__ import annotations

import contextlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlencode
from urllib.request import urlopen

import pytest
import yaml

from tests.kafka_process import KafkaProcess
from tests.telemetry_fakes import free_port

DEADLINE_S = 20.0
"""Longest wait for what takes a few scrapes; Prometheus itself is ready after 0.3 s, or 2 s on busy cores."""
INTERVAL = "500ms"
"""Between two scrapes, and between two evaluations of the rules: their ranges of 30 s are not changed by it."""
JOB = "eventbus"
"""The job of deploy/prometheus.yml that scrapes workers."""
_ANSWER_TIMEOUT_S = 5.0
_ALIGNED_S = 0.01
"""Prometheus moves the times of scrapes by up to 2 ms, so that they lie evenly (ScrapeTimestampTolerance)."""


@dataclass(frozen=True)
class Prometheus:
    """A running server that scrapes one worker. output: its log."""

    port: int
    output: Path

    def values(self, expression: str, *labels: str) -> dict[tuple[str, ...], float]:
        """What an expression comes to now: values by these labels, in this order. Equal ones are added up."""
        found: dict[tuple[str, ...], float] = {}
        for series in self._ask("query", query=expression)["result"]:
            key = tuple(series["metric"].get(label, "") for label in labels)
            found[key] = found.get(key, 0.0) + float(series["value"][1])
        return found

    def firing(self) -> dict[str, Mapping[str, str]]:
        """Alerts that fire now: labels by name."""
        alerts = self._ask("alerts")["alerts"]
        return {alert["labels"]["alertname"]: alert["labels"] for alert in alerts if alert["state"] == "firing"}

    def wait_for_scrape(self, since_wall_s: float) -> None:
        """Until a scrape that began after that moment is stored, as a whole."""
        up = f'up{{job="{JOB}"}}'
        taken = f"timestamp({up}) and {up} == 1"  # timestamp() of anything but a bare name is the time of the question
        since_wall_s += _ALIGNED_S
        self.wait(lambda: self.values(taken).get((), 0.0) > since_wall_s, "no scrape of the worker")

    def wait(self, done: Callable[[], bool], what: str, timeout_s: float = DEADLINE_S) -> None:
        """Until it is ``done``; fails with ``what`` when that takes too long."""
        deadline = time.monotonic() + timeout_s
        while not done():
            assert time.monotonic() < deadline, f"after {timeout_s} s: {what}\n{self._text()}"
            time.sleep(0.05)  # between two questions to another process

    def _ask(self, question: str, **values: str) -> Any:
        with urlopen(f"{self._address}/api/v1/{question}?{urlencode(values)}", timeout=_ANSWER_TIMEOUT_S) as answer:
            return json.load(answer)["data"]

    def is_ready(self) -> bool:
        """Whether it answers questions; before that it says 503, or nothing listens yet."""
        try:
            with urlopen(f"{self._address}/-/ready", timeout=_ANSWER_TIMEOUT_S):
                return True
        except HTTPError as error:
            error.close()
        except OSError:
            pass
        return False

    @property
    def _address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _text(self) -> str:
        return self.output.read_text(encoding="utf-8", errors="replace")[-2000:]


@contextlib.contextmanager
def prometheus(folder: Path, deploy: Path, worker_port: int) -> Iterator[Prometheus]:
    """A server until the end of the block; its supervisor ends it where a run dies before that.

    deploy: the folder of prometheus.yml, of which the worker's job is taken, and alerts.yml, used as it is.
    worker_port: where /metrics of the worker is, or will be.
    """
    binary = shutil.which("prometheus")
    if binary is None:
        pytest.skip("no prometheus: apt-get install prometheus")
    config = folder / "prometheus.yml"
    config.write_text(yaml.safe_dump(_configuration(deploy, worker_port)), encoding="utf-8")
    server = Prometheus(free_port(), folder / "prometheus.txt")
    process = KafkaProcess(folder, folder / "data", server.output)
    try:
        process.start(
            [
                binary,
                f"--config.file={config}",
                f"--storage.tsdb.path={folder / 'data'}",
                f"--web.listen-address=127.0.0.1:{server.port}",
                "--log.level=warn",
            ]
        )
        ready = partial(_ready_or_gone, server, process)
        assert process.wait(ready, DEADLINE_S, 0.05), server.output.read_text()
        assert process.pid is not None, server.output.read_text()
        yield server
    finally:
        process.close()


def _ready_or_gone(server: Prometheus, process: KafkaProcess) -> bool:
    return process.pid is None or server.is_ready()


def _configuration(deploy: Path, worker_port: int) -> dict[str, Any]:
    """deploy/prometheus.yml with the worker's target moved, without its collector, and quicker."""
    config: dict[str, Any] = yaml.safe_load((deploy / "prometheus.yml").read_text(encoding="utf-8"))
    config["global"] = {**config["global"], "scrape_interval": INTERVAL, "evaluation_interval": INTERVAL}
    config["rule_files"] = [str(deploy / name) for name in config["rule_files"]]
    (job,) = [job for job in config["scrape_configs"] if job["job_name"] == JOB]
    config["scrape_configs"] = [{**job, "static_configs": [{"targets": [f"127.0.0.1:{worker_port}"]}]}]
    return config
