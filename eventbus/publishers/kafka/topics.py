"""KafkaTopics: finds or makes the topics that a bus publishes to, and knows what about them a publisher must heed.

Invariants
- An existing topic is never changed, and a topic is made only where its config allows it: the producer's own look-up,
  at which a broker may make one, comes last.
- A warning about a topic is told once, and again only where it was gone meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from aiokafka import errors as kafka
from aiokafka.protocol.admin import ApiVersionRequest, CreateTopicsRequest

from eventbus.config import KafkaConfig
from eventbus.errors import ErrorClass, ErrorKind, InvalidMessage, TopicError
from eventbus.event import EventKind
from eventbus.ports import Route
from eventbus.publishers.kafka import preflight
from eventbus.publishers.kafka.admin import STEP_TIMEOUT_S, UNREACHABLE, KafkaAdmin, why_unreachable
from eventbus.publishers.kafka.check import check_topic
from eventbus.publishers.kafka.cluster import (
    DENIED,
    LEADERLESS,
    UNKNOWN_TOPIC,
    ClusterView,
    TopicSettings,
    look,
    read_settings,
)
from eventbus.publishers.kafka.replies import read_call_error, read_code
from eventbus.topic import TopicConfig

PartitionsFor = Callable[[str], Awaitable[Collection[int]]]
"""The producer's look-up of a topic's partitions; raises what aiokafka raises."""

_LOOKUP_TIMEOUT_S = 5.0
"""For the producer's look-up. It asks again every 100 ms, and a new topic is known to all brokers in less than one."""
_SETTLE_TRIES = 20
_SETTLE_PAUSE_S = 0.1
"""How often a topic that was just made is looked at until the broker that is asked has heard of it too."""
_WITNESSES = 3
"""Brokers that are asked before messages are refused because there is no such topic."""
_TOPICS_KNOWN = 10_000

_EXISTS, _NOT_CONTROLLER = 36, 41
_BROKER_DEFAULT = -1
_KAFKA_ERRORS = (kafka.KafkaError, TimeoutError, OSError)


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """What a publisher must know of a topic, as it was when it was prepared.

    partitions: their numbers. max_message_bytes: the topic's ``max.message.bytes``, of a batch as it is sent; None
    where it is not told. needs_key: the broker refuses a whole batch for one message without a key.
    """

    name: str
    partitions: tuple[int, ...]
    max_message_bytes: int | None
    needs_key: bool


class KafkaTopics:
    """options: KafkaLogin's. client_id: as the brokers log it. tell: for people."""

    def __init__(
        self,
        options: Mapping[str, Any],
        kafka: KafkaConfig,
        client_id: str,
        tell: Callable[[EventKind, str], None],
    ) -> None:
        self._admin = KafkaAdmin(options, client_id)
        self._kafka = kafka
        self._tell = tell
        self._facts: dict[str, TopicFacts] = {}
        self._warned: dict[str, tuple[str, ...]] = {}
        self._tellings: Counter[str] = Counter()

    def facts(self, name: str) -> TopicFacts | None:
        """What is known of a topic that was prepared; None for others, and where 10,000 were prepared since."""
        return self._facts.get(name)

    async def prepare(self, name: str, config: TopicConfig | None, partitions_for: PartitionsFor) -> Route:
        """Find or make a topic. A pattern stands for topics that are prepared one by one: nothing is asked for it.

        Waits for a few requests of at most 6 s each, and 5 s for ``partitions_for``. Cancellation leaves nothing
        behind. Raises TopicError: TRANSIENT where the brokers could not answer.
        """
        topic = config or TopicConfig(name)
        if topic.is_pattern and name == topic.name:
            route = _route(topic, name, preflight.sentences(preflight.meaningless(topic)))
            self._warn(route)
            return route
        try:
            check_topic(name)
        except InvalidMessage as error:
            raise TopicError(str(error), error_class=ErrorClass.FATAL, kind=ErrorKind.INVALID) from error
        try:
            return await self._prepare(name, topic, partitions_for, configured=config is not None)
        except _KAFKA_ERRORS as error:
            raise _as_topic_error(name, error) from error

    async def round_trip(self) -> float:
        """Seconds that some broker takes to answer its smallest question, over the connection that topics are asked
        for: an answer there waits behind no batch. Waits at most 6 s; raises aiokafka's errors, OSError, TimeoutError.
        """
        return await self._admin.round_trip(ApiVersionRequest())

    async def close(self, timeout_s: float) -> None:
        """Close the connection that topics are asked for over, within ``timeout_s``."""
        await self._admin.close(timeout_s)

    async def _prepare(self, name: str, topic: TopicConfig, partitions_for: PartitionsFor, configured: bool) -> Route:
        view = await look(self._admin, name)
        found = view.topic_code != UNKNOWN_TOPIC
        if not found:
            await self._create(name, topic, view, configured)
        elif view.topic_code not in (0, LEADERLESS):
            raise _refused(name, view.topic_code)
        partitions = await self._partitions(name, partitions_for)
        if not found:
            view = await self._settled(name, view)
        settings = await read_settings(self._admin, name)
        # What is wrong with a pattern's config is told of the pattern.
        warnings = [*preflight.meaningless(topic)] if name == topic.name else []
        if isinstance(settings, int):
            warnings.append(preflight.untold(name, settings))
            settings = TopicSettings()
        if configured:  # also where it was just made: by somebody else, or by the broker in its own way
            warnings += preflight.differences(name, topic, settings, view)
        warnings += preflight.examine(name, settings, view, self._kafka, acknowledged=topic.durable)
        self._know(TopicFacts(name, partitions, settings.max_message_bytes, settings.compacted))
        route = _route(topic, name, preflight.sentences(warnings))
        self._warn(route)
        return route

    async def _create(self, name: str, topic: TopicConfig, view: ClusterView, configured: bool) -> None:
        """Make a topic. Does nothing where there is one meanwhile, or where the broker knows no such request: then the
        producer's look-up makes it, if the broker is set up so. Raises TopicError, or what KafkaAdmin.ask raises."""
        if not topic.create:
            raise await self._absent(name, view)
        request = create_request(name, topic, configured)
        try:
            code, text = verdict(await self._admin.ask(request))
            if code == _NOT_CONTROLLER and view.controller is not None:  # brokers of ZooKeeper's time do not pass it on
                code, text = verdict(await self._admin.ask_one(view.brokers[view.controller], request))
        except kafka.IncompatibleBrokerVersion:
            return
        if code in DENIED:
            raise TopicError(
                f"there is no topic {name!r}, and this user may not make it: create it, or allow Create on it",
                error_class=ErrorClass.FATAL,
                kind=ErrorKind.PERMISSION,
            )
        if code not in (0, _EXISTS):
            failure = read_code(code, name, text)
            text = f"topic {name!r} cannot be made: {failure.text}"
            raise TopicError(text, error_class=failure.error_class, kind=failure.kind)
        if code == 0:
            self._tell(EventKind.STREAM_CREATED, f"topic {name} created")

    async def _absent(self, name: str, view: ClusterView) -> TopicError:
        """For a topic that may not be made: for good, unless another broker knows it and only the first does not."""
        for server in list(view.brokers.values())[:_WITNESSES]:
            with contextlib.suppress(*UNREACHABLE):
                if (await look(self._admin, name, server)).topic_code != UNKNOWN_TOPIC:
                    text = f"topic {name!r} is not known to all brokers yet"
                    return TopicError(text, error_class=ErrorClass.TRANSIENT, kind=ErrorKind.UNAVAILABLE)
        return TopicError(
            f"there is no topic {name!r}, and its TopicConfig has create=False: create one, or allow it",
            error_class=ErrorClass.FATAL,
            kind=ErrorKind.NO_STREAM,
        )

    async def _partitions(self, name: str, partitions_for: PartitionsFor) -> tuple[int, ...]:
        """The producer's look-up. Here the topic exists, or the broker may make it: if not yet, it is a matter of time,
        or of the broker's setting."""
        try:
            async with asyncio.timeout(_LOOKUP_TIMEOUT_S):
                found = await partitions_for(name)
        except (kafka.UnknownTopicOrPartitionError, TimeoutError) as error:
            raise TopicError(
                f"topic {name!r} does not become known to the brokers; is it being deleted, or may it not be made?",
                error_class=ErrorClass.TRANSIENT,
                kind=ErrorKind.UNAVAILABLE,
            ) from error
        return tuple(sorted(found))

    async def _settled(self, name: str, view: ClusterView) -> ClusterView:
        """What the broker that we ask says of a topic that was just made, once it has heard of all of it."""
        for _ in range(_SETTLE_TRIES):
            view = await look(self._admin, name)
            if view.topic_code == 0 and view.partitions:
                break
            await asyncio.sleep(_SETTLE_PAUSE_S)
        return view

    def _know(self, facts: TopicFacts) -> None:
        self._facts.pop(facts.name, None)
        if len(self._facts) >= _TOPICS_KNOWN:
            del self._facts[next(iter(self._facts))]
        self._facts[facts.name] = facts

    def _warn(self, route: Route) -> None:
        """Tell what is wrong with a topic, each thing once, and again only where it was gone meanwhile. What has the
        same words for several topics, because it concerns our settings, is one thing."""
        log = route.log or ""
        told = self._warned.pop(log, ())
        for text in route.warnings:
            if text not in told and not self._tellings[text]:
                self._tell(EventKind.TOPIC_WARNING, text)
        if len(self._warned) >= _TOPICS_KNOWN:
            self._warned.clear()
            self._tellings.clear()
        self._tellings.update(route.warnings)
        for text in told:
            self._tellings[text] -= 1
            if self._tellings[text] <= 0:
                del self._tellings[text]
        if route.warnings:
            self._warned[log] = route.warnings


def _wanted(topic: TopicConfig, configured: bool) -> tuple[int, int, dict[str, str]]:
    """Partitions, replicas (-1: as the broker has it) and settings of a topic that is made."""
    settings = {"min.insync.replicas": topic.min_insync_replicas, "max.message.bytes": topic.max_message_bytes}
    return (
        topic.partitions or _BROKER_DEFAULT,
        topic.replicas if configured else _BROKER_DEFAULT,
        {setting: str(value) for setting, value in settings.items() if value is not None},
    )


def create_request(name: str, topic: TopicConfig, configured: bool, validate_only: bool = False) -> CreateTopicsRequest:
    """The question that makes a topic, or with validate_only asks whether it could be made."""
    partitions, replicas, settings = _wanted(topic, configured)
    timeout_ms = round(STEP_TIMEOUT_S * 1e3)
    return CreateTopicsRequest([(name, partitions, replicas, [], list(settings.items()))], timeout_ms, validate_only)


def verdict(answer: Mapping[str, Any]) -> tuple[int, str]:
    """Kafka's code of the answer to ``create_request``, 0 for yes, and what the broker says besides."""
    (told,) = answer["topic_errors"]
    return int(told["error_code"]), told.get("error_message") or ""


def _route(topic: TopicConfig, name: str, warnings: tuple[str, ...]) -> Route:
    """No message id is recognised when it is sent again, so nothing is deduplicated; and each topic has a route."""
    return Route(
        topic,
        name,
        deduplicates=False,
        duplicate_window_s=0.0,
        acknowledged=topic.durable,
        covers=(name,),
        warnings=warnings,
        exact=True,
    )


def _refused(name: str, code: int) -> TopicError:
    failure = read_code(code, name)
    return TopicError(failure.text, error_class=failure.error_class, kind=failure.kind)


def _as_topic_error(name: str, error: BaseException) -> TopicError:
    if isinstance(error, UNREACHABLE):
        return TopicError(
            f"topic {name!r}: no broker answers ({why_unreachable(error)})",
            error_class=ErrorClass.TRANSIENT,
            kind=ErrorKind.UNAVAILABLE,
        )
    failure = read_call_error(error, name)
    return TopicError(failure.text, error_class=failure.error_class, kind=failure.kind)
