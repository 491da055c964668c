"""Adapters to brokers, each implementing ports.Publisher."""
