"""Expressions over the samples of a run, the thresholds that judge it and the alerts that tell of it."""

from eventbus.alerts.alert_now import AlertNow
from eventbus.alerts.defaults import default_rules, rules_in_use
from eventbus.alerts.engine import AlertEngine, AlertPhase, AlertState, fingerprint
from eventbus.alerts.expression import Comparison, Evaluation, parse
from eventbus.alerts.history import History
from eventbus.alerts.notify import DeliveryError, DeliveryPolicy, Notification, Notifier, Sink, SinkStatus, try_sinks
from eventbus.alerts.rule import AlertRule
from eventbus.alerts.rule_file import rules_from, rules_from_plain
from eventbus.alerts.sinks.announcer import Announcer
from eventbus.alerts.sinks.log import LogSink
from eventbus.alerts.sinks.settings import sinks_from, sinks_from_plain
from eventbus.alerts.sinks.store import StoreSink
from eventbus.alerts.threshold import (
    Threshold,
    Verdict,
    VerdictRow,
    abort_due,
    judge,
    thresholds_from,
    thresholds_from_plain,
)

__all__ = [
    "AlertEngine",
    "AlertNow",
    "AlertPhase",
    "AlertRule",
    "AlertState",
    "Announcer",
    "Comparison",
    "DeliveryError",
    "DeliveryPolicy",
    "Evaluation",
    "History",
    "LogSink",
    "Notification",
    "Notifier",
    "Sink",
    "SinkStatus",
    "StoreSink",
    "Threshold",
    "Verdict",
    "VerdictRow",
    "abort_due",
    "default_rules",
    "fingerprint",
    "judge",
    "parse",
    "rules_from",
    "rules_from_plain",
    "rules_in_use",
    "sinks_from",
    "sinks_from_plain",
    "thresholds_from",
    "thresholds_from_plain",
    "try_sinks",
]
