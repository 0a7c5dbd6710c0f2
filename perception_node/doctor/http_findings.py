# SPDX-License-Identifier: Apache-2.0
"""What the doctor finds out about the packages of ``perception serve``."""

from __future__ import annotations

import re

from perception_node.doctor.findings import OK, OPTIONAL, Finding, version_of
from perception_node.errors import EnvironmentLacks

# Older ones, such as those of Ubuntu 24.04, work but let through what must be refused: they do not
# bound the parts of a form, or read a request otherwise than a proxy in front of them.
LOWEST = {"flask": "3.1", "flask-cors": "6.0", "prometheus-client": "0.19", "waitress": "3.0.1"}


def check_http() -> Finding:
    """Look for the packages with which `perception serve` answers HTTP."""
    found = {name: version_of(name) for name in LOWEST}
    listed = ", ".join(f"{name} {found[name] or 'missing'}" for name in found)
    wrong = [name for name in LOWEST if _numbers(found[name]) < _numbers(LOWEST[name])]
    if not wrong:
        return Finding("HTTP", OK, listed)
    advice = "pip install " + " ".join(f"'{name}>={LOWEST[name]}'" for name in wrong)
    return Finding("HTTP", OPTIONAL, f"{listed}: perception serve needs others", advice)


def require_http() -> None:
    """Refuse to serve with packages that are too old.

    Raises:
        EnvironmentLacks: one is missing or too old; says what to install.

    """
    finding = check_http()
    if finding.state != OK:
        raise EnvironmentLacks(finding.found, f"run: {finding.advice}")


def _numbers(text: str) -> list[int]:
    return [int(part) for part in re.findall(r"\d+", text)]
