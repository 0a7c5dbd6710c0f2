# SPDX-License-Identifier: Apache-2.0
"""The names of ROS's Python packages by release: what is where, and how it is called."""

from __future__ import annotations

import functools
import importlib
import json

from tests.builders import ROOT
from tools.python_api import BASES

RELEASES = ("humble", "jazzy", "kilted", "lyrical")
MISSING = object()


class Api:
    """The modules of one release, or our own.

    A path is a full name, such as ``"rclpy.node.Node.create_timer"``; where there are several,
    separated by ``|``, the first that exists counts.
    """

    def __init__(self, modules) -> None:
        self.modules = modules
        self.packages = {name.partition(".")[0] for name in modules}

    def find(self, path):
        """Return what a path names, as tools/python_api.py describes it, or ``MISSING``."""
        return self._locate(path)[1]

    def locate(self, path):
        """Return the path of the definition behind a path, which may be an import of it."""
        return self._locate(path)[0]

    def _locate(self, path):
        found = [self._walk(each) for each in path.split("|")]
        good = [each for each in found if each[1] is not MISSING]
        return good[0] if good else ("|".join(each[0] for each in found), MISSING)

    def _walk(self, path):
        words = path.split(".")
        for end in range(len(words), 0, -1):
            module = ".".join(words[:end])
            if module in self.modules:
                return self._descend(module, self.modules[module], words[end:])
        return path, MISSING

    def _descend(self, path, entry, words):
        for place, word in enumerate(words):
            rest = words[place + 1 :]
            if word in entry:
                inner = entry[word]
            elif path in self.modules and "*" in entry:
                return self._locate(".".join([entry["*"], word, *rest]))
            elif path in self.modules:
                return path, MISSING
            else:
                return self._inherited(path, entry, words[place:])
            if isinstance(inner, str) and _is_reference(inner):
                return self._locate("|".join(".".join([x, *rest]) for x in inner.split("|")))
            path, entry = f"{path}.{word}", inner
            if isinstance(entry, str) and rest:
                return path, MISSING
        return path, entry

    def _inherited(self, path, entry, words):
        for base in entry.get(BASES, "").split():
            if base.partition(".")[0] not in self.packages:
                if _python_has(base, words):
                    return ".".join([base, *words]), ""
                continue
            found = self._locate("|".join(".".join([x, *words]) for x in base.split("|")))
            if found[1] is not MISSING:
                return found
        return path, MISSING

    def bases(self, path):
        """Return the base classes of a class."""
        entry = self.find(path)
        return entry.get(BASES, "").split() if isinstance(entry, dict) else []

    def signature(self, path):
        """Return how a function or a class is called, or nothing where that is not known."""
        entry = self.find(path)
        if not isinstance(entry, dict):
            return entry if isinstance(entry, str) else ""
        for name in ("__init__", "__new__"):
            if name in entry:
                return entry[name]
        inherited = [self.signature(base) for base in entry.get(BASES, "").split()]
        foreign = [base for base in entry.get(BASES, "").split() if not base.startswith("typing.")]
        return next((each for each in inherited if each), "") if foreign else "()"


def _is_reference(entry):
    return bool(entry) and (entry[0].isalpha() or entry[0] == "_")


def _python_has(base, words):
    """Tell whether a class of Python's library has a member, such as ``Enum.name``."""
    module, _, name = base.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError):
        return False
    return len(words) == 1 and (hasattr(found, words[0]) or words[0] in {"name", "value", "args"})


@functools.cache
def release(name) -> Api:
    """Return the names of one release."""
    return Api(json.loads((ROOT / f"tests/data/ros_api/{name}.json").read_bytes())["modules"])


PACKAGES = frozenset().union(*(release(name).packages for name in RELEASES))


def misfits(signature, positional, keywords):
    """Return what a function does not take of a call, or misses in it.

    Args:
        signature: such as ``"(a, b=, *, c=)"``.
        positional: how many arguments come without a name; None if nobody knows.
        keywords: the names of the others; None among them for ``**more``.

    """
    words = signature[1 : signature.index(")")].split(", ") if signature.startswith("(") else None
    if not words or "..." in words:
        return []
    words = [word for word in words if word]
    star = next((place for place, word in enumerate(words) if word[0] == "*"), len(words))
    plain = [word for word in words[:star] if word != "/"]
    named = [word for word in words if word[0] not in "*/"]
    if words == ["*args"]:
        named = []
    names = {word.rstrip("=") for word in named}
    takes_more = any(word.startswith("**") for word in words)
    found = [f"no argument {key}" for key in keywords if key and key not in names | {None}]
    found = [] if takes_more else found
    if positional is None or None in keywords:
        return found
    any_number = star < len(words) and words[star] != "*" and not words[star].startswith("**")
    if positional > len(plain) and not any_number:
        found.append(f"no {positional} arguments without names")
    given = {word.rstrip("=") for word in plain[:positional]} | set(keywords)
    needed = [word for word in named if not word.endswith("=") and word not in given]
    return found + [f"the argument {word} is needed" for word in needed]
