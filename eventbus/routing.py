"""Routing: which route a topic takes, prepared once per stream and never per message.

Invariants
- At most one preparation runs per topic name; messages for it are accepted meanwhile and held by the ledger.
- The table by name is a bounded cache: a million subjects under one stream cost one preparation and bounded memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from eventbus.ack.handler import AckHandler
from eventbus.ack.retry import RetryPolicy
from eventbus.config import AckStrategy
from eventbus.errors import ConfigError, ErrorClass, InvalidMessage, TopicError
from eventbus.event import BusEvent, EventKind
from eventbus.ports import Clock, Failure, Publisher, Route
from eventbus.topic import TopicConfig, subject_matches

_CACHED_NAMES = 10_000
_TOLD_WARNINGS = 100
_AT_ONCE = 4
"""Preparations that may ask the broker at the same time: many new subjects usually belong to a few streams."""


class _Preparation(NamedTuple):
    """One name whose route is being found: its config, the route until then, and the task that asks."""

    config: TopicConfig | None
    provisional: Route
    task: asyncio.Task[None]


class Routing:
    """Owns routes and the tasks that prepare them."""

    def __init__(
        self,
        publisher: Publisher,
        handler: AckHandler,
        topics: Sequence[TopicConfig],
        strategy: AckStrategy,
        clock: Clock,
        ack_timeout_s: float,
    ) -> None:
        names = [topic.name for topic in topics]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"topic {name!r} is configured {names.count(name)} times; give each topic once")
        self._publisher = publisher
        self._handler = handler
        self._topics = sorted(topics, key=lambda topic: topic.is_pattern)  # a name of its own beats a pattern
        self._strategy = strategy
        self._clock = clock
        self._ack_timeout_s = ack_timeout_s
        self.by_name: dict[str, Route] = {}
        """The cache that ``find`` asks first; read by the bus on its hot path, changed here only."""
        self._known: list[Route] = []
        handler.reroute = self.reroute
        self._preparing: dict[str, _Preparation] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)

    def reroute(self, name: str, route: Route) -> Route:
        """Another route for ``name``, because nobody took a message by this one, or it was not ready and may be now.

        Looks the stream up again, and makes it where that is allowed; one look-up serves all messages that wait for it.
        """
        current = self.by_name.get(name)
        if current is not None and (current is not route or not route.ready):
            return current
        if route in self._known:
            self._known.remove(route)
        self.by_name.pop(name, None)  # other names that have this route come here by themselves
        return self.find(name)

    async def prepare_configured(self) -> None:
        """Prepare every configured topic. Raises TopicError for the first that cannot be had."""
        for topic in self._topics:
            self._learn(topic.name, await self._publisher.prepare(topic.name, topic))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What is wrong with the topics that are known, each once, at most 100; an empty tuple if nothing is."""
        told: dict[str, None] = {}
        for route in self._known:
            if route.warnings:
                told.update(dict.fromkeys(route.warnings))
                if len(told) >= _TOLD_WARNINGS:
                    break
        return tuple(told)[:_TOLD_WARNINGS]

    def find(self, name: str) -> Route:
        """The route of a topic; a provisional one, not ready, while it is being prepared. Never waits."""
        route = self.by_name.get(name)
        return route if route is not None else self._find_slowly(name)

    async def settled(self, name: str) -> Route:
        """The route of a topic once its preparation has ended; still not ready where that failed."""
        route = self.find(name)
        preparation = self._preparing.get(name)
        if not route.ready and preparation is not None:
            await asyncio.wait([preparation.task])
            route = self.by_name.get(name, route)
        return route

    def _find_slowly(self, name: str) -> Route:
        preparation = self._preparing.get(name)
        if preparation is not None:  # the cache was emptied meanwhile
            return preparation.provisional
        if "*" in name or ">" in name:
            raise InvalidMessage(f"topic {name!r} has a wildcard; publish to one topic, without '*' and '>'")
        config = next((topic for topic in self._topics if topic.matches(name)), None)
        known = self._known_for(name, config)
        if known is not None:
            return self._cache(name, known)
        try:
            topic = config or TopicConfig(name)
        except ConfigError as error:
            raise InvalidMessage(str(error)) from error
        provisional = self._complete(Route(topic, None, True, topic.duplicate_window_s, ready=False))
        self._cache(name, provisional)
        task = asyncio.create_task(self._prepare(name, config, provisional), name=f"prepare {name}")
        self._preparing[name] = _Preparation(config, provisional, task)
        return provisional

    def _known_for(self, name: str, config: TopicConfig | None) -> Route | None:
        return next((route for route in self._known if _serves(route, name, config)), None)

    async def _prepare(self, name: str, config: TopicConfig | None, provisional: Route) -> None:
        try:
            await self._ask(name, config, provisional)
        finally:  # cut short, or ended by a defect of the publisher
            self._give_up(name, provisional)

    def _give_up(self, name: str, provisional: Route) -> None:
        """The next publish asks again."""
        preparation = self._preparing.get(name)
        if preparation is not None and preparation.provisional is provisional:
            del self._preparing[name]
            self.by_name.pop(name, None)

    async def _ask(self, name: str, config: TopicConfig | None, provisional: Route) -> None:
        pauses = RetryPolicy()
        attempt = 0
        while True:
            attempt += 1
            try:
                async with self._turns:
                    route = self._learn(name, await self._publisher.prepare(name, config))
            except TopicError as error:
                if error.error_class is ErrorClass.FATAL:
                    self._give_up(name, provisional)  # first: whoever hears of it may publish again
                    failure = Failure(ErrorClass.FATAL, error.kind, str(error))
                    self._handler.routes_prepared({provisional: failure})
                    self._handler.happened(BusEvent(self._clock.wall_s(), EventKind.TOPIC_FAILED, str(error)))
                    return
                await asyncio.sleep(pauses.delay_bound_s(attempt))
            else:
                self._serve(name, route)
                return

    def _serve(self, asked: str, route: Route) -> None:
        """Every name whose preparation is going on and that this route serves has what it waits for."""
        served: dict[Route, Route | Failure] = {}
        for name, preparation in list(self._preparing.items()):
            if name == asked or _serves(route, name, preparation.config):
                del self._preparing[name]
                served[preparation.provisional] = self._cache(name, route)
                if name != asked:
                    preparation.task.cancel()
        self._handler.routes_prepared(served)

    def _learn(self, name: str, route: Route) -> Route:
        route = self._complete(route)
        if not route.exact or (route.warnings and len(self._known) < _TOLD_WARNINGS):
            self._known.append(route)
        # A pattern is no name that anybody may publish to.
        return route if "*" in name or ">" in name else self._cache(name, route)

    def _complete(self, route: Route) -> Route:
        """With what the bus knows and the publisher does not."""
        topic = route.topic
        timeout_s = self._ack_timeout_s if topic.ack_timeout_s is None else topic.ack_timeout_s
        acknowledged = topic.durable and self._strategy is not AckStrategy.IGNORE
        return replace(route, acknowledged=acknowledged, timeout_ns=int(timeout_s * 1e9))

    def _cache(self, name: str, route: Route) -> Route:
        if len(self.by_name) >= _CACHED_NAMES:
            self.by_name.clear()
        self.by_name[name] = route
        return route

    async def close(self) -> None:
        """Stop preparing."""
        tasks = [preparation.task for preparation in self._preparing.values()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


def _serves(route: Route, name: str, config: TopicConfig | None) -> bool:
    """A configured topic takes only its own route; others take any whose stream has their subject."""
    if route.exact:
        return route.covers == (name,)
    if config is not None:
        return route.topic is config
    return any(subject_matches(pattern, name) for pattern in route.covers)
