"""A long run is read in few samples at first: soon, in its whole length, and with nothing lost that was counted."""

from __future__ import annotations

from pathlib import Path

import pytest

from eventbus.observe import StoreReader, StoreWriter
from eventbus.observe.packed import WHOLE_EVERY
from tests.dashboard_fakes import START_S, steady

SAMPLES = steady(60, rate=40.0)


@pytest.fixture
def kept(tmp_path: Path) -> tuple[StoreReader, str]:
    """A run of a minute, with that of another bus among its samples."""
    writer = StoreWriter(tmp_path / "runs.db")
    run_id, other = (
        writer.begin_run(url="nats://h:4222", topic="t", settings={}, started_wall_s=START_S + n) for n in range(2)
    )
    for sample in SAMPLES:
        writer.sample(run_id, sample)
        writer.sample(other, sample)
    assert writer.close(10)
    return StoreReader(tmp_path / "runs.db"), run_id


def test_coarse_samples_are_those_of_the_run_ten_seconds_apart(kept: tuple[StoreReader, str]) -> None:
    """Each is as it was written, histograms included, and the first one is the run's first."""
    reader, run_id = kept
    assert reader.coarse_samples(run_id) == SAMPLES[::WHOLE_EVERY]


def test_coarse_samples_are_as_few_as_asked_for(kept: tuple[StoreReader, str]) -> None:
    """However long a run is: fewer of them, further apart, and from the first one on."""
    reader, run_id = kept
    assert reader.coarse_samples(run_id, most=4) == SAMPLES[:: 2 * WHOLE_EVERY]
    assert reader.coarse_samples(run_id, most=1) == SAMPLES[:1]


def test_coarse_samples_end_where_finer_ones_begin(kept: tuple[StoreReader, str]) -> None:
    """None is later than asked for; of an unknown run and of no file there are none."""
    reader, run_id = kept
    assert reader.coarse_samples(run_id, until_wall_s=START_S + 25) == SAMPLES[:120:WHOLE_EVERY]
    assert reader.coarse_samples("unknown") == []
    assert StoreReader(reader.path.with_name("none.db")).coarse_samples(run_id) == []


def test_what_was_not_measured_once_is_none(kept: tuple[StoreReader, str]) -> None:
    """Figures that an older version did not keep are told as unknown, not as zero."""
    reader, run_id = kept
    last = reader.latest(run_id)
    assert last is not None
    assert (last.resident_bytes, last.store_delay_s, last.round_trip_s) == (None, None, None)
