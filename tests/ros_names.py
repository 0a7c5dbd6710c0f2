# SPDX-License-Identifier: Apache-2.0
"""Say what of our source a ROS release lacks, and what of it only one file may do."""

from __future__ import annotations

import ast
import functools

from tests.ros_api import MISSING, RELEASES, misfits, release
from tests.ros_uses import find_uses

# The one file that knows the releases.
COMPAT = "perception_node.ros.compat"
HINT = "let perception_node/ros/compat.py do it"
VERSION_WORDS = {"ROS_DISTRO", "ros_distro", "ROS_VERSION"}
NATIVE = "rclpy._rclpy_pybind11"
LOGGER = "rclpy.impl.rcutils_logger.RcutilsLogger."  # what get_logger() returns


def find_problems(project, module) -> list[str]:
    """Return what is wrong with a module of a project, one line each.

    What some releases lack, private names and questions for a version are wrong anywhere but in
    ``COMPAT``; what no release has is wrong there too.
    """
    uses = find_uses(project, module)
    found = {(use.line, text) for use in uses.known if (text := _problem(use, module))}
    ours = _own_names(project)
    for use in uses.unknown:
        if use.path not in ours and (text := _problem_of_unknown(use, module)):
            found.add((use.line, text))
    if module != COMPAT:
        found |= set(find_version_questions(project.trees[module]))
    return [f"line {line}: {text}" for line, text in sorted(found)]


def find_version_questions(tree):
    """Return where a release or a version of ROS decides what is done, with the lines."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            words = [] if _asks_presence(node) else [node.left, *node.comparators]
        elif isinstance(node, ast.Match):
            words = [node.subject]
        elif isinstance(node, ast.Dict):
            words = [key for key in node.keys if getattr(key, "value", None) in RELEASES]
        else:
            words = [node] if _asks_version(node) else []
        if any(_names_version(each) for each in words):
            yield node.lineno, f"{ast.unparse(node)} asks for a version of ROS: {HINT}"


def _asks_presence(node) -> bool:
    """Tell whether it is only asked whether a ROS is sourced: ``"ROS_DISTRO" in os.environ``."""
    is_in = isinstance(node.ops[0], (ast.In, ast.NotIn))
    return is_in and getattr(node.left, "value", None) in VERSION_WORDS


def _asks_version(node) -> bool:
    """Tell whether a node reads the version of a package of ROS."""
    if isinstance(node, ast.Attribute) and node.attr == "__version__":
        return ast.unparse(node.value) in {"rclpy", "launch", "launch_ros"}
    if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "version":
        given = [each.value for each in node.args if isinstance(each, ast.Constant)]
        return any(str(each).startswith(("rclpy", "ros-", "launch")) for each in given)
    return False


def _names_version(tree) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and node.value in {*RELEASES, *VERSION_WORDS}:
            return True
        name = getattr(node, "id", None) or getattr(node, "attr", "")
        if name.lower().endswith(("distro", "ros_version")) or _asks_version(node):
            return True
    return False


def _problem(use, module) -> str:
    lacks = {name: text for name in RELEASES if (text := _lack(release(name), use))}
    if module == COMPAT:
        return "" if len(lacks) < len(RELEASES) else f"no release has this: {lacks[RELEASES[-1]]}"
    if private := _private_name(use.path):
        return f"{private} is private: {HINT}"
    return _say(lacks)


def _lack(api, use) -> str:
    if api.find(use.path) is MISSING:
        return f"{use.path.replace('|', ' or ')} is not"
    wrong = misfits(api.signature(use.path), *use.call) if use.call else []
    return f"{use.path.replace('|', ' or ')} takes {', '.join(wrong)}" if wrong else ""


def _say(lacks) -> str:
    """Join what the releases say; the same only once."""
    texts = {}
    for name, text in lacks.items():
        texts.setdefault(text, []).append(name)
    said = "; ".join(f"{text} in {', '.join(names)}" for text, names in texts.items())
    return f"{said}: {HINT}" if said else ""


def _private_name(path) -> str:
    """Return the name that is private, if one of several is."""
    for each in path.split("|"):
        words = each.split(".")
        hidden = [word for word in words if word.startswith("_") and not word.startswith("__")]
        if hidden or (words[:2] == ["rclpy", "impl"] and not each.startswith(LOGGER)):
            return each
    return ""


def _problem_of_unknown(use, module) -> str:
    """Judge an attribute of a value of unknown type by its name, if only ROS has the name."""
    holders = {name: _members(name).get(use.path, ()) for name in RELEASES}
    if not any(holders.values()) or "_" not in use.path or module == COMPAT:
        return ""
    paths = {path for found in holders.values() for path in found}
    if all(path.startswith(NATIVE) and "_status_t." not in path for path in paths):
        return f".{use.path} is private, of {NATIVE}: {HINT}"
    return _say({name: text for name in RELEASES if (text := _unlike(name, holders[name], use))})


def _unlike(name, holders, use) -> str:
    if not holders:
        return f"no class with .{use.path} is"
    if use.call is None:
        return ""
    found = [misfits(release(name).signature(path), *use.call) for path in holders]
    return "" if [] in found else f".{use.path} takes {', '.join(found[0])}"


@functools.cache
def _members(name) -> dict[str, list[str]]:
    """Return the classes of a release by the names of their members, but for launch's."""
    found = {}
    for module, entries in release(name).modules.items():
        for holder, entry in entries.items() if not module.startswith("launch") else ():
            for member in entry if isinstance(entry, dict) else ():
                found.setdefault(member, []).append(f"{module}.{holder}.{member}")
    return found


@functools.cache
def _own_names(project) -> set[str]:
    """Return the names that our own source defines."""
    found = set()
    for node in (node for tree in project.trees.values() for node in ast.walk(tree)):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, (ast.Attribute, ast.Name)) and isinstance(node.ctx, ast.Store):
            found.add(getattr(node, "attr", None) or node.id)
    return found
