"""ExportStatus: where telemetry goes and whether it arrives, as a frozen value; ExportLog: what it is taken from."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from eventbus.telemetry.environment import Target

_log = logging.getLogger("eventbus.telemetry")
_REASON_CHARACTERS = 300


@dataclass(frozen=True, slots=True)
class ExportStatus:
    """One signal on its way to one place. Times are seconds since the epoch; None where it never happened.

    signal: traces, metrics or logs. exporter: otlp, prometheus or console. endpoint: without credentials.
    exports, items: successful exports, and what they held (spans, points, records); for Prometheus, scrapes.
    failures, lost: exports that failed for good, and what they held. A cumulative metric loses nothing by it.
    dropped: spans or records that found the queue full. last_reason: of the last failure, at most 300 characters.
    """

    signal: str
    exporter: str
    endpoint: str
    protocol: str | None = None
    exports: int = 0
    items: int = 0
    last_success_s: float | None = None
    failures: int = 0
    lost: int = 0
    dropped: int = 0
    last_failure_s: float | None = None
    last_reason: str | None = None

    @property
    def failing(self) -> bool:
        """True if the last export failed."""
        return self.last_failure_s is not None and self.last_failure_s >= (self.last_success_s or 0)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; ``from_dict`` reads them back."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ExportStatus:
        """The inverse of ``to_dict``; names that it does not know are left out."""
        known = {field.name for field in fields(cls)}
        return cls(**{name: value for name, value in data.items() if name in known})


class ExportLog:
    """What became of the exports to one target. Safe from any thread; the exporter's wrapper writes it.

    wall_s: the time. dropped: asked when the status is. A change from working to failing or back is logged once.
    """

    def __init__(self, target: Target, wall_s: Callable[[], float]) -> None:
        self.target = target
        self.dropped: Callable[[], int] = lambda: 0
        self._wall_s = wall_s
        self._lock = threading.Lock()
        self._exports = self._items = self._failures = self._lost = 0
        self._last_success_s: float | None = None
        self._last_failure_s: float | None = None
        self._last_reason: str | None = None
        self._failing = False

    @property
    def counts(self) -> tuple[int, int]:
        """Exports that succeeded, and that failed."""
        with self._lock:
            return self._exports, self._failures

    def succeeded(self, items: int) -> None:
        """One export arrived."""
        with self._lock:
            self._exports += 1
            self._items += items
            self._last_success_s = self._wall_s()
            recovered, self._failing = self._failing, False
        if recovered:
            _log.info("%s reach %s again", self.target.signal, self._place())

    def failed(self, items: int, reason: str) -> None:
        """One export was given up. reason: may hold anything; is cut, and credentials in URLs are taken out."""
        reason = re.sub(r"(?<=//)[^/@\s]+@|\S+:\S+@(?=\S)", "", reason)[:_REASON_CHARACTERS]
        with self._lock:
            self._failures += 1
            self._lost += items
            self._last_failure_s = self._wall_s()
            self._last_reason = reason
            first, self._failing = not self._failing, True
        if first:
            _log.warning("%s do not reach %s: %s", self.target.signal, self._place(), reason)

    def status(self) -> ExportStatus:
        """As of now."""
        dropped = self.dropped()
        with self._lock:
            return ExportStatus(
                signal=self.target.signal.value,
                exporter=self.target.exporter,
                endpoint=self.target.endpoint,
                protocol=None if self.target.protocol is None else self.target.protocol.value,
                exports=self._exports,
                items=self._items,
                last_success_s=self._last_success_s,
                failures=self._failures,
                lost=self._lost,
                dropped=dropped,
                last_failure_s=self._last_failure_s,
                last_reason=self._last_reason,
            )

    def _place(self) -> str:
        return self.target.endpoint or "the console"
