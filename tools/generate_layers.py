#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write ARCHITECTURE.md's table of the folders, and which other ones each may import.

python tools/generate_layers.py            # write
python tools/generate_layers.py --check    # exit 1 if the table is out of date
"""

from __future__ import annotations

import argparse
import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "perception_node"
ARCHITECTURE = ROOT / "ARCHITECTURE.md"
BEGIN, END = "<!-- folders: generated -->\n", "<!-- folders: end -->"
TOP_LEVEL = ("engines", "calibration", "bench")  # linked into the package
# From the lowest to the highest. What lies in no folder is everybody's, see EVERYBODYS.
LAYERS: dict[str, tuple[str, ...]] = {
    "config": (),
    "system": ("config",),
    "terminal": (),
    "model": ("system", "config"),
    "vision": ("config", "model"),
    "wire": ("system", "config", "vision"),
    "engines": ("system", "config", "model", "vision"),
    "calibration": ("system", "config", "model", "vision", "wire", "engines"),
    "flow": ("system", "config", "vision", "engines"),
    "replay": ("system", "config", "vision", "wire"),
    "ros": ("system", "config", "vision", "wire", "engines", "flow", "replay"),
    "live": ("config", "vision", "wire", "flow", "ros"),
    "serving": ("system", "config", "vision", "engines", "live"),
    "doctor": ("system", "config", "model", "engines", "ros"),
    "bench": (
        *("system", "terminal", "config", "model", "vision", "wire", "engines", "ros"),
        "doctor",
    ),
    "cli": (
        *("system", "terminal", "config", "model", "vision", "wire", "engines", "calibration"),
        *("replay", "ros", "live", "serving", "doctor", "bench"),
    ),
}
EVERYBODYS = ("errors", "html_page", "installing", "printable", "untyped")
ENTRIES = {"pytest_plugin": ("replay",)}  # modules that lie in no folder because users name them


def folder_of(module: str) -> str:
    """Return the folder of a module such as ``perception_node.flow.camera``; empty without one."""
    parts = module.split(".")
    return parts[1] if parts[0] == PACKAGE and len(parts) > 1 and parts[1] in LAYERS else ""


def sources(folder: str) -> list[Path]:
    """Return the Python files of a folder, without what is linked into it."""
    top = ROOT / folder if folder in TOP_LEVEL else ROOT / PACKAGE / folder
    return sorted(top.rglob("*.py"))


def imported_by(file: Path) -> set[str]:
    """Return every module of the package that a file imports, wherever it does."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return {module for module in found if module.split(".")[0] == PACKAGE}


def arrows(folder: str) -> set[str]:
    """Return the other folders that the files of a folder import."""
    found = {folder_of(module) for file in sources(folder) for module in imported_by(file)}
    return found - {folder, ""}


def table() -> str:
    """Return the table in Markdown: the highest folder first."""
    rows = ["| folder | holds | may import |", "|---|---|---|"]
    for folder in reversed(LAYERS):
        path = f"{folder}/" if folder in TOP_LEVEL else f"{PACKAGE}/{folder}/"
        tree = ast.parse((ROOT / path / "__init__.py").read_text(encoding="utf-8"))
        holds = (ast.get_docstring(tree) or "").split("\n")[0]
        allowed = ", ".join(LAYERS[folder]) or "no other folder"
        rows.append(f"| `{path}` | {holds.replace('``', '`')} | {allowed} |")
    return "\n".join(rows) + "\n"


def with_table(text: str) -> str:
    """Return ARCHITECTURE.md's text with a fresh table between its marks."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):  # or all that follows would be lost
        sys.exit(f"{ARCHITECTURE.name} lacks {BEGIN.strip()} or, behind it, {END}")
    return f"{before}{BEGIN}{table()}{END}{after}"


def main() -> None:
    """Write ARCHITECTURE.md, or compare it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 if outdated")
    is_check = parser.parse_args().check
    text = ARCHITECTURE.read_text(encoding="utf-8")
    if not is_check:
        ARCHITECTURE.write_text(with_table(text), encoding="utf-8")
    elif text != with_table(text):
        sys.exit(f"{ARCHITECTURE.name} is out of date: run {Path(__file__).name}")


if __name__ == "__main__":
    main()
