# SPDX-License-Identifier: Apache-2.0
"""docs/robustness.md names tests that exist, and every attack and row of the siege."""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from tests.builders import ROOT

PAGE = (ROOT / "docs" / "robustness.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")
PROMISES = [line for line in PAGE.splitlines() if NAMED.search(line) or "`make " in line]
COMMANDS = re.compile(r"`make (\w+)")


@cache
def functions_of(file):
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


@pytest.mark.parametrize("named", sorted(set(NAMED.findall(PAGE))), ids="::".join)
def test_a_test_that_is_named_exists(named):
    file, function = named
    assert (ROOT / file).is_file()
    assert not function or function in functions_of(file)


def test_commands_that_are_named_exist():
    targets = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert set(COMMANDS.findall(PAGE)) <= set(targets)


def test_every_promise_has_something_that_shows_it():
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and line.count("|") == 3]
    tables = re.split(r"^\| promise \| what shows it \|$", PAGE, flags=re.MULTILINE)[1:]
    promises = [row for table in tables for row in table.split("\n\n")[0].splitlines()[2:]]
    assert len(promises) > 40
    assert set(promises) <= set(rows)
    assert [row for row in promises if row not in PROMISES] == []


def test_every_attack_is_listed():
    pytest.importorskip("rclpy")
    from perception_node.bench.siege.plan import ATTACKS

    table = PAGE.partition("| attack | does |")[2].partition("\n\n")[0]
    assert re.findall(r"^\| `([\w ]+)` \|", table, re.MULTILINE) == [a.name for a in ATTACKS]
