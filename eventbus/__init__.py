"""AckScope's producer: publishes to brokers and gives every message exactly one truthful outcome."""

from eventbus.ack.retry import RetryPolicy
from eventbus.bus import EventBus
from eventbus.config import AckStrategy, ConnectionConfig, KafkaAuth, KafkaConfig, NatsAuth, TlsConfig, WindowConfig
from eventbus.connect import connect
from eventbus.errors import (
    BusClosed,
    ConfigError,
    ConnectFailed,
    DeliveryFailed,
    ErrorClass,
    ErrorKind,
    EventBusError,
    FlushTimeout,
    InvalidMessage,
    PingTimeout,
    PublishRejected,
    PublishUnknown,
    StallTimeout,
    TopicError,
    WindowFull,
)
from eventbus.event import BusEvent, EventKind
from eventbus.latency import LatencyHistogram
from eventbus.message import Message
from eventbus.receipt import Receipt
from eventbus.report import AckOutcome, CloseReport, DeliveryReport, Position
from eventbus.snapshot import BusSnapshot, ConnectionState, WindowStatistics
from eventbus.topic import TopicConfig

__all__ = [
    "AckOutcome",
    "AckStrategy",
    "BusClosed",
    "BusEvent",
    "BusSnapshot",
    "CloseReport",
    "ConfigError",
    "ConnectFailed",
    "ConnectionConfig",
    "ConnectionState",
    "DeliveryFailed",
    "DeliveryReport",
    "ErrorClass",
    "ErrorKind",
    "EventBus",
    "EventBusError",
    "EventKind",
    "FlushTimeout",
    "InvalidMessage",
    "KafkaAuth",
    "KafkaConfig",
    "LatencyHistogram",
    "Message",
    "NatsAuth",
    "PingTimeout",
    "Position",
    "PublishRejected",
    "PublishUnknown",
    "Receipt",
    "RetryPolicy",
    "StallTimeout",
    "TlsConfig",
    "TopicConfig",
    "TopicError",
    "WindowConfig",
    "WindowFull",
    "WindowStatistics",
    "connect",
]
