"""``python -m benchmarks nats``, ``kafka``: race all contestants, print the table, write JSON and a picture.

``python -m benchmarks dead-server``: memory while nobody answers. ``telemetry``: what OpenTelemetry costs.
``accuracy``: whether the load driver sends when its schedule says. ``dashboard``: what an open page costs, and how soon
pages are there.
"""

from __future__ import annotations

import click

from benchmarks.accuracy_command import accuracy_command
from benchmarks.dashboard_command import dashboard_command
from benchmarks.dead_server_command import dead_server_command
from benchmarks.race_command import kafka_command, nats_command
from benchmarks.telemetry_command import telemetry_command


@click.group()
def main() -> None:
    """What a publisher's way of treating acks costs."""


main.add_command(nats_command)
main.add_command(kafka_command)
main.add_command(dead_server_command)
main.add_command(telemetry_command)
main.add_command(accuracy_command)
main.add_command(dashboard_command)

if __name__ == "__main__":
    main()
