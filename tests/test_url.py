"""Broker URLs: what is taken, what is refused, and that a password is never shown."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eventbus.errors import ConfigError
from eventbus.url import SCHEMES, BrokerUrl


@pytest.mark.parametrize(
    ("text", "servers", "redacted"),
    [
        ("nats://127.0.0.1:4222", ("nats://127.0.0.1:4222",), "nats://127.0.0.1:4222"),
        ("nats://host", ("nats://host",), "nats://host"),
        ("tls://user:secret@host:4", ("tls://user:secret@host:4",), "tls://host:4"),
        ("nats://token@host", ("nats://token@host",), "nats://host"),
        ("ws://[::1]:80", ("ws://[::1]:80",), "ws://[::1]:80"),
        ("nats://a:1,b:2", ("nats://a:1", "nats://b:2"), "nats://a:1,nats://b:2"),
        ("nats://u:secret@a,tls://u:secret@b:5", ("nats://u:secret@a", "tls://u:secret@b:5"), "nats://a,tls://b:5"),
        ("memory://", (), "memory://"),
        ("embedded+nats://", (), "embedded+nats://"),
        ("kafka://127.0.0.1:9092", ("kafka://127.0.0.1:9092",), "kafka://127.0.0.1:9092"),
        ("kafka://host", ("kafka://host",), "kafka://host"),
        (
            "kafka://a:1,b:2,[::1]:3",
            ("kafka://a:1", "kafka://b:2", "kafka://[::1]:3"),
            "kafka://a:1,kafka://b:2,kafka://[::1]:3",
        ),
        ("kafka://u:secret@a:1,b", ("kafka://u:secret@a:1", "kafka://b"), "kafka://a:1,kafka://b"),
        (
            "kafka+ssl://u:secret@a,kafka+ssl://b:2",
            ("kafka+ssl://u:secret@a", "kafka+ssl://b:2"),
            "kafka+ssl://a,kafka+ssl://b:2",
        ),
        ("kafka://host:9092/", ("kafka://host:9092/",), "kafka://host:9092"),
        ("embedded+kafka://", (), "embedded+kafka://"),
    ],
)
def test_url(text: str, servers: tuple[str, ...], redacted: str):
    """Servers with credentials for the client, and a form without them for everyone else."""
    url = BrokerUrl.parse(text)
    assert (url.servers, url.redacted) == (servers, redacted)
    assert url.scheme == text.partition("://")[0]
    assert "secret" not in repr(url)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host:4222",
        "127.0.0.1",
        "http://host",
        "kafka+sasl://host",
        "kafkas://host",
        "kafka://",
        "kafka://a,nats://b",
        "nats://a,kafka://b",
        "kafka://host:9092/topic",
        "kafka://host?acks=1",
        "kafka://host:port",
        "embedded+kafka://127.0.0.1:9092",
        "NATS//host",
        "nats://",
        "nats://,",
        "nats://a,,b",
        "nats://a, b",
        "nats://host:port",
        "nats://host:99999",
        "nats://:4222",
        "nats://[::1",
        "nats://a,http://b",
        "memory://x",
        "embedded+nats://127.0.0.1:4222",
        None,
        5,
        b"nats://host",
    ],
)
def test_url_that_cannot_be_used(text: Any):
    """ConfigError, which says what to write."""
    with pytest.raises(ConfigError, match=r"broker URL.*: (use |.* is not a server; use |nothing may follow )"):
        BrokerUrl.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "user:secret@host:4222",
        "nats:/user:secret@host",
        "user:secret@nats://h",
        "nats://user:12/secret@host",
        "nats://user:p@secret,word@host",
        "nats://user:a,secret@host",
        "nats://user:a?secret@host",
        "nats://user:1#secret@host",
        "kafka://a:9092,user:secret@b:9092",
        "kafka://user:secret,more@host",
        "kafka://user:12/secret@host",
        "kafka://host:9092?sasl_password=secret",
        "kafka://host:9092/#secret",
        "kafkas://user:secret@host",
    ],
)
def test_password_in_a_url_written_wrongly(text: str):
    """Refused, and not repeated: neither as part of the scheme nor as somebody's host."""
    with pytest.raises(ConfigError) as caught:
        BrokerUrl.parse(text)
    assert "secret" not in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(
    scheme=st.sampled_from([*SCHEMES, "http", "redis"]),
    rest=st.sampled_from(["host", "host:4222", "host:port", "ho st", "", "[::1", "a,b", "host:99999999"]),
)
def test_password_in_any_url(scheme: str, rest: str):
    """Neither an error nor what is shown repeats it."""
    try:
        url = BrokerUrl.parse(f"{scheme}://someone:hunter2@{rest}")
    except ConfigError as error:
        shown = str(error)
    else:
        shown = f"{url!r} {url.redacted}"
    assert "hunter2" not in shown
    assert "someone" not in shown


def test_unknown_scheme():
    """The error lists what may be written."""
    with pytest.raises(ConfigError) as caught:
        BrokerUrl.parse("redis://host")
    for scheme in SCHEMES:
        assert f"{scheme}://" in str(caught.value)
