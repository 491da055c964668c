"""Topics, their patterns, and what a TopicConfig refuses."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbus.errors import ConfigError
from eventbus.topic import TopicConfig, subject_matches


@pytest.mark.parametrize(
    ("pattern", "subject", "covered"),
    [
        ("orders", "orders", True),
        ("orders", "order", False),
        ("orders", "orders.a", False),
        ("orders.*", "orders.a", True),
        ("orders.*", "orders", False),
        ("orders.*", "orders.a.b", False),
        ("*.created", "orders.created", True),
        ("*.created", "orders.deleted", False),
        ("orders.>", "orders.a", True),
        ("orders.>", "orders.a.b.c", True),
        ("orders.>", "orders", False),
        (">", "orders", True),
        (">", "a.b", True),
        ("*", "a", True),
        ("*", "a.b", False),
        ("a.*.c.>", "a.b.c.d", True),
        ("a.*.c.>", "a.b.x.d", False),
        ("orders.>", "orders.*", True),
        ("orders.*", "orders.>", False),
        ("*", ">", False),
    ],
)
def test_pattern(pattern: str, subject: str, covered: bool):
    """``*`` is one token, a trailing ``>`` one or more."""
    assert subject_matches(pattern, subject) is covered
    assert TopicConfig(pattern).matches(subject) is covered


WORDS = st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4)


def slowly(pattern: list[str], subject: list[str]) -> bool:
    if not pattern or not subject:
        return not pattern and not subject
    if pattern == [">"]:
        return True
    return pattern[0] in ("*", subject[0]) and slowly(pattern[1:], subject[1:])


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from(["a", "b", "*"]), max_size=4), st.booleans(), WORDS)
def test_any_pattern(pattern: list[str], open_end: bool, subject: list[str]):
    """The same as a definition by recursion."""
    tokens = [*pattern, ">"] if open_end or not pattern else pattern
    assert subject_matches(".".join(tokens), ".".join(subject)) == slowly(tokens, subject)


def test_defaults():
    """Durable, created after need, two minutes of duplicate window."""
    topic = TopicConfig("orders.created")
    assert (topic.durable, topic.create, topic.duplicate_window_s, topic.replicas) == (True, True, 120.0, 1)
    assert not topic.is_pattern
    assert TopicConfig("orders.*").is_pattern
    assert TopicConfig(">").is_pattern


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": ""}, "topic name is ''"),
        ({"name": None}, "topic name is None"),
        ({"name": "a b"}, "without spaces, as in"),
        ({"name": "a\n"}, "without spaces"),
        ({"name": "a\0"}, "without spaces"),
        ({"name": ".a"}, "non-empty words"),
        ({"name": "a..b"}, "non-empty words"),
        ({"name": "a."}, "non-empty words"),
        ({"name": "a*"}, "a whole word"),
        ({"name": "a.>.b"}, "only at the end"),
        ({"name": "a.b>"}, "a whole word"),
        ({"stream": ""}, "stream name ''"),
        ({"stream": "a.b"}, "stream name 'a.b': use letters"),
        ({"stream": "a b"}, "stream name"),
        ({"stream": "../x"}, "stream name"),
        ({"duplicate_window_s": 0}, "duplicate_window_s of topic 'a' is 0; use more than 0"),
        ({"duplicate_window_s": float("nan")}, "duplicate_window_s"),
        ({"duplicate_window_s": float("inf")}, "duplicate_window_s"),
        ({"replicas": 0}, "replicas of topic 'a' is 0; use 1 to 5"),
        ({"replicas": 6}, "use 1 to 5"),
        ({"storage": "disk"}, "storage of topic 'a' is 'disk'; use 'file' or 'memory'"),
        ({"max_message_bytes": 0}, "max_message_bytes of topic 'a' is 0; use more than 0, or None"),
        ({"partitions": -1}, "partitions"),
        ({"min_insync_replicas": 0}, "min_insync_replicas of topic 'a' is 0; use 1 to replicas, which is 1, or None"),
        ({"min_insync_replicas": 4, "replicas": 3}, "use 1 to replicas, which is 3"),
        ({"ack_timeout_s": 0.0}, "ack_timeout_s"),
        ({"ack_timeout_s": float("inf")}, "ack_timeout_s"),
    ],
)
def test_config_that_cannot_be(arguments: dict[str, Any], words: str):
    """ConfigError says what was given, what is allowed, what to do."""
    with pytest.raises(ConfigError, match=words):
        TopicConfig(**{"name": "a", **arguments})
