"""NATS: JetStream with acks, core NATS without, on a nats-py connection."""
