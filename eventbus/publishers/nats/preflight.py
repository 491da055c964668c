"""Preflight: what about a stream will surprise whoever publishes to it. Pure.

A stream can be set up so that acks never come, or so that what was acked is not there. The server says so to nobody;
this page does, once, when a topic is set up. Every rule was seen on nats-server 2.15.1.
"""

from __future__ import annotations

from collections.abc import Iterator

from nats.js import api

from eventbus.inspection import Finding, Level
from eventbus.topic import TopicConfig


def examine(info: api.StreamInfo, topic: TopicConfig, longest_retry_s: float | None) -> tuple[Finding, ...]:
    """Everything worth telling about this stream, the worst first.

    longest_retry_s: how long after its first attempt a message may be sent again (RetryPolicy.lifetime_ns, in
    seconds); None where nothing is ever repeated.
    """
    return (
        *_answers(info.config),
        *_keeps(info),
        *_duplicate_window(info.config, topic, longest_retry_s),
        *_replicas(info),
    )


def limits_of(config: api.StreamConfig) -> dict[str, float]:
    """The limits that are set, by JetStream's names; max_age in seconds. The server says 0 or -1 for none."""
    names = ("max_msgs", "max_bytes", "max_age", "max_msgs_per_subject", "max_msg_size")
    values = {name: getattr(config, name) for name in names}
    return {name: value for name, value in values.items() if value is not None and value > 0}


def _answers(config: api.StreamConfig) -> Iterator[Finding]:
    if config.no_ack:
        yield Finding(
            Level.WARNING,
            f"stream {config.name} has no_ack",
            "it stores and never answers, so every message times out and ends as unknown",
            "Set no_ack to false, or publish with TopicConfig(durable=False), which expects no acks",
        )
    if config.sealed:
        yield Finding(
            Level.WARNING,
            f"stream {config.name} is sealed",
            "it refuses every message, for good",
            "Publish to another stream: a sealed one cannot be opened again",
        )


def _keeps(info: api.StreamInfo) -> Iterator[Finding]:
    """Acked, and then not there."""
    config = info.config
    if config.retention == api.RetentionPolicy.INTEREST and not info.state.consumer_count:
        yield Finding(
            Level.WARNING,
            f"stream {config.name} keeps messages by interest and has no consumer",
            "messages are acked and not stored",
            "Make a durable consumer before publishing, or use retention 'limits'",
        )
    removing = _removing(config)
    if removing:
        advice = "Remove these limits, or accept that the oldest messages go"
        if config.discard != api.DiscardPolicy.NEW:
            advice = "Use discard 'new' to have messages refused instead, remove the limits, or accept it"
        yield Finding(
            Level.WARNING,
            f"stream {config.name} removes old messages ({', '.join(removing)})",
            "what was acked may be gone before anybody reads it",
            advice,
        )


def _removing(config: api.StreamConfig) -> list[str]:
    """Limits at which stored messages go. With discard 'new' age still counts, and so does the limit per subject
    unless discard_new_per_subject is set."""
    limits = limits_of(config)
    limits.pop("max_msg_size", None)  # refuses, removes nothing
    if config.discard == api.DiscardPolicy.NEW:
        limits.pop("max_msgs", None)
        limits.pop("max_bytes", None)
        if config.discard_new_per_subject:
            limits.pop("max_msgs_per_subject", None)
    policy = "new" if config.discard == api.DiscardPolicy.NEW else "old"
    told = [f"{name} {value:g} s" if name == "max_age" else f"{name} {value:.0f}" for name, value in limits.items()]
    return [f"discard {policy}", *told] if told else []


def _duplicate_window(config: api.StreamConfig, topic: TopicConfig, longest_retry_s: float | None) -> Iterator[Finding]:
    window_s = config.duplicate_window or 0.0
    if longest_retry_s is not None and window_s < longest_retry_s and not topic.allow_duplicates:
        yield Finding(
            Level.WARNING,
            f"stream {config.name} remembers message ids for {window_s:g} s, retries go on for {longest_retry_s:g} s",
            "no second copy is stored, but retries of what is in doubt stop early and it ends as unknown",
            f"Set the stream's duplicate window to {longest_retry_s:.0f} s or more, or lower ack_timeout_s or "
            "max_attempts",
        )


def _replicas(info: api.StreamInfo) -> Iterator[Finding]:
    if (info.config.num_replicas or 1) > 1:
        return
    # A server on its own reports a leader and no name of a cluster.
    if info.cluster is not None and info.cluster.name:
        yield Finding(
            Level.WARNING,
            f"stream {info.config.name} has one replica in cluster {info.cluster.name}",
            "while its server is down nothing is stored, and with its disk everything is lost",
            "Set its replicas to 3; a stream that the bus makes gets them by TopicConfig(replicas=3)",
        )
    else:
        yield Finding(
            Level.INFO,
            f"stream {info.config.name} has one replica",
            "the server is on its own, so no more are possible, and it has the only copy",
            "Use a cluster and 3 replicas where that is not enough",
        )
