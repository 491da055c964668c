"""What a bus did, kept for whoever wants to look: counters, samples, and the store of runs."""

from eventbus.observe.editor import RunEditor
from eventbus.observe.environment import describe_environment
from eventbus.observe.memory import ProcessMemory
from eventbus.observe.reader import StoreReader
from eventbus.observe.retention import Retention, Tidied
from eventbus.observe.run import AlertChange, FailedMessage, FailureGroup, RunInfo, RunStatus, Sample, StoreError
from eventbus.observe.sampler import LagProbe, Sampler
from eventbus.observe.schema import default_store_path
from eventbus.observe.store import StoreWriter

__all__ = [
    "AlertChange",
    "FailedMessage",
    "FailureGroup",
    "LagProbe",
    "ProcessMemory",
    "Retention",
    "RunEditor",
    "RunInfo",
    "RunStatus",
    "Sample",
    "Sampler",
    "StoreError",
    "StoreReader",
    "StoreWriter",
    "Tidied",
    "default_store_path",
    "describe_environment",
]
