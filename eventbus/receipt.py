"""Receipt: what ``publish`` returns. Await it for the DeliveryReport."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, Protocol

from eventbus.report import DeliveryReport


class Receipt(Protocol):
    """The promise of a report. Need not be awaited; any number of tasks may await it, at any time."""

    @property
    def message_id(self) -> str:
        """The id under which the broker knows the message."""

    @property
    def settled(self) -> bool:
        """True once there is an outcome."""

    @property
    def report(self) -> DeliveryReport | None:
        """The outcome as known now; None while pending. Never waits."""

    def __await__(self) -> Generator[Any, None, DeliveryReport]: ...


class SettledReceipt:
    """A receipt whose report is there already."""

    __slots__ = ("report",)

    settled = True

    def __init__(self, report: DeliveryReport) -> None:
        self.report = report

    @property
    def message_id(self) -> str:
        """The id in the report."""
        return self.report.message_id

    def __await__(self) -> Generator[Any, None, DeliveryReport]:
        return self.report
        yield  # makes this a generator, as __await__ must be
