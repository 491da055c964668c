"""Servers, credentials and certificates of Kafka, and its settings."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import trustme
from aiokafka import AIOKafkaProducer

from eventbus import config as config_module
from eventbus.config import ConnectionConfig, KafkaAuth, KafkaConfig, NatsAuth, TlsConfig
from eventbus.errors import ConfigError
from eventbus.publishers.kafka.login import KafkaLogin
from eventbus.url import BrokerUrl


def login(url: str, **settings: Any) -> KafkaLogin:
    return KafkaLogin(BrokerUrl.parse(url).servers, ConnectionConfig(**settings))


SCRAM = KafkaAuth("bob", "secret", "SCRAM-SHA-512")


def test_servers():
    """Each with its port, Kafka's default where there is none, without credentials."""
    found = login("kafka://bob:secret@127.0.0.1:1,localhost,[::1]:3,[::1]")
    assert found.servers == ("127.0.0.1:1", "localhost:9092", "[::1]:3", "[::1]:9092")
    assert found.options["bootstrap_servers"] == list(found.servers)


@pytest.mark.parametrize(
    ("url", "settings", "protocol"),
    [
        ("kafka://a", {}, "PLAINTEXT"),
        ("kafka+ssl://a", {}, "SSL"),
        ("kafka://a", {"tls": TlsConfig()}, "SSL"),
        ("kafka://a", {"auth": SCRAM}, "SASL_PLAINTEXT"),
        ("kafka+ssl://a", {"auth": SCRAM}, "SASL_SSL"),
        ("kafka+ssl://bob:secret@a", {}, "SASL_SSL"),
    ],
)
async def test_security_protocol(url: str, settings: dict[str, Any], protocol: str):
    """TLS by scheme or setting, SASL where there is a user; aiokafka takes it as it is."""
    options = login(url, **settings).options
    assert options["security_protocol"] == protocol
    assert ("ssl_context" in options) == ("SSL" in protocol.split("_")[-1])
    assert ("sasl_plain_username" in options) == protocol.startswith("SASL_")
    producer = AIOKafkaProducer(**options)
    await producer.stop()


def test_certificates_are_verified():
    """Names too; nothing here turns that off."""
    context = login("kafka+ssl://a").options["ssl_context"]
    assert isinstance(context, ssl.SSLContext)
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)


@pytest.mark.parametrize(
    ("url", "auth", "expected"),
    [
        ("kafka+ssl://bob:s%40cret@a", None, ("PLAIN", "bob", "s@cret")),
        ("kafka+ssl://bob:@a", None, ("PLAIN", "bob", "")),
        ("kafka+ssl://a", KafkaAuth("bob", "secret"), ("PLAIN", "bob", "secret")),
        ("kafka+ssl://a", KafkaAuth("bob", "secret", "SCRAM-SHA-256"), ("SCRAM-SHA-256", "bob", "secret")),
        ("kafka+ssl://bob:secret@a,b", KafkaAuth(mechanism="SCRAM-SHA-512"), ("SCRAM-SHA-512", "bob", "secret")),
        ("kafka+ssl://bob:secret@a,kafka+ssl://bob:secret@b", None, ("PLAIN", "bob", "secret")),
    ],
)
def test_credentials(url: str, auth: KafkaAuth | None, expected: tuple[str, str, str]):
    """From the URL, decoded, or from the settings; the mechanism always from the settings."""
    options = login(url, auth=auth).options
    keys = ("sasl_mechanism", "sasl_plain_username", "sasl_plain_password")
    assert tuple(options[key] for key in keys) == expected


@pytest.mark.parametrize(
    ("url", "auth"),
    [
        ("kafka://bob:secret@127.0.0.1:9092,localhost:9093,[::1]:9094", None),
        ("kafka://127.3.2.1", KafkaAuth("bob", "secret")),
        ("kafka://bob:secret@a", KafkaAuth(mechanism="SCRAM-SHA-256")),
        ("kafka://a", KafkaAuth("bob", "secret", allow_plaintext=True)),
        ("kafka+ssl://bob:secret@a", None),
    ],
)
def test_password_that_may_travel(url: str, auth: KafkaAuth | None):
    """On this machine, under TLS, as SCRAM, or because somebody says so."""
    assert login(url, auth=auth).options["sasl_plain_password"] == "secret"


@pytest.mark.parametrize(
    "url", ["kafka://bob:secret@a", "kafka://bob:secret@127.0.0.1,a", "kafka://bob:secret@10.0.0.1"]
)
def test_password_in_the_clear(url: str):
    """Refused, naming what would be safe and the setting that allows it."""
    with pytest.raises(ConfigError, match=r"in the clear: use kafka\+ssl://.*allow_plaintext=True") as caught:
        login(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "settings", "text"),
    [
        ("kafka://a,kafka+ssl://b", {}, "same scheme"),
        ("kafka://bob:secret@a", {"auth": SCRAM}, "in one place"),
        ("kafka://a", {"auth": KafkaAuth()}, "neither user nor password"),
        ("kafka://a", {"auth": NatsAuth(token="secret")}, "NatsAuth, which is for NATS; give a KafkaAuth"),
        ("kafka://secret@a", {}, "wants user and password"),
        ("kafka://bob:secret@a,kafka://eve:secret@b", {}, "one login"),
        ("kafka://a", {"tls": TlsConfig(hostname="b")}, "hostname is not for Kafka"),
        (
            "kafka://a",
            {"tls": TlsConfig(ca_file="/nowhere.pem")},
            "ca_file '/nowhere.pem' cannot be used: no such file",
        ),
        ("kafka://a", {"tls": TlsConfig(cert_file="/nowhere.pem")}, "see cert_file, key_file, key_password"),
    ],
)
def test_settings_that_contradict(url: str, settings: dict[str, Any], text: str):
    """ConfigError that says what to do, and nothing secret."""
    with pytest.raises(ConfigError) as caught:
        login(url, **settings)
    assert text in str(caught.value)
    assert "secret" not in str(caught.value)


def test_own_certificate(tmp_path: Path):
    """Mutual TLS, with our own authority."""
    authority = trustme.CA()
    certificate = authority.issue_cert("client.example")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "client.pem")
    tls = TlsConfig(ca_file=tmp_path / "ca.pem", cert_file=tmp_path / "client.pem")
    assert login("kafka://a", tls=tls).options["ssl_context"].cert_store_stats()["x509_ca"] == 1
    (tmp_path / "client.pem").write_text("no certificate")
    with pytest.raises(ConfigError, match=r"client.pem' cannot be used"):
        login("kafka://a", tls=tls)


@pytest.mark.parametrize(
    "fields",
    [{"user": "bob"}, {"password": "secret"}, {"user": "", "password": "secret"}, {"mechanism": "GSSAPI"}],
    ids=str,
)
def test_auth_that_cannot_be(fields: dict[str, Any]):
    """Refused on construction, without the password."""
    with pytest.raises(ConfigError) as caught:
        KafkaAuth(**fields)
    assert "secret" not in str(caught.value)


def test_auth_shown():
    """Neither user nor password."""
    assert repr(SCRAM) == "KafkaAuth(mechanism='SCRAM-SHA-512', allow_plaintext=False)"
    assert "secret" not in repr(ConnectionConfig(auth=SCRAM))


def test_defaults():
    """The safe ones; batches as measured to be best."""
    kafka = ConnectionConfig().kafka
    assert (kafka.acks, kafka.idempotent, kafka.compression) == ("all", True, None)
    assert (kafka.linger_s, kafka.max_batch_bytes, kafka.max_request_bytes) == (0.0, 262_144, 1_048_576)


@pytest.mark.parametrize(
    ("fields", "setting"),
    [
        ({"acks": 0}, "acks"),
        ({"acks": 2}, "acks"),
        ({"acks": True}, "acks"),
        ({"acks": "leader"}, "acks"),
        ({"acks": 1}, "idempotent"),
        ({"linger_s": -0.1}, "linger_s"),
        ({"linger_s": float("nan")}, "linger_s"),
        ({"linger_s": 11}, "linger_s"),
        ({"max_batch_bytes": 0}, "max_batch_bytes"),
        ({"max_batch_bytes": 2_000_000}, "max_request_bytes"),
        ({"max_request_bytes": 0}, "max_request_bytes"),
        ({"max_request_bytes": 2**31}, "max_request_bytes"),
        ({"compression": "brotli"}, "compression"),
    ],
    ids=str,
)
def test_setting_that_cannot_be(fields: dict[str, Any], setting: str):
    """Refused, naming the setting."""
    with pytest.raises(ConfigError, match=setting):
        KafkaConfig(**fields)


def test_settings_that_can_be():
    """acks of the leader without idempotence, no waiting, large batches, each compression."""
    assert KafkaConfig(acks=1, idempotent=False, linger_s=0, max_batch_bytes=1_048_576).acks == 1
    for compression in (None, "gzip", "snappy", "lz4", "zstd"):
        assert replace(KafkaConfig(), compression=compression).compression == compression


@pytest.mark.parametrize("compression", ["snappy", "lz4", "zstd"])
def test_compression_that_is_not_installed(compression: Any, monkeypatch: pytest.MonkeyPatch):
    """Told what to install; gzip comes with Python."""
    monkeypatch.setattr(config_module, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"needs cramjam; install it with `pip install 'ackscope\[kafka\]'`"):
        KafkaConfig(compression=compression)
    assert KafkaConfig(compression="gzip").compression == "gzip"
