"""Streams: finds, makes and checks the JetStream stream behind a topic."""

from __future__ import annotations

import contextlib

import nats.errors
from nats.aio.client import Client
from nats.js import api
from nats.js.errors import APIError, NotFoundError, ServiceUnavailableError
from nats.js.manager import JetStreamManager

from eventbus.errors import ErrorClass, ErrorKind, TopicError
from eventbus.inspection import Level
from eventbus.ports import Route
from eventbus.publishers.nats import preflight
from eventbus.publishers.nats.replies import row_of
from eventbus.topic import TopicConfig, subject_matches

_REQUEST_TIMEOUT_S = 2.0
_NAME_IN_USE = 10058


async def prepare(
    client: Client, name: str, config: TopicConfig | None, longest_retry_s: float | None = None
) -> tuple[Route, bool]:
    """The route of a topic, and whether its stream was created for it.

    longest_retry_s: see preflight.examine.
    Waits for at most three requests of 2 s. Raises TopicError: TRANSIENT where the server could not answer.
    """
    topic = config or TopicConfig(name)
    jetstream = client.jsm()
    jetstream._timeout = _REQUEST_TIMEOUT_S
    try:
        info = await _existing(jetstream, name, topic)
        created = info is None
        if info is None:
            info = await _create(jetstream, name, topic, configured=config is not None)
    except (nats.errors.Error, TimeoutError, OSError) as error:
        raise _as_topic_error(name, error) from error
    if config is not None:
        _check(topic, info)
    window_s = info.config.duplicate_window or 0.0
    route = Route(
        topic,
        info.config.name,
        deduplicates=window_s > 0,
        duplicate_window_s=window_s,
        covers=tuple(info.config.subjects or ()),
        warnings=tuple(
            str(finding)
            for finding in preflight.examine(info, topic, longest_retry_s)
            if finding.level is Level.WARNING
        ),
    )
    return route, created


async def exists(client: Client, subject: str) -> bool:
    """True where some stream takes this subject. Raises TopicError where the server could not say."""
    jetstream = client.jsm()
    jetstream._timeout = _REQUEST_TIMEOUT_S
    try:
        await jetstream.find_stream_name_by_subject(subject)
    except NotFoundError:
        return False
    except (nats.errors.Error, TimeoutError, OSError) as error:
        raise _as_topic_error(subject, error) from error
    return True


async def find(client: Client, name: str) -> api.StreamInfo | None:
    """The stream that takes this subject, or None. Raises TopicError where the server could not say."""
    jetstream = client.jsm()
    jetstream._timeout = _REQUEST_TIMEOUT_S
    try:
        return await _existing(jetstream, name, TopicConfig(name))
    except (nats.errors.Error, TimeoutError, OSError) as error:
        raise _as_topic_error(name, error) from error


async def in_the_way(client: Client, wanted: api.StreamConfig) -> str | None:
    """A stream that has the name or one of the subjects of one that is to be made. Raises TopicError."""
    jetstream = client.jsm()
    jetstream._timeout = _REQUEST_TIMEOUT_S
    name = wanted.name or ""
    try:
        for subject in wanted.subjects or ():
            with contextlib.suppress(NotFoundError):
                return await jetstream.find_stream_name_by_subject(subject)
        with contextlib.suppress(NotFoundError):
            return (await jetstream.stream_info(name)).config.name
    except (nats.errors.Error, TimeoutError, OSError) as error:
        raise _as_topic_error(name, error) from error
    return None


async def _existing(jetstream: JetStreamManager, name: str, topic: TopicConfig) -> api.StreamInfo | None:
    """The stream named by the config, else the one that has the subject, else None."""
    try:
        stream = topic.stream or await jetstream.find_stream_name_by_subject(name)
        return await jetstream.stream_info(stream)
    except NotFoundError:
        return None


async def _create(jetstream: JetStreamManager, name: str, topic: TopicConfig, configured: bool) -> api.StreamInfo:
    if not topic.create:
        raise TopicError(
            f"no stream takes {name!r} and its TopicConfig has create=False: create one, or allow it",
            error_class=ErrorClass.FATAL,
            kind=ErrorKind.NO_STREAM,
        )
    wanted = wanted_for(name, topic, configured)
    stream = wanted.name or ""
    try:
        return await jetstream.add_stream(wanted)
    except APIError as error:
        if error.err_code != _NAME_IN_USE:
            raise
        info = await jetstream.stream_info(stream)  # made by somebody else meanwhile, or for other subjects
        if any(subject_matches(pattern, name) for pattern in info.config.subjects or ()):
            return info
        raise TopicError(
            f"topic {name!r} would make a stream named {stream}, which exists with the subjects "
            f"{', '.join(info.config.subjects or ())}: name another by TopicConfig(stream=...), or add the subject",
            error_class=ErrorClass.FATAL,
            kind=ErrorKind.NO_STREAM,
        ) from error


def wanted_for(name: str, topic: TopicConfig, configured: bool) -> api.StreamConfig:
    """The stream that is made for a topic where there is none."""
    first = name.split(".")[0]
    return api.StreamConfig(
        name=topic.stream or (first.upper() if first not in ("*", ">") else "ALL"),
        subjects=[topic.name] if configured else [first, f"{first}.>"],
        storage=api.StorageType.FILE if topic.storage == "file" else api.StorageType.MEMORY,
        num_replicas=topic.replicas,
        duplicate_window=topic.duplicate_window_s,
        max_msg_size=topic.max_message_bytes or -1,
    )


def _check(topic: TopicConfig, info: api.StreamInfo) -> None:
    """Raise TopicError that shows the difference where an existing stream is not what the config asks for."""
    config = info.config
    differences = []
    if not any(subject_matches(pattern, topic.name) for pattern in config.subjects or ()):
        differences.append(f"subjects: {', '.join(config.subjects or ()) or 'none'} do not take {topic.name!r}")
    storage = "memory" if config.storage == api.StorageType.MEMORY else "file"
    pairs = (
        ("duplicate_window_s", topic.duplicate_window_s, config.duplicate_window or 0.0),
        ("replicas", topic.replicas, config.num_replicas or 1),
        ("storage", topic.storage, storage),
    )
    differences += [f"{what}: wanted {wanted}, the stream has {has}" for what, wanted, has in pairs if wanted != has]
    largest = config.max_msg_size if config.max_msg_size and config.max_msg_size > 0 else None
    if topic.max_message_bytes is not None and topic.max_message_bytes != largest:
        differences.append(f"max_message_bytes: wanted {topic.max_message_bytes}, the stream has {largest}")
    if differences:
        raise TopicError(
            f"stream {config.name} exists and differs from TopicConfig({topic.name!r}): {'; '.join(differences)}. "
            "An existing stream is never changed: change the config or the stream",
            error_class=ErrorClass.FATAL,
            kind=ErrorKind.INVALID,
        )


def _as_topic_error(name: str, error: Exception) -> TopicError:
    if isinstance(error, ServiceUnavailableError) and not error.err_code:
        return TopicError(
            f"topic {name!r}: JetStream does not answer (not enabled, or no leader yet)",
            error_class=ErrorClass.TRANSIENT,
            kind=ErrorKind.UNAVAILABLE,
        )
    if isinstance(error, APIError) and error.err_code:
        row = row_of(error.err_code, error.description or "")
        text = f"topic {name!r}: the server says {error.description} ({error.err_code})"
        return TopicError(text, error_class=row.error_class, kind=row.kind)
    return TopicError(
        f"topic {name!r}: no answer from JetStream ({type(error).__name__}); is it enabled, and may this user ask it?",
        error_class=ErrorClass.TRANSIENT,
        kind=ErrorKind.UNAVAILABLE,
    )
