"""What a bus did, kept for whoever wants to look: counters, samples, and the store of runs."""

from eventbus.observe.reader import StoreReader
from eventbus.observe.run import AlertChange, FailedMessage, RunInfo, RunStatus, Sample, StoreError
from eventbus.observe.sampler import LagProbe, Sampler
from eventbus.observe.schema import default_store_path
from eventbus.observe.store import StoreWriter

__all__ = [
    "AlertChange",
    "FailedMessage",
    "LagProbe",
    "RunInfo",
    "RunStatus",
    "Sample",
    "Sampler",
    "StoreError",
    "StoreReader",
    "StoreWriter",
    "default_store_path",
]
