"""How a plan connects beyond its URL: files and mechanism, checked with the plan, and used by its run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trustme

from eventbus import AckOutcome, ConfigError, KafkaAuth, NatsAuth
from eventbus.embedded.nats import EmbeddedNats
from eventbus.load.connection import CONNECTION, connection_of
from eventbus.load.plan import LoadPlan
from eventbus.load.plan_file import plan_from
from eventbus.load_bus import connect_plan

NATS, KAFKA = "nats://h:4222", "kafka://me:secret@h:9092"


def test_names_become_settings_of_the_connection() -> None:
    """Each is what NatsAuth, TlsConfig and KafkaAuth call it; without any, the URL alone decides."""
    assert connection_of(NATS, {}) is None
    made = connection_of(
        NATS, {"creds_file": "a.creds", "ca_file": "ca.pem", "cert_file": "c.pem", "key_file": "k.pem"}
    )
    assert made is not None
    assert isinstance(made.auth, NatsAuth)
    assert made.tls is not None
    assert (made.auth.creds_file, made.tls.ca_file, made.tls.cert_file, made.tls.key_file) == (
        *("a.creds", "ca.pem", "c.pem", "k.pem"),
    )
    kafka = connection_of(KAFKA, {"mechanism": "SCRAM-SHA-512"})
    assert kafka is not None
    assert isinstance(kafka.auth, KafkaAuth)
    assert (kafka.auth.mechanism, kafka.tls) == ("SCRAM-SHA-512", None)


@pytest.mark.parametrize(
    ("url", "values", "said"),
    [
        (NATS, {"password": "secret"}, "connection.password is not known"),
        (NATS, {"ca_file": ""}, "connection.ca_file is ''"),
        (NATS, {"ca_file": 5}, "connection.ca_file is 5"),
        (NATS, {"mechanism": "PLAIN"}, "connection.mechanism is for Kafka"),
        (NATS, {"key_file": "k.pem"}, "give cert_file too"),
        (KAFKA, {"creds_file": "a.creds"}, "connection.creds_file is for NATS"),
        (KAFKA, {"mechanism": "MD5"}, "use one of PLAIN"),
        ("embedded+nats://", {"ca_file": "ca.pem"}, "embedded+nats:// says all of that by itself"),
        ("nats+context://mine", {"creds_file": "a.creds"}, "says all of that by itself"),
    ],
)
def test_what_cannot_be_is_refused_with_the_plan(url: str, values: dict[str, Any], said: str) -> None:
    """Before anything is connected, by its name, and without what is secret in the URL."""
    with pytest.raises(ConfigError) as refused:
        LoadPlan(url=url, connection=values)
    assert said in str(refused.value)
    assert "secret" not in str(refused.value).replace("connection.password", "")


def test_plan_keeps_it_for_other_processes_and_in_files(tmp_path: Path) -> None:
    """Parts of a run connect in the same way; a file has a table of it, whose lines are told."""
    plan = LoadPlan(url=NATS, connection={"ca_file": "ca.pem"})
    assert LoadPlan.from_dict(plan.to_dict()) == plan
    assert plan.with_share(1, 2).connection == {"ca_file": "ca.pem"}
    file = tmp_path / "plan.toml"
    file.write_text(f'url = "{NATS}"\n[connection]\nca_file = "ca.pem"\n')
    assert plan_from(file) == plan
    file.write_text(f'url = "{NATS}"\n[connection]\nca = "ca.pem"\n')
    with pytest.raises(ConfigError, match=r"plan\.toml:3: connection\.ca is not known"):
        plan_from(file)
    assert len(CONNECTION) == 5


@pytest.mark.integration
async def test_run_connects_with_its_files(tmp_path: Path) -> None:
    """A server that wants a client's certificate, of an authority that nobody else trusts: acked with the files of the
    plan, and no connection without them."""
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1"), authority.issue_cert("me@broker.test")
    names = [[tmp_path / f"{who}-{what}.pem" for what in ("cert", "key")] for who in ("server", "client")]
    for one, (cert, key) in zip(issued, names, strict=True):
        one.private_key_pem.write_to_path(key)
        for number, blob in enumerate(one.cert_chain_pems):
            blob.write_to_path(cert, append=number > 0)
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    config = f'tls {{ cert_file: "{names[0][0]}", key_file: "{names[0][1]}", ca_file: "{ca}", verify: true }}'
    with EmbeddedNats(extra_config=config) as server:
        url = server.url.replace("nats://", "tls://")
        files = {"ca_file": str(ca), "cert_file": str(names[1][0]), "key_file": str(names[1][1])}
        bus = await connect_plan(LoadPlan(url=url, connection=files), observers=(), witness=None)
        try:
            assert (await (await bus.publish("demo.events", b"x"))).outcome is AckOutcome.ACKED
        finally:
            await bus.close()
        with pytest.raises(Exception, match="certificate"):
            await connect_plan(LoadPlan(url=url), observers=(), witness=None)
