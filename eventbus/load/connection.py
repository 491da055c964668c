"""How a plan connects, beyond its URL: files with credentials and certificates, and the mechanism of a Kafka's login.

Plain texts, and nothing secret: user, password and token are in the URL.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eventbus.config import ConnectionConfig, KafkaAuth, NatsAuth, TlsConfig
from eventbus.errors import ConfigError
from eventbus.load.setting import SettingRefused, shown
from eventbus.url import BrokerUrl

CONNECTION = ("creds_file", "ca_file", "cert_file", "key_file", "mechanism")
"""The names of NatsAuth, TlsConfig and KafkaAuth."""
_TLS = ("ca_file", "cert_file", "key_file")


def connection_of(url: str, values: Mapping[str, Any]) -> ConnectionConfig | None:
    """What ``eventbus.connect`` takes; None where nothing is asked for. Reads no file. Raises SettingRefused."""
    if not values:
        return None
    for name, value in values.items():
        if name not in CONNECTION:
            raise SettingRefused(("connection", name), f"is not known; use {', '.join(CONNECTION)}")
        if not isinstance(value, str) or not value:
            raise SettingRefused(("connection", name), f"is {shown(value)}; give it as text")
    broker = BrokerUrl.parse(url)
    if not broker.servers:
        raise SettingRefused("connection", f"is given, and {broker.scheme}:// says all of that by itself")
    if broker.is_kafka and "creds_file" in values:
        raise SettingRefused(("connection", "creds_file"), "is for NATS; Kafka takes a user and a password")
    if not broker.is_kafka and "mechanism" in values:
        raise SettingRefused(("connection", "mechanism"), "is for Kafka")
    auth: NatsAuth | KafkaAuth | None = None
    try:
        if "creds_file" in values:
            auth = NatsAuth(creds_file=values["creds_file"])
        elif "mechanism" in values:
            auth = KafkaAuth(mechanism=values["mechanism"])
        files = {name: values[name] for name in _TLS if name in values}
        return ConnectionConfig(auth=auth, tls=TlsConfig(**files) if files else None)
    except ConfigError as error:
        raise SettingRefused("connection", f"cannot be used: {error}") from error
