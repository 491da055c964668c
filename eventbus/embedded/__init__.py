"""Brokers that start from the installed packages, for a first run with nothing to set up."""
