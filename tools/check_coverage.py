#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compare the coverage that the tests have measured with the floor of each folder.

    python tools/check_coverage.py    # after pytest --cov; exit status 1 below a floor

A folder that is not named has the lowest floor.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections import Counter
from pathlib import Path

from coverage import Coverage

FLOOR = 95
FLOORS = {"bench": 85}  # what attacks and rehearses is tried as a whole, for minutes


def folder_of(file: str) -> str:
    """Return the folder of the product in which a file lies."""
    top, *others = Path(file).parent.parts
    return "/".join((top, *others[:1])) if top == "perception_node" else top


def measure() -> dict[str, float]:
    """Return the share of lines, in percent, that ran in each folder."""
    coverage = Coverage()
    coverage.load()
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        coverage.json_report(outfile=file.name)
        found = json.loads(Path(file.name).read_bytes())["files"]
    lines, covered = Counter[str](), Counter[str]()
    for name, one in found.items():
        lines[folder_of(name)] += one["summary"]["num_statements"]
        covered[folder_of(name)] += one["summary"]["covered_lines"]
    return {folder: 100 * covered[folder] / lines[folder] for folder in sorted(lines)}


def main() -> int:
    """Print a line per folder; return the exit status."""
    failed = 0
    for folder, share in measure().items():
        floor = FLOORS.get(folder, FLOOR)
        is_low = share < floor
        failed += is_low
        print(f"{folder:<28}{share:6.1f} %   at least {floor}{'   TOO LOW' if is_low else ''}")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
