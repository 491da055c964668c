"""KafkaTopic: the lanes of one topic, and which of them a message takes."""

from __future__ import annotations

from collections.abc import Callable, Collection

from eventbus.errors import ErrorKind
from eventbus.ports import Outgoing, Random
from eventbus.publishers.kafka.check import record_bytes
from eventbus.publishers.kafka.lane import Lane
from eventbus.publishers.kafka.partitioner import StickyPartition, partition_for_key


class KafkaTopic:
    """partitions: those it has. make: a lane for one of them. known: all of its partitions and those with a leader, as
    last heard. max_message_bytes: what the broker takes of one message, None where that is not known.

    plain: messages without key and headers need no look at all.
    """

    def __init__(
        self,
        name: str,
        partitions: Collection[int],
        make: Callable[[str, int], Lane],
        known: Callable[[str], tuple[Collection[int], Collection[int]]],
        random: Random,
        sticky_bytes: int,
    ) -> None:
        self.name = name
        self.max_message_bytes: int | None = None
        self.needs_key = False
        self._make = make
        self._known = known
        self._sticky_bytes = sticky_bytes
        self.lanes = {partition: make(name, partition) for partition in sorted(partitions)}
        self._sticky = StickyPartition(random, tuple(self.lanes))
        self.current = self.lanes[self._sticky.current]
        self.queue = self.current.queue
        self.left_bytes = sticky_bytes
        """Of payloads that ``current`` still gets before another lane has its turn (KIP-794)."""

    @property
    def idle(self) -> bool:
        """True where nothing waits and nothing is under way."""
        return all(lane.idle for lane in self.lanes.values())

    def switch(self) -> None:
        """Another partition's turn: one with a leader and nothing to wait for, if there is one."""
        self.left_bytes = self._sticky_bytes
        self.current.hurry()
        partitions, available = self._known(self.name)
        self.grow(partitions)
        free = [p for p in available if p in self.lanes and not self.lanes[p].busy]
        self.current = self.lanes[self._sticky.switch(free or tuple(available) or tuple(self.lanes))]
        self.queue = self.current.queue

    def grow(self, partitions: Collection[int]) -> None:
        """The topic was given more partitions: from now on keys are spread over all of them, as Kafka's clients do."""
        for partition in sorted(set(partitions) - self.lanes.keys()):
            self.lanes[partition] = self._make(self.name, partition)

    def put(self, pending: Outgoing) -> Lane:
        """Into the lane that its key chooses, or without one into the current lane; returns that lane."""
        key = None if pending.extras is None else pending.extras[0]
        lane = self.current if key is None else self.lanes[partition_for_key(key.encode(), len(self.lanes))]
        if not lane.queue:
            if key is not None:
                lane = self._lane_now(key)
            lane.wake()
        lane.queue[pending.token] = pending
        if key is None:
            self.left_bytes -= len(pending.payload)
            if self.left_bytes < 0:
                self.switch()
        return lane

    def _lane_now(self, key: str) -> Lane:
        """The lane of a key, by what is known of the topic now: looked at when a batch begins, not for each message."""
        partitions, _ = self._known(self.name)
        if len(partitions) > len(self.lanes):
            self.grow(partitions)
        return self.lanes[partition_for_key(key.encode(), len(self.lanes))]

    def refusal(self, pending: Outgoing) -> tuple[ErrorKind, str] | None:
        """Why the broker would refuse it, and its whole batch with it; None where nothing is known against it."""
        key, headers, _ = pending.extras or (None, None, None)
        if self.needs_key and key is None:
            return ErrorKind.INVALID, f"topic {self.name!r} is compacted and takes no message without a key"
        if self.max_message_bytes is not None:
            size = record_bytes(key, pending.payload, headers)
            if size > self.max_message_bytes:
                return ErrorKind.TOO_LARGE, f"{size} bytes; max.message.bytes of the topic is {self.max_message_bytes}"
        return None
