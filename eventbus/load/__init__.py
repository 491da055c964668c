"""Load on purpose: what to send, how fast, and one run of it from connect to close."""
