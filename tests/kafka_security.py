"""KafkaSecurity: the users and certificates of a KafkaNode, for the broker and for the clients of a test."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography.hazmat.primitives import serialization

LISTENERS = ("PLAINTEXT", "SASL_PLAINTEXT", "SASL_SSL", "SSL")
"""What a node with security listens on, each named as its security protocol. The first is always there."""
MECHANISMS = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
SUPER_USER = "admin"
_MODULES = "org.apache.kafka.common.security"


@dataclass(frozen=True, slots=True)
class KafkaSecurity:
    """Users with their passwords, the same for every mechanism, and the files of a private authority.

    SASL_PLAINTEXT and SASL_SSL ask for a user; SSL asks for a client certificate signed by ``ca``. The certificate of
    the broker is for 127.0.0.1 and localhost. ACLs are in force where a topic has one: without any, everybody may do
    everything, and SUPER_USER and who does not log in (PLAINTEXT) may always.
    """

    users: Mapping[str, str]
    ca: Path
    broker: Path
    client: Path
    other_ca: Path

    @classmethod
    def make(cls, directory: Path, users: Mapping[str, str] | None = None) -> KafkaSecurity:
        """Write certificates into a directory. Passwords may have neither quotes nor commas nor brackets."""
        directory.mkdir(parents=True, exist_ok=True)
        authority = trustme.CA()
        made = cls(
            users=users or {SUPER_USER: "admin-secret", "alice": "alice-secret"},
            ca=directory / "ca.pem",
            broker=directory / "broker.pem",
            client=directory / "client.pem",
            other_ca=directory / "other-ca.pem",
        )
        authority.cert_pem.write_to_path(made.ca)
        trustme.CA().cert_pem.write_to_path(made.other_ca)
        _write_key_and_chain(authority.issue_cert("127.0.0.1", "localhost"), made.broker)
        _write_key_and_chain(authority.issue_cert("client@test.invalid"), made.client)
        return made

    def broker_settings(self) -> dict[str, str]:
        """For server.properties."""
        settings = {
            "sasl.enabled.mechanisms": ",".join(MECHANISMS),
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": str(self.broker),
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.ca),
            "listener.name.ssl.ssl.client.auth": "required",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": f"User:ANONYMOUS;User:{SUPER_USER}",
            "allow.everyone.if.no.acl.found": "true",
        }
        passwords = " ".join(f'user_{user}="{password}"' for user, password in self.users.items())
        for listener in ("sasl_plaintext", "sasl_ssl"):
            prefix = f"listener.name.{listener}"
            settings[f"{prefix}.plain.sasl.jaas.config"] = f"{_MODULES}.plain.PlainLoginModule required {passwords};"
            for mechanism in ("scram-sha-256", "scram-sha-512"):
                settings[f"{prefix}.{mechanism}.sasl.jaas.config"] = f"{_MODULES}.scram.ScramLoginModule required;"
        return settings

    def format_arguments(self) -> list[str]:
        """For ``StorageTool format``, which writes the users of SCRAM into the metadata."""
        return [
            argument
            for user, password in self.users.items()
            for mechanism in MECHANISMS[1:]
            for argument in ("--add-scram", f"{mechanism}=[name={user},password={password}]")
        ]


def _write_key_and_chain(certificate: trustme.LeafCert, path: Path) -> None:
    """One file for Java and Python alike. Java reads a private key only as PKCS #8, which is not what trustme gives."""
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None)
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(pem + b"".join(blob.bytes() for blob in certificate.cert_chain_pems))
