#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write the README's performance table from the committed bench/reports/node.json.

python tools/generate_benchmark_table.py            # write
python tools/generate_benchmark_table.py --check    # exit 1 if the README is out of date
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from perception_node.bench.reporting.markdown import readme_table
from perception_node.bench.reporting.measurement import read_report

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
REPORT = ROOT / "bench/reports/node.json"
BEGIN, END = "<!-- performance: generated -->\n", "<!-- performance: end -->"


def with_table(readme: str) -> str:
    """Return the README's text with a fresh table between its marks."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):  # or all that follows would be lost
        sys.exit(f"README.md lacks {BEGIN.strip()} or, behind it, {END}")
    table = readme_table([read_report(REPORT)])
    return f"{before}{BEGIN}{table}{END}{after}"


def main() -> None:
    """Write the README, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if outdated")
    is_check = parser.parse_args().check
    readme = README.read_text()
    if not is_check:
        README.write_text(with_table(readme))
    elif readme != with_table(readme):
        sys.exit(f"README.md is out of date: run {Path(__file__).name}")


if __name__ == "__main__":
    main()
