"""The names of spans, metrics and attributes: against the conventions, Prometheus and the page that lists them."""

from __future__ import annotations

import inspect
from itertools import pairwise

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.semconv._incubating.attributes import messaging_attributes
from opentelemetry.semconv._incubating.attributes.messaging_attributes import (
    MessagingOperationTypeValues,
    MessagingSystemValues,
)
from opentelemetry.semconv._incubating.metrics import messaging_metrics
from opentelemetry.semconv.attributes import error_attributes, server_attributes
from opentelemetry.semconv.schemas import Schemas
from prometheus_client import CollectorRegistry

from docs import list_telemetry
from eventbus.errors import ErrorKind
from eventbus.publishers.kafka.publisher import KafkaPublisher
from eventbus.publishers.memory import MemoryPublisher
from eventbus.publishers.nats.publisher import NatsPublisher
from eventbus.report import AckOutcome
from eventbus.telemetry import names
from eventbus.telemetry.names import Instrument, Metric

CONVENTIONS = (messaging_attributes, error_attributes, server_attributes)
ATTRIBUTE_NAMES = {attribute.name for attribute in names.ATTRIBUTES}
CONSTANTS = {name: value for name, value in vars(names).items() if name.isupper() and isinstance(value, str)}


def of_the_conventions(name: str) -> bool:
    return name.startswith(("messaging.", "error.", "server."))


@pytest.mark.parametrize("constant", sorted(name for name, value in CONSTANTS.items() if of_the_conventions(value)))
def test_name_of_the_conventions(constant: str):
    """The constant has the name and the value of the conventions' own, which is not deprecated there."""
    (module,) = [module for module in CONVENTIONS if hasattr(module, constant)]
    assert getattr(module, constant) == CONSTANTS[constant]
    told = inspect.getsource(module).partition(f"\n{constant}: Final")[2].split('"""')[1]
    assert "Deprecated" not in told


def test_name_of_ours():
    """Whatever is not of the conventions says so: it begins with eventbus. ``le`` is Prometheus's own."""
    ours = {name for name in [*ATTRIBUTE_NAMES, *(m.name for m in names.METRICS)] if not of_the_conventions(name)}
    assert {name for name in ours if not name.startswith("eventbus.")} == {"le"}


def test_metric_of_the_conventions():
    """Names, units and instruments of the two metrics that the conventions have."""
    sent, duration = names.SENT_MESSAGES, names.OPERATION_DURATION
    assert sent.name == messaging_metrics.MESSAGING_CLIENT_SENT_MESSAGES
    assert duration.name == messaging_metrics.MESSAGING_CLIENT_OPERATION_DURATION
    assert [m.name for m in names.METRICS if of_the_conventions(m.name)] == [sent.name, duration.name]
    made: list[tuple[str, str, Instrument]] = []

    class Recorder:
        def create_counter(self, name: str, unit: str, description: str) -> None:
            made.append((name, unit, Instrument.COUNTER))

        def create_histogram(self, name: str, unit: str, description: str) -> None:
            made.append((name, unit, Instrument.HISTOGRAM))

    messaging_metrics.create_messaging_client_sent_messages(Recorder())  # type: ignore[arg-type]
    messaging_metrics.create_messaging_client_operation_duration(Recorder())  # type: ignore[arg-type]
    assert made == [(m.name, m.unit, m.instrument) for m in (sent, duration)]


def test_values_of_the_conventions():
    """Operation type, Kafka's name and the schema that the names belong to."""
    assert MessagingOperationTypeValues.SEND.value == names.OPERATION_TYPE
    assert MessagingSystemValues.KAFKA.value in names.OPERATION_NAMES
    assert "nats" not in {system.value for system in MessagingSystemValues}  # or take the conventions' own
    assert Schemas.V1_44_0.value == names.SCHEMA_URL


def test_every_publisher_has_an_operation_name():
    """messaging.system is what a publisher calls itself."""
    publishers = (NatsPublisher, KafkaPublisher, MemoryPublisher)
    assert {publisher.capabilities.system for publisher in publishers} == set(names.OPERATION_NAMES)


def test_outcomes_are_those_of_reports():
    """The values of AckOutcome, with duplicates apart, and what has no outcome."""
    assert set(names.OUTCOMES) == {outcome.value for outcome in AckOutcome} | {"duplicate", "unacknowledged"}
    assert {AckOutcome.REJECTED, AckOutcome.UNKNOWN} == names.FAILED


def test_bounds_grow():
    """Buckets need bounds in strict order; Prometheus prints them as floats."""
    assert all(low < high for low, high in pairwise(names.DURATION_BOUNDS_S))
    assert all(isinstance(bound, float) for bound in names.DURATION_BOUNDS_S)


def test_every_attribute_is_used_and_told():
    """What spans, metrics and log records name is in the list of attributes, nothing else is; spans have one name."""
    assert len({span.name for span in names.SPANS}) == 1
    of_all = [span.attributes for span in names.SPANS]
    of_all += [metric.attributes for metric in names.METRICS] + [record.attributes for record in names.RECORDS]
    used = {name for attributes in of_all for name in attributes}
    assert used == ATTRIBUTE_NAMES
    assert len(names.ATTRIBUTES) == len(ATTRIBUTE_NAMES)


def test_every_metric_is_listed():
    """A metric that is a constant of the module is in METRICS too, each name once."""
    constants = [value for value in vars(names).values() if isinstance(value, Metric)]
    assert constants == list(names.METRICS)
    assert len({metric.name for metric in names.METRICS}) == len(names.METRICS)


def make(meter: Meter, metric: Metric) -> None:
    def observe(options: CallbackOptions) -> list[Observation]:
        return [Observation(1, dict.fromkeys(metric.attributes, "x"))]

    match metric.instrument:
        case Instrument.COUNTER:
            meter.create_observable_counter(metric.name, [observe], metric.unit, metric.text)
        case Instrument.UP_DOWN_COUNTER:
            meter.create_observable_up_down_counter(metric.name, [observe], metric.unit, metric.text)
        case Instrument.GAUGE:
            meter.create_observable_gauge(metric.name, [observe], metric.unit, metric.text)
        case Instrument.HISTOGRAM:
            histogram = meter.create_histogram(
                metric.name, metric.unit, metric.text, explicit_bucket_boundaries_advisory=names.DURATION_BOUNDS_S
            )
            histogram.record(1.0, dict.fromkeys(metric.attributes, "x"))


def test_names_in_prometheus():
    """``prometheus_names`` and ``prometheus_label`` say what the SDK's Prometheus exporter makes of a metric."""
    registry = CollectorRegistry()
    provider = MeterProvider([PrometheusMetricReader(registry=registry, disable_target_info=True)])
    meter = provider.get_meter(names.SCOPE, schema_url=names.SCHEMA_URL)
    for metric in names.METRICS:
        make(meter, metric)
    samples = [sample for family in registry.collect() for sample in family.samples]
    provider.shutdown()
    assert {sample.name for sample in samples} == {name for m in names.METRICS for name in m.prometheus_names}
    labels = {label for sample in samples for label in sample.labels if not label.startswith("otel_scope_")}
    assert labels == {names.prometheus_label(name) for m in names.METRICS for name in m.attributes} | {"le"}
    bounds = {sample.labels["le"] for sample in samples if sample.name.endswith("duration_seconds_bucket")}
    assert bounds == {*map(str, names.DURATION_BOUNDS_S), "+Inf"}


def test_page_is_up_to_date():
    """docs/telemetry.md is what ``python -m docs.list_telemetry`` writes from the names now."""
    assert list_telemetry.TARGET.read_text(encoding="utf-8") == list_telemetry.markdown()


def test_page_tells_every_error_type():
    """Each value of ErrorKind has a sentence on the page."""
    page = list_telemetry.markdown()
    told = page.partition(f"## Values of `{names.ERROR_TYPE}`")[2]
    assert [kind.value for kind in ErrorKind if f"\n| `{kind.value}` | " not in told] == []
