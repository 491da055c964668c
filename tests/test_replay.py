"""The main job on real input: a file of real records through a real server, told by the command line."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from eventbus.embedded.nats import EmbeddedNats
from tests.nats_tools import read_back

pytestmark = pytest.mark.integration


def test_replayed_file_arrives_byte_for_byte(root: Path, flights: Path, tmp_path: Path) -> None:
    """Every line of the file is in the stream once, in order and unchanged, and all of them were acked."""
    result = tmp_path / "result.json"
    with EmbeddedNats() as server:
        command = [sys.executable, "-m", "eventbus", "load", "--url", server.url, "--topic", "flights.departed"]
        command += ["--replay", str(flights), "--json", str(result)]
        done = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        stored = asyncio.run(read_back(server.url, "FLIGHTS"))
    lines = flights.read_bytes().splitlines()
    assert [message.payload for message in stored] == lines
    assert len({message.message_id for message in stored}) == len(lines)
    totals = json.loads(result.read_text())
    assert totals["accepted"] == totals["acked"] == len(lines)
    assert totals["duplicates"] == 0
