"""Kafka: record batches with one future each, on an aiokafka producer."""
