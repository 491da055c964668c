"""Faults on purpose: each breaks an embedded broker, or the way to it, in one way, and heals it again."""

from eventbus.faults.catalog import kafka_faults, nats_faults, network_faults
from eventbus.faults.deny_subject import open_config
from eventbus.faults.fault import Fault, FaultError
from eventbus.faults.network import Network, NetworkStatus
from eventbus.faults.proxy import Disturbance
from eventbus.faults.timed import EndedBy, FaultState, FaultStatus, TimedFault

__all__ = [
    "Disturbance",
    "EndedBy",
    "Fault",
    "FaultError",
    "FaultState",
    "FaultStatus",
    "Network",
    "NetworkStatus",
    "TimedFault",
    "kafka_faults",
    "nats_faults",
    "network_faults",
    "open_config",
]
