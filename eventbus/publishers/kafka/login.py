"""Login: what aiokafka is given of servers, credentials and certificates. Made once, before anything is dialled.

A password never travels in the clear unless somebody says so: PLAIN needs TLS, this machine, or ``allow_plaintext``.
"""

from __future__ import annotations

import ipaddress
from typing import Any
from urllib.parse import urlsplit

from eventbus.config import ConnectionConfig, KafkaAuth, TlsConfig
from eventbus.errors import ConfigError
from eventbus.publishers.tls import tls_context
from eventbus.url import take_credentials

_PORT = 9092  # Kafka's own


class KafkaLogin:
    """servers: ``HOST:PORT`` each. options: what AIOKafkaProducer and AIOKafkaAdminClient take of all this.

    Brokers tell a client their own addresses, so the servers here are only those that are asked first; user and
    password go to every broker that they name.
    Raises ConfigError, with nothing secret in it: files that cannot be read, contradictions, a password in the clear.
    """

    def __init__(self, servers: tuple[str, ...], config: ConnectionConfig) -> None:
        taken = [take_credentials(server) for server in servers]
        schemes = {server.partition("://")[0] for server, _ in taken}
        if len(schemes) > 1:
            raise ConfigError("broker URL: give all servers the same scheme, kafka:// or kafka+ssl://")
        if config.tls is not None and config.tls.hostname is not None:
            raise ConfigError("tls: hostname is not for Kafka; its brokers have several names, each in its certificate")
        self.tls = config.tls is not None or "kafka+ssl" in schemes
        self.servers = tuple(_address(server) for server, _ in taken)
        auth = _auth(config, {credentials for _, credentials in taken if credentials})
        self.options: dict[str, Any] = {
            "bootstrap_servers": list(self.servers),
            "security_protocol": ("SASL_" if auth else "") + ("SSL" if self.tls else "PLAINTEXT"),
        }
        if self.tls:
            self.options["ssl_context"] = tls_context(config.tls or TlsConfig())
        if auth is not None:
            self._refuse_plaintext(auth, [server for server, _ in taken])
            self.options |= {
                "sasl_mechanism": auth.mechanism,
                "sasl_plain_username": auth.user,
                "sasl_plain_password": auth.password,
            }

    def _refuse_plaintext(self, auth: KafkaAuth, servers: list[str]) -> None:
        if auth.mechanism != "PLAIN" or self.tls or auth.allow_plaintext:
            return
        if not all(_on_this_machine(urlsplit(server).hostname or "") for server in servers):
            raise ConfigError(
                "kafka:// with the mechanism PLAIN would send the password in the clear: use kafka+ssl://, or "
                "KafkaAuth(mechanism='SCRAM-SHA-512') if the brokers offer it; KafkaAuth(allow_plaintext=True) sends it"
            )


def _auth(config: ConnectionConfig, found: set[tuple[str, ...]]) -> KafkaAuth | None:
    """The one login of the cluster, from the URL or from the settings."""
    given = config.auth
    if given is not None and not isinstance(given, KafkaAuth):
        raise ConfigError(f"auth is {type(given).__name__}, which is for NATS; give a KafkaAuth")
    if not found:
        if given is not None and given.user is None:
            raise ConfigError("auth has neither user nor password, and the broker URL has none; give them in one place")
        return given
    if given is not None and given.user is not None:
        raise ConfigError("credentials are in the broker URL and in auth: give them in one place")
    if len(found) > 1:
        raise ConfigError("broker URL: all servers of Kafka have one login; give it once, before the first server")
    credentials = found.pop()
    if len(credentials) != 2:
        raise ConfigError("broker URL: Kafka wants user and password, as in kafka://USER:PASSWORD@HOST:PORT")
    user, password = credentials
    given = given or KafkaAuth()
    return KafkaAuth(user, password, given.mechanism, given.allow_plaintext)


def _address(server: str) -> str:
    """``host:port``, an IPv6 address in brackets."""
    parts = urlsplit(server)
    host = parts.hostname or ""
    return f"[{host}]:{parts.port or _PORT}" if ":" in host else f"{host}:{parts.port or _PORT}"


def _on_this_machine(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
