# SPDX-License-Identifier: Apache-2.0
"""Import all modules of this package, the node's first, and print what fails.

    python -m perception_node.cli.try_imports

prints one JSON object per line: ``{"module": ...}`` before each import, which names the culprit
where one ends the process, and ``{"problem": ..., "lacks": ..., "advice": ...}`` where it raises.
"""

from __future__ import annotations

import json
import sys
import traceback
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from pkgutil import walk_packages
from typing import TYPE_CHECKING

import perception_node
from perception_node.installing import repair_command

if TYPE_CHECKING:
    from collections.abc import Iterator

NODE = "perception_node.ros.run"  # what the node's executable imports
ROOT = Path(perception_node.__file__).parent
NOT_OURS_TO_START = ("__main__", "pytest_plugin")


def main() -> None:
    """Import and print; modules write nothing of their own to stdout when they are imported."""
    for name in _find_modules():
        _print({"module": name})
        try:
            import_module(name)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            _print(_describe(error))
    _print({"module": ""})


def _find_modules() -> Iterator[str]:
    yield NODE
    for module in walk_packages([str(ROOT)], "perception_node.", onerror=lambda _name: None):
        if not module.name.endswith(NOT_OURS_TO_START):
            yield module.name


def _describe(error: Exception) -> dict[str, str]:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]  # NumPy says much more
    if not isinstance(error, ImportError):
        return {"problem": f"{type(error).__name__}: {text}{_place(error)}", "lacks": ""}
    package = (error.name or "").partition(".")[0]
    lacks = package if package and not _is_here(package) else ""
    place = "" if lacks else _place(error)
    return {"problem": f"{text}{place}", "lacks": lacks, "advice": repair_command(error)}


def _is_here(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ValueError:  # it was taken out of sys.modules
        return False


def _place(error: Exception) -> str:
    """Return where in this package an error came from."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if ROOT.parent in Path(frame.filename).parents]
    if not ours:
        return ""
    return f" ({Path(ours[-1].filename).relative_to(ROOT.parent)}, line {ours[-1].lineno})"


def _print(line: dict[str, str]) -> None:
    sys.stdout.write(f"{json.dumps(line)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
