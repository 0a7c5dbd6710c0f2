# SPDX-License-Identifier: Apache-2.0
"""Write tests/data/ros_api/RELEASE.json from the sources of a ROS release's packages.

    .venv/bin/python -m tools.read_ros_api SOURCES tests/data/ros_api/jazzy.json

SOURCES holds one folder per package, each with its package.xml, as the branches
``release/RELEASE/PACKAGE`` have it. Only names and parameters are read; nothing is imported.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tools.native_api import read_native
from tools.python_api import read_module

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tools.python_api import Api

FIELD = re.compile(r"^[\w/]+(?:<=\d+)?(?:\[[<=\d]*\])?\s+(?P<name>\w+)\s*(?P<constant>=(?!=))?")


def main(sources: Path, out: Path) -> None:
    """Read all packages in a folder and write one file."""
    packages, modules = {}, {}
    for manifest in sorted(sources.glob("*/package.xml")):
        text = manifest.read_text()
        name = re.search(r"<name>\s*(\w+)", text)[1]
        packages[name] = re.search(r"<version>\s*([\d.]+)", text)[1]
        modules.update(read_package(manifest.parent, name))
    for names in modules.values():
        for name in [name for name, entry in names.items() if _is_foreign(entry, packages)]:
            del names[name]
    out.write_text(_render(packages, {name: modules[name] for name in sorted(modules)}))


def _is_foreign(entry: str | Api, packages: dict[str, str]) -> bool:
    """Tell whether a name is only imported from Python's library or another package."""
    refers = isinstance(entry, str) and re.match(r"\w", entry)
    return bool(refers) and entry.partition(".")[0] not in packages


def read_package(folder: Path, package: str) -> Iterator[tuple[str, Api]]:
    """Return the modules of a package, with their names."""
    for path in sorted((folder / package).rglob("*.py")):
        words = [package, *path.relative_to(folder / package).with_suffix("").parts]
        inner = words[-1] == "__init__"
        module = ".".join(words[:-1] if inner else words)
        if not re.search(r"\._(?!_)", module):
            yield module, read_module(path.read_text(), module, package=inner)
    if native := sorted((folder / "src" / package).rglob("*.cpp")):
        module = f"{package}._{package}_pybind11"
        yield module, read_native([path.read_text() for path in native], module)
    for kind in ("msg", "srv", "action"):
        files = sorted((folder / kind).glob(f"*.{kind}"))
        interfaces: Api = {}
        for path in files:
            interfaces.update(read_interface(path.read_text(), f"{package}.{kind}.{path.stem}"))
        if files:
            yield f"{package}.{kind}", interfaces


def read_interface(text: str, name: str) -> Api:
    """Return the class of a message, or the classes of a service or an action.

    Args:
        text: the definition.
        name: such as ``"std_msgs.msg.Header"``.

    """
    _, kind, stem = name.split(".")
    parts = {
        "msg": [""],
        "srv": ["_Request", "_Response"],
        "action": ["_Goal", "_Result", "_Feedback"],
    }[kind]
    found: Api = {}
    for part, definition in zip(parts, re.split(r"(?m)^---.*$", text), strict=True):
        lines = [FIELD.match(line.strip()) for line in definition.splitlines()]
        fields = {match["name"]: bool(match["constant"]) for match in lines if match}
        keywords = "".join(f", {each}=" for each, constant in fields.items() if not constant)
        called = {"__init__": f"(*{keywords})" if keywords else "()"}
        found[stem + part] = {**dict.fromkeys(fields, ""), **called}
    if kind != "msg":
        found[stem] = {part.removeprefix("_"): f"{name}{part}" for part in parts}
    return found


def _render(packages: dict[str, str], modules: dict[str, Api]) -> str:
    """Return the JSON, one line for each name of a module."""
    lines = []
    for module, names in modules.items():
        inner = ",\n".join(f"  {json.dumps(key)}: {_dump(names[key])}" for key in sorted(names))
        lines.append(f"{json.dumps(module)}: {{\n{inner}\n}}")
    body = ",\n".join(lines)
    return f'{{"packages": {json.dumps(packages)},\n"modules": {{\n{body}\n}}}}\n'


def _dump(entry: str | Api) -> str:
    return json.dumps(entry, separators=(",", ":"))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
