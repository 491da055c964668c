"""What a load sends: random bytes of a size, or the lines of a file."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import NoReturn

from eventbus.errors import ConfigError
from eventbus.load.plan import LoadPlan

MAX_REPLAY_BYTES = 512 * 1024 * 1024
"""A replay file is held in memory, so that every line is checked before the first is sent."""

_DISTINCT = 4096


@dataclass(frozen=True, slots=True)
class Payloads:
    """Where payloads come from. total: how many there are; None without end."""

    source: Iterator[bytes]
    total: int | None


def open_payloads(plan: LoadPlan) -> Payloads:
    """The payloads of ``plan``; a replay file is read and checked as a whole. Blocks. Raises ConfigError."""
    if plan.replay is None:
        return Payloads(random_payloads(plan.payload_size, plan.seed), None)
    lines = replay_lines(plan.replay)
    return Payloads(cycle(lines), None) if plan.loop else Payloads(iter(lines), len(lines))


def random_payloads(size: int, seed: int | None = None) -> Iterator[bytes]:
    """Random payloads of ``size`` bytes without end: slices of one random block, 4,096 different ones in turn.

    A slice costs 0.1 us; fresh random bytes would cost more than the publish. Equal seeds give equal payloads.
    """
    block = random.Random(seed).randbytes(size + _DISTINCT)
    while True:
        for start in range(_DISTINCT):
            yield block[start : start + size]


def replay_lines(path: Path) -> list[bytes]:
    """The lines of a JSONL file, byte for byte without their line ends (``\\n`` or ``\\r\\n``).

    Every line must be one JSON value in UTF-8. Raises ConfigError with file and line; an empty line is an error, an
    empty file too.
    """
    try:
        size = path.stat().st_size
        if size > MAX_REPLAY_BYTES:
            raise ConfigError(f"{path}: {size:,} bytes; a replay file may have {MAX_REPLAY_BYTES:,}: split it")
        content = path.read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    if not content:
        raise ConfigError(f"{path}: the file is empty; give one with a JSON value on each line")
    lines = content.removesuffix(b"\n").split(b"\n")
    for number, line in enumerate(lines, 1):
        if line.endswith(b"\r"):
            lines[number - 1] = line = line[:-1]
        _check_line(path, number, line)
    return lines


def _check_line(path: Path, number: int, line: bytes) -> None:
    if not line.strip():
        raise ConfigError(f"{path}:{number}: the line is empty; each line must be a JSON value")
    try:
        # Numbers are only looked at, not made: Python's limit on the digits of an int is not one of JSON.
        json.loads(line.decode("utf-8"), parse_int=str, parse_float=str, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        byte = f"byte 0x{line[error.start]:02x} at column {error.start + 1}"
        raise ConfigError(f"{path}:{number}: not UTF-8: {byte}") from error
    except json.JSONDecodeError as error:
        raise ConfigError(f"{path}:{number}: not JSON: {error.msg} at column {error.pos + 1}") from error
    except RecursionError as error:
        raise ConfigError(f"{path}:{number}: nested too deeply to be checked") from error


def _no_constant(name: str) -> NoReturn:
    raise json.JSONDecodeError(f"{name} is not a JSON number", name, 0)
