"""The contestants of ``python -m benchmarks kafka``."""

from __future__ import annotations

from functools import partial

from benchmarks.ackscope import AckScope
from benchmarks.aiokafka_client import Send, SendAndWait
from benchmarks.catalog import Comparison, Contestant, Race, Reference
from benchmarks.confluent_client import Produce, ProducePolledSeldom
from eventbus import AckStrategy
from eventbus.config import KafkaConfig

_AIOKAFKA = Reference("to_aiokafka_send", "aiokafka-send")
_CONFLUENT = Reference("to_confluent_produce", "confluent-produce")


def _ours(
    name: str, label: str, strategy: AckStrategy = AckStrategy.UNIFIED, linger_s: float | None = None,
    **traits: bool | float,
) -> Contestant:  # fmt: skip
    make = partial(AckScope, strategy=strategy, linger_s=linger_s)
    return Contestant(name, label, make, **traits)  # type: ignore[arg-type]


IGNORE = "ignore"
OUR_BATCH_BYTES = KafkaConfig().max_batch_bytes
CONFLUENT_LINGER_S = 0.005
"""librdkafka's default of ``linger.ms``, by its CONFIGURATION.md."""

CONTESTANTS = (
    Contestant("aiokafka-send", "aiokafka send", Send, paced=True, keeps=True),
    Contestant(
        "aiokafka-send-large-batches", f"aiokafka send, {OUR_BATCH_BYTES // 1024} KiB batches",
        partial(Send, batch_bytes=OUR_BATCH_BYTES), paced=True,
    ),
    Contestant("aiokafka-send-and-wait", "aiokafka send_and_wait", SendAndWait, share=0.05),
    Contestant("confluent-produce", "confluent-kafka produce", Produce, paced=True, keeps=True),
    Contestant("confluent-produce-polled-seldom", "confluent-kafka, polled seldom", ProducePolledSeldom),
    Contestant(
        "confluent-produce-no-linger", "confluent-kafka, no linger", partial(Produce, linger_s=0.0), paced=True
    ),
    _ours("unified", "AckScope unified", paced=True, keeps=True),
    _ours("unified-linger", "AckScope unified, 5 ms linger", linger_s=CONFLUENT_LINGER_S, paced=True),
    _ours("task-per-message", "AckScope task per message", AckStrategy.TASK_PER_MESSAGE, paced=True, keeps=True),
    _ours("wait-each", "AckScope wait for each", AckStrategy.WAIT_EACH, share=0.05),
    _ours(IGNORE, "AckScope ignore acks", AckStrategy.IGNORE, acknowledged=False),
)  # fmt: skip

KAFKA = Race(
    kind="kafka",
    title="Kafka",
    contestants=CONTESTANTS,
    rates=(
        Comparison(_AIOKAFKA, "of\naiokafka", "of aiokafka send", ".1f"),
        Comparison(_CONFLUENT, "of con-\nfluent", "of confluent-kafka", ".2f"),
    ),
    cpus=(
        Comparison(_AIOKAFKA, "of\naiokafka", "of aiokafka send", ".2f"),
        Comparison(_CONFLUENT, "of con-\nfluent", "of confluent-kafka", ".2f"),
    ),
    memory=(("bytes_per_pending_frozen", "bytes per\npending", "bytes per pending"),),
    traced=False,
    has_ids=False,
)
