# SPDX-License-Identifier: Apache-2.0
"""One thing that must hold, and what was found: the rows of every verdict."""

from __future__ import annotations

import os
import platform
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.markup import escape

from perception_node import __version__

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console

WIDTH = 32  # of a column


class Check(NamedTuple):
    """What was looked at, what was found, what would have been right, and whether it was."""

    name: str
    found: str
    limit: str
    is_ok: bool


def at_most(name: str, found: float, limit: float) -> Check:
    """Return the check that a number is not higher than another."""
    return Check(name, f"{found:.1f}", f"at most {limit:g}", found <= limit)


def to_row(check: Check) -> dict[str, Any]:
    """Return a check as the reports of soak and siege have it."""
    name, found, limit, is_ok = check
    return {"what": name, "found": found, "limit": limit, "is_ok": is_ok}


def begin_report(command: str) -> dict[str, Any]:
    """Return who makes a report, when, and on what."""
    return {
        "made_by": f"perception_node {__version__}, {command}",
        "time_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {"architecture": platform.machine(), "cores": os.cpu_count()},
    }


def print_checks(console: Console, checks: Iterable[Check]) -> None:
    """Print one line for each: what, found, limit, ok or FAILED."""
    for name, found, limit, is_ok in checks:
        verdict = "[green]ok[/]" if is_ok else "[red]FAILED[/]"
        console.print(f"{escape(f'{name:<{WIDTH}} {found:<{WIDTH}} {limit:<{WIDTH}}')} {verdict}")
