"""The contestants of ``python -m benchmarks nats``."""

from __future__ import annotations

from functools import partial

from benchmarks import natsio_client, telemetry_client
from benchmarks.ackscope import AckScope
from benchmarks.bare_socket import BareSocket
from benchmarks.catalog import Comparison, Contestant, Race, Reference
from benchmarks.nats_client import GatherPublish, Publish, PublishAsync
from eventbus import AckStrategy

_FLOOR = Reference("to_floor", "floor", twin=True)
_RIVAL = Reference("to_publish_async", "publish-async", twin=True)


def _ours(name: str, strategy: AckStrategy, label: str, **traits: bool | float) -> Contestant:
    return Contestant(name, label, partial(AckScope, strategy=strategy), **traits)  # type: ignore[arg-type]


CONTESTANTS = (
    Contestant("floor", "bare socket, counts acks", BareSocket, paced=True),
    Contestant("floor-no-ids", "bare socket, counts acks", BareSocket, message_ids=False, paced=True),
    Contestant("publish", "nats-py publish, awaited", Publish, share=0.1),
    Contestant("gather", "nats-py publish, gathered", GatherPublish, share=0.2),
    Contestant("publish-async", "nats-py publish_async", PublishAsync, paced=True, keeps=True),
    Contestant("publish-async-no-ids", "nats-py publish_async", PublishAsync, message_ids=False),
    Contestant(
        "natsio-publish-async", "natsio publish_async", natsio_client.NatsioPublishAsync, paced=True, keeps=True,
        missing=lambda: natsio_client.missing(),
    ),
    _ours("unified", AckStrategy.UNIFIED, "AckScope unified", paced=True, keeps=True),
    Contestant(
        "unified-telemetry", "AckScope unified, OpenTelemetry", telemetry_client.ObservedAckScope, paced=True,
        missing=lambda: telemetry_client.missing(),
    ),
    _ours("unified-no-ids", AckStrategy.UNIFIED, "AckScope unified", message_ids=False, paced=True),
    _ours("task-per-message", AckStrategy.TASK_PER_MESSAGE, "AckScope task per message", paced=True, keeps=True),
    _ours("wait-each", AckStrategy.WAIT_EACH, "AckScope wait for each", share=0.1),
    _ours("ignore", AckStrategy.IGNORE, "AckScope ignore acks", message_ids=False, acknowledged=False),
)  # fmt: skip
"""A message that nobody acknowledges is never repeated, so it needs no id."""

NATS = Race(
    kind="nats",
    title="NATS JetStream",
    contestants=CONTESTANTS,
    rates=(
        Comparison(_FLOOR, "of floor", "of floor", ".2f"),
        Comparison(_RIVAL, "of async", "of publish_async", ".1f"),
    ),
    cpus=(Comparison(_RIVAL, "of async", "of publish_async", ".2f"),),
    memory=(
        ("bytes_per_pending", "bytes per\npending", "bytes per pending"),
        ("bytes_per_pending_frozen", "bytes,\nfrozen", "bytes, server frozen"),
    ),
    traced=True,
    has_ids=True,
)
