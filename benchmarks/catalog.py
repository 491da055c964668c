"""The contestants, in the order in which they run and stand in the table."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import partial

from benchmarks import natsio_client
from benchmarks.ackscope import AckScope
from benchmarks.bare_socket import BareSocket
from benchmarks.nats_client import GatherPublish, Publish, PublishAsync
from benchmarks.producer import Make
from eventbus import AckStrategy

FLOOR = "floor"
RIVAL = "publish-async"


@dataclass(frozen=True, slots=True)
class Contestant:
    """One way to publish.

    name: for the command line. label: for people. message_ids: whether its messages carry ids.
    acknowledged: whether it hears of acks; one that does not may lose messages without noticing.
    share: of the messages of a full run; the slow ones publish fewer. paced: whether it can keep a given rate.
    keeps: whether it keeps something of a pending message, so that its memory can be measured.
    """

    name: str
    label: str
    make: Make
    message_ids: bool = True
    acknowledged: bool = True
    share: float = 1.0
    paced: bool = False
    keeps: bool = False

    @property
    def reference(self) -> str:
        """The contestant of the same kind (with or without ids) that stands for the floor."""
        return FLOOR if self.message_ids else f"{FLOOR}-no-ids"

    @property
    def rival(self) -> str:
        """The same for nats-py's publish_async."""
        return RIVAL if self.message_ids else f"{RIVAL}-no-ids"

    def missing(self) -> str | None:
        """Why it cannot take part here, or None if it can."""
        return natsio_client.missing() if self.make is natsio_client.NatsioPublishAsync else None


def _ours(name: str, strategy: AckStrategy, label: str, **traits: bool | float) -> Contestant:
    return Contestant(name, label, partial(AckScope, strategy=strategy), **traits)  # type: ignore[arg-type]


NATS = (
    Contestant(FLOOR, "bare socket, counts acks", BareSocket, paced=True),
    Contestant(f"{FLOOR}-no-ids", "bare socket, counts acks", BareSocket, message_ids=False, paced=True),
    Contestant("publish", "nats-py publish, awaited", Publish, share=0.1),
    Contestant("gather", "nats-py publish, gathered", GatherPublish, share=0.2),
    Contestant(RIVAL, "nats-py publish_async", PublishAsync, paced=True, keeps=True),
    Contestant(f"{RIVAL}-no-ids", "nats-py publish_async", PublishAsync, message_ids=False),
    Contestant(
        "natsio-publish-async", "natsio publish_async", natsio_client.NatsioPublishAsync, paced=True, keeps=True
    ),
    _ours("unified", AckStrategy.UNIFIED, "AckScope unified", paced=True, keeps=True),
    _ours("unified-no-ids", AckStrategy.UNIFIED, "AckScope unified", message_ids=False, paced=True),
    _ours("task-per-message", AckStrategy.TASK_PER_MESSAGE, "AckScope task per message", paced=True, keeps=True),
    _ours("wait-each", AckStrategy.WAIT_EACH, "AckScope wait for each", share=0.1),
    _ours("ignore", AckStrategy.IGNORE, "AckScope ignore acks", message_ids=False, acknowledged=False),
)
"""For ``python -m benchmarks nats``. A message that nobody acknowledges is never repeated, so it needs no id."""

BY_NAME = {contestant.name: contestant for contestant in NATS}


def has_uvloop() -> bool:
    """Whether uvloop is installed."""
    return importlib.util.find_spec("uvloop") is not None
