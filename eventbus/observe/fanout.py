"""Fanout: one observer in front of many. No observer can stop an ack: what it raises is logged once and counted."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from eventbus.event import BusEvent
from eventbus.ports import Observer, Tally
from eventbus.report import AckOutcome, DeliveryReport

_log = logging.getLogger("eventbus")


class Fanout:
    """Gives each observer the reports that it asked for (see ports.Observer)."""

    def __init__(self, observers: Sequence[Observer], tally: Tally) -> None:
        self._observers = tuple(observers)
        self._tally = tally
        self.every_outcome = any(observer.every_outcome for observer in observers)

    def settled(self, reports: Sequence[DeliveryReport]) -> None:
        """Pass a batch on."""
        uncommon: list[DeliveryReport] | None = None
        for observer in self._observers:
            if observer.every_outcome:
                wanted: Sequence[DeliveryReport] = reports
            else:
                if uncommon is None:
                    uncommon = [r for r in reports if r.late or r.outcome is not AckOutcome.ACKED]
                wanted = uncommon
            if wanted:
                try:
                    observer.settled(wanted)
                except Exception:  # the edge to foreign code: it must not harm the ledger
                    self._failed(observer)

    def happened(self, event: BusEvent) -> None:
        """Pass an event on."""
        for observer in self._observers:
            try:
                observer.happened(event)
            except Exception:  # the edge to foreign code: it must not harm the ledger
                self._failed(observer)

    def _failed(self, observer: Observer) -> None:
        self._tally.callback_errors += 1
        _log.exception("observer %r raised; acks go on", observer)
