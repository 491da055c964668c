"""What the list of brokers holds besides connection profiles."""

from __future__ import annotations

from dashboard.broker import KAFKA_URL, NATS_URL

EMBEDDED = {"Embedded NATS": NATS_URL, "Kafka mock": KAFKA_URL}
"""Those that come along, by what people call them."""
OWN = "Own broker"
"""One whose URL is typed."""
RESERVED = (*EMBEDDED, OWN)
"""No profile may be called so."""
