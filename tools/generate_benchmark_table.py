#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write the README's performance table from the committed reports in bench/reports/.

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
REPORTS = {
    "bench/reports/node.json": "The node as it comes",
    "bench/reports/one-cpu.json": "With `executor: events`, all its threads on one CPU "
    "([how](docs/latency.md#the-shortest-way-one-cpu))",
}
BEGIN, END = "<!-- performance: generated -->\n", "<!-- performance: end -->"


def with_table(readme: str) -> str:
    """Return the README's text with a fresh table between its marks."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):  # or all that follows would be lost
        sys.exit(f"README.md lacks {BEGIN.strip()} or, behind it, {END}")
    tables = [
        f"{title}:\n\n{readme_table([read_report(ROOT / name)])}"
        for name, title in REPORTS.items()
    ]
    return f"{before}{BEGIN}{chr(10).join(tables)}{END}{after}"


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
