"""JUnit's XML: what continuous integration is told of a run."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest

from eventbus.alerts import Verdict, VerdictRow
from eventbus.latency import LatencyHistogram
from eventbus.load.junit import to_junit
from eventbus.load.plan import LoadPlan
from eventbus.load.run import RunResult
from eventbus.observe import RunStatus
from eventbus.report import CloseReport
from eventbus.snapshot import BusSnapshot, ConnectionState

HELD = VerdictRow("p99(ack_latency) < 250ms", True, 0.0123, 0.25, "s")
CROSSED = VerdictRow("ratio(failed, accepted) < 1%", False, 0.125, 0.01, "ratio")
UNKNOWN = VerdictRow("p99(scheduled_latency) < 1s", None, None, 1.0, "s")
RESULT = RunResult(
    status=RunStatus.FINISHED,
    url="memory://",
    offered=100,
    refused=0,
    refusal=None,
    sending_s=1.0,
    elapsed_s=1.25,
    snapshot=BusSnapshot("bus", 1.25, 1.7e9, ConnectionState.CLOSED, accepted=100, acked=100),
    report=CloseReport(100, 100, 0, 0, 0, 0, 0, 0, 0, 0.1, False),
    error=None,
    run_id=None,
    latency=LatencyHistogram(),
    scheduled=LatencyHistogram(),
)
LOST = replace(RESULT, snapshot=replace(RESULT.snapshot, acked=90, unknown=10))


def cases(result: RunResult, plan: LoadPlan | None = None) -> dict[str, str | None]:
    """Each case by name, with the message of its failure; after a look at what surrounds them."""
    text = to_junit(plan or LoadPlan(name="nightly"), result)
    assert text.startswith("<?xml version='1.0' encoding='utf-8'?>\n")
    root = ElementTree.fromstring(text.encode())
    assert root.tag == "testsuites"
    (suite,) = root
    found: dict[str, str | None] = {}
    for case in suite:
        assert (case.tag, case.get("classname"), case.get("time")) == ("testcase", "ackscope", "1.250")
        failures = case.findall("failure")
        assert len(failures) <= 1
        name = case.get("name")
        assert name is not None
        found[name] = failures[0].get("message") if failures else None
    assert suite.get("tests") == str(len(found))
    assert suite.get("failures") == str(sum(message is not None for message in found.values()))
    assert suite.get("time") == "1.250"
    return found


def test_all_is_well() -> None:
    """Without thresholds there is one case, about the messages."""
    assert cases(RESULT) == {"messages": None}


def test_messages_that_were_not_acked() -> None:
    """Without thresholds, they are the failure."""
    assert cases(LOST) == {"messages": "10 of 100 accepted messages were not acked."}
    refused = replace(RESULT, refused=3, refusal="too large")
    assert cases(refused)["messages"] == "All 100 accepted messages were acked; 3 were refused before sending."


def test_thresholds() -> None:
    """Where there are any, they decide: a case each, and a failure says both figures with their units."""
    result = replace(LOST, verdict=Verdict(False, (HELD, CROSSED, UNKNOWN)))
    assert cases(result) == {
        "messages": None,
        "p99(ack_latency) < 250ms": None,
        "ratio(failed, accepted) < 1%": "does not hold: 12.5 % against 1 %",
        "p99(scheduled_latency) < 1s": "there was nothing to judge it by",
    }


def test_run_that_failed() -> None:
    """What ended it is a failure, whatever the thresholds say."""
    failed = replace(RESULT, status=RunStatus.FAILED, error="the broker is gone", verdict=Verdict(True, (HELD,)))
    assert cases(failed)["messages"] == "the broker is gone"
    assert cases(replace(failed, verdict=None))["messages"] == "The run failed: the broker is gone"


def test_run_that_a_threshold_ended() -> None:
    """It did not run to its end: one more case."""
    aborted = replace(RESULT, verdict=Verdict(False, (CROSSED,)), aborted="aborted after 12 s: it did not hold")
    assert cases(aborted)["ran to its end"] == "aborted after 12 s: it did not hold"


@pytest.mark.parametrize("text", ["<&>\"'", "schön ✗", "a\tb"])
def test_text_of_all_kinds(text: str) -> None:
    """Whatever a name or a broker's error holds, the XML can be read."""
    failed = replace(RESULT, error=text, verdict=Verdict(True, (HELD,)))
    plan = LoadPlan(name=text.replace("\t", " "))  # a name is one line
    assert cases(failed, plan)["messages"] == text


def test_text_that_xml_cannot_hold() -> None:
    """A control character in a broker's answer does not spoil the file."""
    failed = replace(RESULT, error="bad \x00\x1b[31m answer\ud800")
    assert cases(failed)["messages"] == "The run failed: bad \ufffd\ufffd[31m answer\ufffd"
