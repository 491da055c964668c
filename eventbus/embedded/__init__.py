"""Brokers that start from the installed packages, for a first run with nothing to set up."""

from eventbus.embedded.link import Link

__all__ = ["Link"]
