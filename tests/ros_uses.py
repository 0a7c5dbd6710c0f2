# SPDX-License-Identifier: Apache-2.0
"""Read from Python source which names of ROS it uses, and how it calls them."""

from __future__ import annotations

import ast
import functools
from dataclasses import dataclass, field

from tests.ros_api import MISSING, PACKAGES
from tests.ros_values import join, own_nodes, text_argument
from tools.python_api import imports


@dataclass(frozen=True)
class Use:
    """One use of a name.

    Attributes:
        line: where.
        path: the full name; several with ``|`` between them if an import has a fallback; only
            the last word if nobody knows of which class.
        call: the number of arguments without names, None if unknown, and the others' names.

    """

    line: int
    path: str
    call: tuple[int | None, tuple[str | None, ...]] | None = None


@dataclass
class Uses:
    """What a module uses of ROS, and the attributes of values that cannot be followed."""

    known: set[Use] = field(default_factory=set)
    unknown: set[Use] = field(default_factory=set)


@functools.cache
def find_uses(project, module) -> Uses:
    """Return what one module of a project uses."""
    found = Uses()
    for function, scope in project.scopes(module):
        for node in own_nodes(function):
            if isinstance(node, (ast.Import, ast.ImportFrom)):
                _note_import(node, scope, found)
            elif isinstance(node, ast.Attribute):
                _note_member(node, (node.value, node.attr), scope, found)
            elif isinstance(node, ast.Call):
                _note_call(node, scope, found)
            elif isinstance(node, ast.withitem) and not _is_function_call(node, scope):
                _note_member(node.context_expr, (node.context_expr, "__enter__"), scope, found)
    return found


def _note_import(node, scope, found) -> None:
    if isinstance(node, ast.Import):
        names = [each.name for each in node.names]
    else:
        names = [origin for _, origin in imports(node, scope.module.package)]
    _add(found, node, [_fallback(name, node, scope) for name in names])


def _fallback(name, node, scope) -> str:
    """Return an import's full name, with those that take its place if it fails."""
    for bound, origin in imports(node, scope.module.package):
        value = scope.value_of(ast.Name(bound))
        if origin == name and value and value[0] == "is" and name in value[1].split("|"):
            return value[1]
    return name


def _note_member(node, member, scope, found, call=None) -> None:
    holder, name = member
    value = scope.value_of(holder)
    if value is not None and value[0] != "each":
        _add(found, node, _ros_members(scope.project, value, name), call)
    elif value is None and not name.startswith("__"):
        found.unknown.add(Use(node.lineno, name, call))


def _note_call(node, scope, found) -> None:
    for function in ("getattr", "hasattr"):
        if name := text_argument(node, function, 1):
            _note_member(node, (node.args[0], name), scope, found)
    if name := text_argument(node, "import_module", 0):
        _add(found, node, [name])
    function, given = node.func, node.args
    is_partial = ast.unparse(function).rpartition(".")[2] == "partial" and given
    if is_partial:
        function = given[0]
    starred = is_partial or any(isinstance(each, ast.Starred) for each in given)
    call = (None if starred else len(given), tuple(each.arg for each in node.keywords))
    if isinstance(function, ast.Attribute):
        value = scope.value_of(function.value)
        if value is None or _ros_members(scope.project, value, function.attr):
            _note_member(node, (function.value, function.attr), scope, found, call)
            return
    called = scope.value_of(function)
    if called and called[0] == "is":
        _add(found, node, _ros_function(scope.project, called[1]), call)


def _is_function_call(node, scope) -> bool:
    """Tell whether a ``with`` calls a function, and may get anything from it."""
    made = node.context_expr
    called = scope.value_of(made.func) if isinstance(made, ast.Call) else None
    return bool(called) and not isinstance(scope.project.entry(called[1]), dict)


def _ros_function(project, path) -> list[str]:
    """Return what of ROS a call of a function or a class is a call of."""
    for each in project.lineage(path):
        if each.partition(".")[0] in PACKAGES:
            return [each]
        entry = project.own.find(each)
        if not isinstance(entry, dict) or {"__init__", "__new__"} & set(entry):
            break
    return []


def _ros_members(project, value, name) -> list[str]:
    """Return the full name in ROS of a value's attribute, nothing if it is our own."""
    for each in project.lineage(value[1]):
        if each.partition(".")[0] in PACKAGES:
            return [join(each, name)]
        entry = project.own.find(each)
        if entry is MISSING or name in entry or (each, name) in project.attributes:
            break
    return []


def _add(found, node, paths, call=None) -> None:
    for path in paths:
        if path.partition(".")[0] in PACKAGES:
            found.known.add(Use(node.lineno, path, call))
