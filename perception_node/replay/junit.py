# SPDX-License-Identifier: Apache-2.0
"""The verdict on a replay as JUnit XML, which CI servers read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from junitparser import Failure, JUnitXml, TestCase, TestSuite

from perception_node.printable import printable

if TYPE_CHECKING:
    from perception_node.replay.verdict import Verdict


def to_junit(bag: str, verdict: Verdict) -> bytes:
    """Return the XML: a passed case per topic, or in its place a failed one per changed frame."""
    changed = {difference.topic for difference in verdict.differences}
    topics = dict.fromkeys(str(record.get("topic")) for record in verdict.found)
    suite = TestSuite("perception replay")
    for topic in topics:
        if topic not in changed:
            suite.add_testcase(TestCase(printable(topic), printable(bag)))
    for difference in verdict.differences:
        case = TestCase(printable(f"{difference.topic} frame {difference.number}"), printable(bag))
        line = printable(str(difference))
        failure = Failure(line, "difference")
        failure.text = f"{printable(difference.kind)}\n{line}"
        case.result = [failure]
        suite.add_testcase(case)
    document = JUnitXml("perception replay")
    document.add_testsuite(suite)
    document.update_statistics()  # type: ignore[no-untyped-call]
    content: bytes = document.tostring()  # type: ignore[no-untyped-call]
    return content
