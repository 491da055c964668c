"""Benchmarks: what a publisher's way of treating acks costs, all contestants in one run on one server."""
