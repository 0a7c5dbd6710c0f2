#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write what is generated from NodeConfig: the parameter file and the table in the README.

python tools/generate_parameters.py            # write
python tools/generate_parameters.py --check    # exit 1 if a file is out of date
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from perception_node.config.node_config import ALL_PARAMETERS

if TYPE_CHECKING:
    from perception_node.config.parameter import Parameter

ROOT = Path(__file__).resolve().parent.parent
YAML = ROOT / "launch/params/perception.yaml"
README = ROOT / "README.md"
BEGIN, END = "<!-- parameters: generated -->\n", "<!-- parameters: end -->"


def to_yaml() -> str:
    """Return the parameter file: every parameter with its default and its description."""
    lines = [
        "# SPDX-License-Identifier: Apache-2.0",
        "# Generated from perception_node/config/sections.py by tools/generate_parameters.py.",
        "/**:",
        "  ros__parameters:",
    ]
    for found in ALL_PARAMETERS.values():
        lines += [f"    # {describe(found)}", f"    {found.name}: {to_text(found)}"]
    return "\n".join(lines) + "\n"


def to_table() -> str:
    """Return the README's table."""
    rows = ["| parameter | default | may change | meaning |", "|---|---|---|---|"]
    for found in ALL_PARAMETERS.values():
        cells = (f"`{found.name}`", f"`{to_text(found)}`", found.when.value, describe(found))
        rows.append(f"| {' | '.join(cells)} |")
    return "\n".join(rows) + "\n"


def to_text(found: Parameter) -> str:
    """Return the default as YAML writes it; a tuple is a list there."""
    default = list(found.default) if isinstance(found.default, tuple) else found.default
    return yaml.safe_dump(default, default_flow_style=True).split("\n")[0]


def describe(found: Parameter) -> str:
    """Return the description with the values that are allowed."""
    if found.choices:
        return f"{found.description} One of: {', '.join(found.choices)}."
    if found.limits:
        return "{} From {} to {}.".format(found.description, *found.limits)
    return found.description


def with_table(readme: str) -> str:
    """Return the README's text with a fresh table between its marks."""
    before, _, rest = readme.partition(BEGIN)
    _, _, after = rest.partition(END)
    return before + BEGIN + to_table() + END + after


def main() -> None:
    """Write the files, or compare them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if outdated")
    is_check = parser.parse_args().check
    for path, text in ((YAML, to_yaml()), (README, with_table(README.read_text()))):
        if not is_check:
            path.write_text(text)
        elif path.read_text() != text:
            sys.exit(f"{path.relative_to(ROOT)} is out of date: run {Path(__file__).name}")


if __name__ == "__main__":
    main()
