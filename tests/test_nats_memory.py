"""Memory while a real nats-server is dead: flat at the window's bound, however long publishers go on."""

from __future__ import annotations

import sys

import pytest

from benchmarks.dead_server import LEAST_WINDOWS, MIB, Outcome, Sample, Scenario, Settings, measure

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="resident memory is read from /proc")

START = 40 * MIB


def small(scenario: Scenario, **changes: float) -> Settings:
    """A window of 4 MiB that ends every 0.2 s or so: what leaks one frame a message would grow by 20 MiB a second."""
    settings = {"seconds": 3.0, "ack_timeout_s": 0.06} | changes
    return Settings(scenario, publishers=200, payload_bytes=4096, window=1_000, window_bytes=4 * MIB, **settings)


@pytest.mark.integration
@pytest.mark.parametrize("scenario", ["frozen", "killed"])
async def test_dead_server_and_endless_publishers(scenario: Scenario) -> None:
    """Memory rises to what the window allows and stays; windows end all the time; the server's return is no jump."""
    outcome = await measure(small(scenario))
    assert outcome.complaints() == [], outcome.in_words()
    assert outcome.windows >= LEAST_WINDOWS
    assert max(sample.pending for sample in outcome.dead) == outcome.settings.window
    assert max(sample.waiting for sample in outcome.dead) == outcome.settings.publishers
    assert outcome.dead[-1].acked == 1  # the one before the server died
    assert outcome.dead[-1].stalls > 0
    assert outcome.told > LEAST_WINDOWS * outcome.settings.window
    assert outcome.back[-1].connection == "connected"


# ---- the judgement ----------------------------------------------------------------------------------------------


def sample(at_s: float, risen_mib: float, ended: int, acked: int = 0) -> Sample:
    return Sample(
        at_s, START + int(risen_mib * MIB), 0, 0, ended + acked, acked, 0, ended, 0, stalls=0, connection="connected"
    )


def judged(rises_mib: list[float], *, each: int = 2_000, back_mib: float = 5.0, returned: bool = True) -> list[str]:
    """What is said of a second half-window each with these rises, ``each`` messages ended between two samples."""
    dead = tuple(sample(float(at), rise, at * each) for at, rise in enumerate(rises_mib))
    back = (sample(len(dead), back_mib, dead[-1].ended, acked=1_000),)
    outcome = Outcome(small("frozen", seconds=len(dead)), START, dead, back, 0, 0.5 if returned else None)
    return outcome.complaints()


def test_flat_memory_is_no_complaint() -> None:
    """A rise to the plateau, and noise after it, is what has to be."""
    assert judged([1, 8, 10, 10, 11, 10, 12, 11]) == []


def test_memory_that_grows_is_told() -> None:
    """More than 5 % of the bound and 4 MiB above the plateau is growth, though the bound itself is far."""
    (complaint,) = judged([1, 4, 5, 5, 7, 8, 9, 10])
    assert "not flat" in complaint


def test_memory_above_the_bound_is_told() -> None:
    """Flat is not enough: it has to be flat at the bound, or below it."""
    bound_mib = sum(small("frozen").bound().values()) / MIB
    (complaint,) = judged([1, *[bound_mib + 5] * 7], back_mib=bound_mib)
    assert "the bound is" in complaint


def test_too_few_windows_say_nothing() -> None:
    """Memory is flat also where nothing happens; that is no proof."""
    (complaint,) = judged([5] * 8, each=100)
    assert "windows ended in the second half" in complaint


def test_jump_at_the_return_is_told() -> None:
    """What was held back must not come all at once when the server is there again."""
    (complaint,) = judged([5] * 8, back_mib=12)
    assert "jumped" in complaint


def test_bus_that_does_not_recover_is_told() -> None:
    """Without acks of new messages after the server's return, flat memory is that of a dead bus."""
    (complaint,) = judged([5] * 8, returned=False)
    assert "no window of new messages was acked" in complaint
