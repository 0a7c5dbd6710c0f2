# SPDX-License-Identifier: Apache-2.0
"""Read from C++ source which names a module made with pybind11 offers; see python_api.py."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tools.python_api import BASES

if TYPE_CHECKING:
    from tools.python_api import Api

PYBIND = r"(?:py|pybind11)::"
# What is registered, in the order of the source.
REGISTRATION = re.compile(
    rf"""
      {PYBIND}(?:class_|enum_)<(?P<types>[^;(]*?)>\s*(?:\w+\s*)?\(\s*(?P<into>\w+)\s*,\s*"(?P<class>\w+)"
    | {PYBIND}register_exception<[^>]*>\s*\(\s*\w+\s*,\s*"(?P<error>\w+)"
    | (?:\bm|\bmodule)\s*\.def\(\s*"(?P<function>\w+)"
    | (?:\bm|\bmodule)\s*\.attr\(\s*"(?P<constant>\w+)"\s*\)\s*=
    | \.def(?:_static)?\(\s*"(?P<method>[^\W_]\w*|__enter__)"
    | \.def\(\s*{PYBIND}(?P<init>init)\b
    | \.def_(?:property|readonly|readwrite|property_readonly|property_readonly_static)\(
      \s*"(?P<property>\w+)"
    | \.value\(\s*"(?P<value>\w+)"\s*,
    """,
    re.VERBOSE,
)
ARGUMENT = re.compile(rf"""{PYBIND}arg\(\s*"(\w+)"\s*\)(\s*=)?|"(\w+)"_a(\s*=)?""")


def read_native(sources: list[str], module: str) -> Api:
    """Return the names of a module.

    Args:
        sources: the text of its C++ files.
        module: its full name.

    """
    found: Api = {}
    python_names = {"Exception": "builtins.Exception"}  # of the C++ classes
    for source in sources:
        text = re.sub(r"//[^\n]*|/\*.*?\*/", "", source, flags=re.DOTALL)
        matches = list(REGISTRATION.finditer(text))
        ends = [*(each.start() for each in matches[1:]), len(text)]
        current: Api = {}
        for match, end in zip(matches, ends, strict=False):
            kind, name = match.lastgroup, match[match.lastgroup]
            if kind == "class":
                types = [each.strip().rpartition("::")[2] for each in match["types"].split(",")]
                current = {BASES: types[1:]}
                if match["into"] in {"m", "module"}:  # not into a submodule
                    found[name] = current
                python_names[types[0]] = f"{module}.{name}"
            elif kind == "error":
                found[name] = {BASES: ["Exception"]}
            elif kind in {"function", "constant"}:
                found[name] = _signature(text[match.end() : end]) if kind == "function" else ""
            elif kind in {"method", "init"}:
                name = "__init__" if kind == "init" else name
                current[name] = _signature(text[match.end() : end])
            else:
                current[name] = ""
    for each in found.values():
        if isinstance(each, dict):
            bases = [python_names[base] for base in each.pop(BASES) if base in python_names]
            each.update({BASES: " ".join(bases)} if bases else {})
            each.setdefault("__init__", "(*args)")
    return found


def _signature(text: str) -> str:
    """Return the parameters; without names, pybind11 takes arguments by their place only."""
    found = ["".join(groups).split("=") for groups in ARGUMENT.findall(text)]
    words = [name.strip() + "=" * len(default) for name, *default in found]
    return f"({', '.join(words) or '*args'})"
