"""DaskExecutor: parts of a load on the workers of a Dask cluster that exists. Needs the extra ``cluster``.

One task for each part, pinned to one worker, in turns; see dask_part.py for what it does there. Lines travel on two of
Dask's queues, through the scheduler: what Dask offers besides either keeps all that was ever told (events of a topic)
or needs this program to reach the workers themselves (actors).

The scheduler is told what a plan holds, with the password of its url where it has one: use ``tls://`` for a cluster
whose network others share.
"""

# distributed is typed, but for many of its methods:
# mypy: allow-untyped-calls
from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from eventbus.errors import ConfigError, ConnectFailed
from eventbus.load.executor import PartLink
from eventbus.load.part_process import PART

try:
    from distributed import Client, Future, Queue
except ImportError as missing:
    raise ConfigError(f"a Dask cluster needs the package {missing.name}: pip install 'ackscope[cluster]'") from None

from eventbus.load.dask_part import ALIVE, END, END_S, POLL_S, close_queue, queue_names, run_part

CONNECT_TIMEOUT_S = 10.0
CALL_TIMEOUT_S = 5.0
"""For one question to the scheduler."""
READ_EACH_S = 0.2
ALIVE_EACH_S = 2.0
"""Between two words that renew the leases of the parts, and between two looks whether their workers are there."""


class DaskExecutor:
    """address: of the scheduler. arguments: of a worker's Python, for one part.

    The broker must be reachable from all workers (one on 127.0.0.1 only where they are on its machine), and a file to
    replay must lie at the same path on each.
    As many parts as the plan has processes; where that is one, one on each worker. Dask's ``resources`` are not asked
    for: a task that asks waits for ever where no worker declares them.
    """

    delivery_s = 1.0

    def __init__(self, address: str, arguments: Sequence[str] = PART) -> None:
        self._address = address
        self._arguments = tuple(arguments)
        self._token = f"ackscope-{secrets.token_hex(6)}"
        self._client: Client | None = None
        self._workers: list[str] = []
        self._parts: list[DaskPart] = []
        self._keeping: asyncio.Task[None] | None = None

    async def places(self, wanted: int) -> int:
        """See Executor. Waits at most 10 s for the scheduler."""
        try:
            # Kept before it is awaited: one that could not connect must be closed as well.
            self._client = Client(
                self._address, asynchronous=True, set_as_default=False, timeout=CONNECT_TIMEOUT_S, name="ackscope"
            )
            await self._client
            self._workers = sorted(await self._addresses())
        except ValueError as error:
            raise ConfigError(f"{self._address!r} is no address of a Dask scheduler: {error}") from error
        except OSError as error:
            raise ConnectFailed(f"the Dask scheduler at {self._address} cannot be reached: {error}") from error
        if not self._workers:
            raise ConnectFailed(f"the Dask cluster at {self._address} has no workers")
        self._keeping = asyncio.create_task(self._keep(), name="ackscope-dask-keep")
        return wanted if wanted > 1 else len(self._workers)

    async def start(self, index: int, heard: Callable[[bytes], None], gone: Callable[[str], None]) -> PartLink:
        """See Executor."""
        assert self._client is not None
        worker = self._workers[index % len(self._workers)]
        token = f"{self._token}-{index}"
        try:
            async with asyncio.timeout(CALL_TIMEOUT_S):
                commands, lines = [await Queue(name, client=self._client) for name in queue_names(token)]
        except OSError as error:
            raise ConnectFailed(f"the Dask scheduler at {self._address} is gone: {error}") from error
        future = self._client.submit(
            run_part,
            token,
            self._arguments,
            key=token,
            workers=[worker],
            allow_other_workers=False,
            pure=False,
            retries=0,
        )
        part = DaskPart(worker, commands, lines, future, heard, gone)
        self._parts.append(part)
        return part

    async def close(self) -> None:
        """See Executor."""
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        if self._client is None:
            return
        with contextlib.suppress(OSError):
            async with asyncio.timeout(CALL_TIMEOUT_S):
                await self._client.close()

    async def _addresses(self) -> set[str]:
        assert self._client is not None
        assert self._client.scheduler is not None
        async with asyncio.timeout(CALL_TIMEOUT_S):
            return set((await self._client.scheduler.identity(n_workers=-1))["workers"])

    async def _keep(self) -> None:
        """Renew the leases; tell of workers that are gone: their tasks would wait for them for ever."""
        while True:
            await asyncio.sleep(ALIVE_EACH_S)
            for part in self._parts:
                part.send(ALIVE)
            with contextlib.suppress(OSError):
                there = await self._addresses()
                for part in self._parts:
                    if part.worker not in there:
                        part.end("was on a Dask worker that is gone")


class DaskPart:
    """The line to one part on a Dask worker."""

    def __init__(
        self,
        worker: str,
        commands: Queue,
        lines: Queue,
        future: Future[str],
        heard: Callable[[bytes], None],
        gone: Callable[[str], None],
    ) -> None:
        self.worker = worker
        self._heard = heard
        self._commands = commands
        self._lines = lines
        self._future = future
        self._gone = gone
        self._unsent: asyncio.Queue[Mapping[str, Any]] = asyncio.Queue()
        self._over = asyncio.Event()
        self._tasks = [asyncio.create_task(does()) for does in (self._send, self._read, self._wait)]

    @property
    def place(self) -> str:
        """The worker's address."""
        return self.worker

    def send(self, command: Mapping[str, Any]) -> None:
        """See PartLink."""
        self._unsent.put_nowait(command)

    def end(self, how: str) -> None:
        """It is no more; told once."""
        if not self._over.is_set():
            self._over.set()
            self._gone(how)

    async def close(self, timeout_s: float) -> None:
        """See PartLink. By force is the matter of the task on the worker, which does it within its own bounds."""
        self.send(END)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._over.wait(), timeout_s + END_S)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        close_queue(self._commands)
        close_queue(self._lines)
        self._future.release()

    async def _send(self) -> None:
        while True:
            command = await self._unsent.get()
            with contextlib.suppress(OSError, KeyError):  # lost; see _read
                await self._commands.put(dict(command))

    async def _read(self) -> None:
        """Hand on what the part says. A scheduler that cannot be reached makes it silent, which has its own bound."""
        while True:
            try:
                for said in await self._lines.get(batch=True):
                    for line in said:
                        self._heard(line.encode())
            except OSError:
                pass
            except KeyError:  # the queue is no more: the task on the worker has closed it
                self.end("heard nothing from here for so long that it ended")
                return
            await asyncio.sleep(READ_EACH_S)

    async def _wait(self) -> None:
        try:
            how = await self._future
        except asyncio.CancelledError:
            if not self._future.cancelled():
                raise
            how = "was cancelled"
        except Exception as error:  # whatever was raised on the worker, as where AckScope is not installed there
            how = f"could not run there: {type(error).__name__}: {error}"
        # What it said last may still be in the queue.
        await asyncio.sleep(POLL_S + READ_EACH_S)
        self.end(how)
