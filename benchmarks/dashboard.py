"""What the dashboard costs: server CPU and bytes per open page, first paint, and what the producer loses by a page.

The real server, a real headless Chromium and real workers, all on this machine: the browser's own work takes its share
of the same cores, as it does for a person who runs the dashboard at home. Linux only, since CPU is read from /proc.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dashboard.process import ROOT, LoadRefused, WorkerProcess
from eventbus.observe import Sample, StoreReader

PAGES = ("live", "failures", "latency", "alerts", "faults", "compare", "runs", "explore", "telemetry")
CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
FLAGS = ("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-sync")
PAINTED = ", ".join(
    f'[data-testid="stMain"] {what}:visible'
    for what in (
        *("h1", "h2", "h3", "h4"),
        *(
            f'[data-testid="st{name}"]'
            for name in ("Metric", "EChartsChart", "PlotlyChart", "DataFrame", "Alert", "Tabs")
        ),
    )
)
"""The first figure or heading of a page's own; the bar of navigation does not count."""
DEADLINE_S = 45.0
"""For one step (server up, page painted, run begun); beyond it the measurement is given up."""
SETTLE_S = 4.0
"""After a page was opened or closed, before anything is measured: loading it is no part of keeping it open, and Live is
whole at its third pass only."""


class MeasurementFailed(Exception):
    """Something did not come up in time; the text says what."""


@dataclass(frozen=True, slots=True)
class PageCost:
    """The server while so many pages are open. cpu: share of one core. refreshes, received: of all pages together, the
    latter bytes of their websockets before compression. seconds: how long it was watched."""

    pages: int
    cpu: float
    refreshes: int
    received: int
    seconds: float

    @property
    def payload(self) -> float:
        """Bytes per refresh; 0 where there was none."""
        return self.received / self.refreshes if self.refreshes else 0.0

    def each_at_one_hz(self, without: PageCost) -> float:
        """Share of a core that each page costs at one refresh a second; ``without``: the server without a page.

        By refreshes that there were, since on a busy machine they come late and would look cheap.
        """
        return (self.cpu - without.cpu) * self.seconds / self.refreshes if self.refreshes else 0.0


@dataclass(frozen=True, slots=True)
class Paint:
    """Seconds from navigation to the first figure or heading. first: of a browser and, for the first of all pages, a
    server that never showed it; warm: each time after that. shell_s: median until the frame of the page was there,
    which is Streamlit's own program in the browser and no work of ours. server_s: median of the server's processor time
    for a warm visit, which says more than the clock where the machine is busy; first_server_s: for the first one.
    """

    page: str
    first_s: float
    warm_s: tuple[float, ...]
    shell_s: float
    first_server_s: float
    server_s: float

    @property
    def median_s(self) -> float:
        return statistics.median(self.warm_s)


@dataclass(frozen=True, slots=True)
class Pair:
    """The producer right before and while a page is open, in acks per second."""

    without: float
    open: float

    @property
    def ratio(self) -> float:
        return self.open / self.without if self.without else 0.0


def missing() -> str | None:
    """Why it cannot be measured here; None where it can."""
    if not Path("/proc/self/stat").exists():
        return "needs Linux: CPU of the server is read from /proc"
    for module in ("streamlit", "playwright"):
        if importlib.util.find_spec(module) is None:
            return f"needs {module}: pip install -r requirements-dev.txt"
    return None if CHROMIUM else "needs Chromium: apt-get install chromium (or Google Chrome on PATH)"


class Server:
    """``streamlit run dashboard`` on a free port of 127.0.0.1, with runs in ``folder``; to be used in a ``with``.

    Raises MeasurementFailed where it does not answer in time. Its end waits up to 20 s for it to end what it started.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{probe.getsockname()[1]}"
        self.store = folder / "home" / "runs.db"

    def __enter__(self) -> Server:
        temporary = self._folder / "temporary"
        temporary.mkdir()
        port = self.url.rpartition(":")[2]
        with (self._folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-m", "streamlit", "run", "dashboard"),
                    *("--server.headless", "true", "--server.port", port, "--server.address", "127.0.0.1"),
                ],
                cwd=ROOT,
                env={**os.environ, "ACKSCOPE_HOME": str(self.store.parent), "TMPDIR": str(temporary)},
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            deadline = time.monotonic() + DEADLINE_S
            while not self._answers():
                if time.monotonic() > deadline or self._process.poll() is not None:
                    words = (self._folder / "server.log").read_text(encoding="utf-8", errors="replace")
                    raise MeasurementFailed(f"the dashboard does not answer: {words.strip()[-300:]}")
                time.sleep(0.05)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        try:
            self._process.wait(20.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def cpu_s(self) -> float:
        """Seconds of processor time that it used by now, user and system, without its broker and workers."""
        fields = Path(f"/proc/{self._process.pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{self.url}/_stcore/health", timeout=1.0) as answer:
            return bool(answer.status == 200)
        return False


class Frames:
    """What came down a page's websocket: bytes, and refreshes of its fragment that ended."""

    def __init__(self, page: Any) -> None:
        self.received = self.refreshes = 0
        page.on("websocket", lambda socket: socket.on("framereceived", self._take))

    def _take(self, payload: bytes | str) -> None:
        from streamlit.proto.ForwardMsg_pb2 import ForwardMsg

        if isinstance(payload, str):
            return
        self.received += len(payload)
        message = ForwardMsg.FromString(payload)
        if message.WhichOneof("type") == "script_finished":
            self.refreshes += message.script_finished == ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY


def open_page(context: Any, url: str) -> tuple[Any, Frames, float, float]:
    """A new page, what comes down its websocket, and the seconds until its frame and its first figure were seen.

    Raises MeasurementFailed where one of them is not seen in time.
    """
    from playwright.sync_api import TimeoutError as NotInTime

    page = context.new_page()
    page.set_default_timeout(DEADLINE_S * 1e3)
    frames = Frames(page)
    begun = time.perf_counter()
    try:
        page.goto(url, wait_until="commit")
        page.wait_for_selector('[data-testid="stAppViewContainer"]')
        shell_s = time.perf_counter() - begun
        page.wait_for_selector(PAINTED)
    except NotInTime as error:
        raise MeasurementFailed(f"{url} shows no figure and no heading within {DEADLINE_S:g} s") from error
    return page, frames, shell_s, time.perf_counter() - begun


def measure_paints(context: Any, server: Server, rounds: int, pages: Sequence[str] = PAGES) -> list[Paint]:
    """Each page once to warm up, then ``rounds`` times in turns."""
    visits = [(name, _visit(context, server, name)) for _ in range(rounds + 1) for name in pages]
    paints = []
    for name in pages:
        first, *warm = [seen for visited, seen in visits if visited == name]
        shell_s, server_s = (statistics.median(seen[at] for seen in warm) for at in (0, 2))
        paints.append(Paint(name, first[1], tuple(seen[1] for seen in warm), shell_s, first[2], server_s))
    return paints


def _visit(context: Any, server: Server, name: str) -> tuple[float, float, float]:
    """Seconds until the frame and until the first figure, and of the server's processor time until then."""
    cpu_s = server.cpu_s()
    page, _, shell_s, painted_s = open_page(context, f"{server.url}/{'' if name == 'live' else name}")
    cpu_s = server.cpu_s() - cpu_s
    page.close()
    return shell_s, painted_s, cpu_s


def measure_cost(context: Any, server: Server, pages: int, seconds: float) -> PageCost:
    """The server's CPU and what it sends while so many Live pages are open, after they have settled."""
    opened = [open_page(context, server.url)[:2] for _ in range(pages)]
    idle = context.new_page()  # something to wait by: only a wait of playwright's takes in what comes meanwhile
    idle.wait_for_timeout(SETTLE_S * 1e3)
    before = [(frames.received, frames.refreshes) for _, frames in opened]
    cpu_s, begun = server.cpu_s(), time.perf_counter()
    idle.wait_for_timeout(seconds * 1e3)
    used_s, elapsed_s = server.cpu_s() - cpu_s, time.perf_counter() - begun
    received = sum(frames.received - was for (_, frames), (was, _) in zip(opened, before, strict=True))
    refreshes = sum(frames.refreshes - was for (_, frames), (_, was) in zip(opened, before, strict=True))
    for page, _ in (*opened, (idle, None)):
        page.close()
    return PageCost(pages, used_s / elapsed_s, refreshes, received, elapsed_s)


@contextlib.contextmanager
def running(store: Path, url: str, rate: float | None) -> Iterator[str]:
    """A worker as the dashboard starts it, at a rate or as fast as the window lets (None); the id of its run.

    Raises MeasurementFailed where it does not begin. It is drained at the end.
    """
    worker = WorkerProcess((sys.executable, "-m", "eventbus", "worker", "--store", str(store)))
    try:
        worker.send({"cmd": "start", "url": url, "topic": "load", "rate": rate, "payload_size": 128})
        yield worker.wait_started(DEADLINE_S)
    except LoadRefused as refusal:
        raise MeasurementFailed(str(refusal)) from refusal
    finally:
        worker.stop()
        worker.close(20.0)


def measure_producer(context: Any, server: Server, run_id: str, pairs: int, seconds: float) -> list[Pair]:
    """What one run achieves by turns without a page and with a Live page open."""
    reader, idle = StoreReader(server.store), context.new_page()
    found = []
    for _ in range(pairs):
        without = _achieved(reader, run_id, idle, seconds)
        page = open_page(context, server.url)[0]
        found.append(Pair(without, _achieved(reader, run_id, idle, seconds)))
        page.close()
    idle.close()
    return found


def _achieved(reader: StoreReader, run_id: str, idle: Any, seconds: float) -> float:
    """Acks per second by the worker's own samples and clock."""
    idle.wait_for_timeout(SETTLE_S * 1e3)
    first = _newest(reader, run_id)
    idle.wait_for_timeout(seconds * 1e3)
    last = _newest(reader, run_id)
    span_s = last.elapsed_s - first.elapsed_s
    if span_s <= 0:
        raise MeasurementFailed("the run sent no sample meanwhile: its worker is gone or the machine is overloaded")
    return (last.snapshot.acked - first.snapshot.acked) / span_s


def _newest(reader: StoreReader, run_id: str) -> Sample:
    sample = reader.latest(run_id)
    if sample is None:
        raise MeasurementFailed("the run sent no sample: its worker is gone or the machine is overloaded")
    return sample
