# SPDX-License-Identifier: Apache-2.0
"""The checks of a run as JUnit XML, which every CI system shows."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from junitparser import Error, Failure, JUnitXml, TestCase, TestSuite

from perception_node.printable import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perception_node.bench.hil.record import Check


def to_xml(
    name: str, checks: Sequence[Check], seconds: float, *, is_complete: bool = True
) -> bytes:
    """Return one test case per check.

    Args:
        name: of the scenario.
        checks: what was demanded and found.
        seconds: how long the run took.
        is_complete: False adds a case that is an error: the run was interrupted.

    """
    suite = TestSuite(printable(name))
    cases = [_to_case(name, check) for check in checks]
    if not is_complete:
        cases.append(_make_interruption(name, seconds))
    suite.add_testcases(cases)
    document = JUnitXml("perception hil")
    document.add_testsuite(suite)
    document.update_statistics()  # type: ignore[no-untyped-call]
    for element in (suite, document):
        element.time = round(seconds, 3)
    buffer = io.BytesIO()
    document.write(buffer, pretty=True)
    return buffer.getvalue()


def _to_case(name: str, check: Check) -> TestCase:
    case = TestCase(printable(check.name), classname=printable(f"hil.{name}"))
    if not check.is_ok:
        message = printable(f"found {check.found}, demanded {check.limit}")
        failure = Failure(message, "check")
        failure.text = f"{printable(check.name)}: {message}"
        case.result = [failure]
    return case


def _make_interruption(name: str, seconds: float) -> TestCase:
    case = TestCase("complete", classname=printable(f"hil.{name}"))
    case.result = [
        Error(f"interrupted after {seconds:.1f} s: the checks are of a part", "partial")
    ]
    return case
