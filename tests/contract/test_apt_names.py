# SPDX-License-Identifier: Apache-2.0
"""The product uses no name that the oldest libraries lack: those of Ubuntu 22.04, of JetPack 6.

`tests/data/apt_names.json` lists what the product uses of them. With requirements/jetpack6.txt
installed the second test shows that all of it is there; a new name is looked up there first.
"""

from __future__ import annotations

import ast
import importlib.util
import json
from importlib import import_module

import pytest

from tests.builders import ROOT

LIBRARIES = ("cv2", "jinja2", "jsonschema", "matplotlib", "numpy", "PIL", "rich", "yaml")
TABLE = ROOT / "tests" / "data" / "apt_names.json"
KNOWN = json.loads(TABLE.read_bytes())


def uses():
    """Map each module of these libraries to the names that the product takes from it."""
    found: dict[str, set[str]] = {}
    for folder in ("perception_node", "engines", "calibration", "bench"):
        for file in sorted((ROOT / folder).rglob("*.py")):
            for module, name in names_in(ast.parse(file.read_bytes())):
                found.setdefault(module, set()).add(name)
    return {module: sorted(names) for module, names in sorted(found.items())}


def names_in(tree):
    aliases = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            aliases.update({alias.asname or alias.name: alias.name for alias in node.names})
        elif isinstance(node, ast.ImportFrom) and is_theirs(node.module or ""):
            yield from ((node.module, alias.name) for alias in node.names)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            module = aliases.get(node.value.id, "")
            if is_theirs(module):
                yield module, node.attr


def is_theirs(module):
    return module.partition(".")[0] in LIBRARIES


def test_no_name_is_used_that_is_not_known_to_be_in_the_oldest():
    unknown = {
        f"{module}.{name}"
        for module, names in uses().items()
        for name in names
        if name not in KNOWN.get(module, ())
    }
    assert not unknown, f"look them up with requirements/jetpack6.txt, then add them to {TABLE}"


def test_the_table_holds_no_more_than_is_used():
    assert uses() == KNOWN


@pytest.mark.parametrize("module", KNOWN)
def test_the_libraries_that_are_installed_have_them(module):
    assert not [name for name in KNOWN[module] if not has(module, name)]


def has(module, name):
    if hasattr(import_module(module), name):
        return True
    return importlib.util.find_spec(f"{module}.{name}") is not None  # such as PIL.Image
