# SPDX-License-Identifier: Apache-2.0
"""Import all modules of this package and print what fails.

    python -m perception_node.doctor.try_imports

prints one JSON object per line: ``{"module": ...}`` before each import, which names the culprit
where one ends the process, and the fields of a ``Failure`` where it raises.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages
from typing import TYPE_CHECKING

import perception_node
from perception_node.installing import is_here, repair_command

if TYPE_CHECKING:
    from collections.abc import Iterator

CORE = "perception_node.cli.classify"  # without ROS
NODE = "perception_node.ros.run"  # what the node's executable imports
ROOT = Path(perception_node.__file__).parent
NOT_OURS_TO_START = ("__main__", "pytest_plugin")


def main() -> None:
    """Import and print; what modules write to stdout goes to stderr."""
    output = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())

    def report(line: dict[str, str]) -> None:
        output.write(f"{json.dumps(line)}\n")
        output.flush()

    for name in _find_modules():
        report({"module": name})
        try:
            import_module(name)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the finding
            report(_describe(error))
    report({"module": ""})


def _find_modules() -> Iterator[str]:
    yield from (CORE, NODE)
    for module in walk_packages([str(ROOT)], "perception_node.", onerror=lambda _name: None):
        if not module.name.endswith(NOT_OURS_TO_START):
            yield module.name


def _describe(error: Exception) -> dict[str, str]:
    text = (str(error).strip() or type(error).__name__).splitlines()[0]  # NumPy says much more
    if not isinstance(error, ImportError):
        return {"problem": f"{type(error).__name__}: {text}", "place": _place(error)}
    package = (error.name or "").partition(".")[0]
    lacks = package if package and not is_here(package) else ""
    place = "" if lacks else _place(error)
    advice = repair_command(error)
    return {"problem": text, "place": place, "lacks": lacks, "advice": advice}


def _place(error: Exception) -> str:
    """Return where in this package an error came from."""
    frames = traceback.extract_tb(error.__traceback__)
    files = [(Path(frame.filename), frame.lineno) for frame in frames[1:]]  # the first is ours
    ours = [(file, line) for file, line in files if ROOT in file.parents]
    return f" ({ours[-1][0].relative_to(ROOT.parent)}, line {ours[-1][1]})" if ours else ""


if __name__ == "__main__":
    main()
