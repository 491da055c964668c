"""JUnit: a run's thresholds as test cases, the form that continuous integration shows."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from eventbus.alerts import VerdictRow
from eventbus.load.plan import LoadPlan
from eventbus.load.run import RunResult
from eventbus.load.summary import verdict

_NOT_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot hold, not even escaped; a broker's answer may."""


def to_junit(plan: LoadPlan, result: RunResult) -> str:
    """XML: one case for what became of the messages, and one for each threshold."""
    rows = [] if result.verdict is None else result.verdict.rows
    name = _text(f"ackscope load {plan.name or plan.topic}")
    suite = ElementTree.Element("testsuite", name=name, time=_s(result.elapsed_s))
    # Where there are thresholds, they decide what is a failure.
    failed = [] if rows or result.clean else [verdict(result)]
    failed += [result.error] if rows and result.error else []
    _case(suite, "messages", failed[0] if failed else None, result)
    for row in rows:
        _case(suite, row.text, None if row.passed else _why(row), result)
    if result.aborted is not None:
        _case(suite, "ran to its end", result.aborted, result)
    cases = list(suite)
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(sum(len(case) for case in cases)))
    root = ElementTree.Element("testsuites")
    root.append(suite)
    ElementTree.indent(root)
    # As bytes: as text, the declaration would name the encoding of this machine.
    made: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return made.decode() + "\n"


def _why(row: VerdictRow) -> str:
    if row.passed is None:
        return "there was nothing to judge it by"
    return f"does not hold: {row.value_text} against {row.threshold_text}"


def _case(suite: ElementTree.Element, name: str, failure: str | None, result: RunResult) -> None:
    case = ElementTree.SubElement(suite, "testcase", name=_text(name), classname="ackscope", time=_s(result.elapsed_s))
    if failure is not None:
        ElementTree.SubElement(case, "failure", message=_text(failure))


def _text(text: str) -> str:
    return _NOT_IN_XML.sub("\N{REPLACEMENT CHARACTER}", text)


def _s(seconds: float) -> str:
    return f"{seconds:.3f}"
