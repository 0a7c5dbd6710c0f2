#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write down which wheels the locked packages have for arm64: tests/data/arm64_wheels.json.

The lock files have the hashes of all files of a package, but not their names, which say what a
file is for. uv knows both (pip install uv); `make lock` runs this.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

try:
    import tomllib
except ModuleNotFoundError:
    sys.exit("list_wheels: Python 3.11 or newer is needed: make lock PYTHON=python3.12")

ROOT = Path(__file__).resolve().parent.parent
TABLE = ROOT / "tests" / "data" / "arm64_wheels.json"


def main() -> None:
    """Ask for the files of every lock file's packages."""
    packages: dict[str, dict[str, str]] = {}
    for lock in sorted((ROOT / "requirements").glob("*.txt")):
        for package in files_of(lock):
            wheels = {name_of(wheel): wheel["hashes"]["sha256"] for wheel in package["wheels"]}
            fitting = {name: sha256 for name, sha256 in wheels.items() if runs_on_arm64(name)}
            packages[f"{package['name']}=={package['version']}"] = dict(sorted(fitting.items()))
    table = {"made_by": "make lock", "packages": dict(sorted(packages.items()))}
    TABLE.write_text(json.dumps(table, indent=1) + "\n")
    print(f"{TABLE.relative_to(ROOT)}: {len(packages)} packages")


def files_of(lock: Path) -> list[dict]:
    """Return the packages of a lock file with all their files."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "pylock.toml")
        command = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.10"]
        command += ["--no-deps", "--format", "pylock.toml", "--output-file", str(out), str(lock)]
        subprocess.run(command, check=True)
        packages = tomllib.loads(out.read_text())["packages"]
    return [{"wheels": [], **package} for package in packages]


def name_of(wheel: dict) -> str:
    """Return the name of a wheel's file."""
    return wheel.get("name") or unquote(urlsplit(wheel["url"]).path.rpartition("/")[2])


def runs_on_arm64(wheel: str) -> bool:
    """Return whether a wheel is for Linux on arm64 with glibc, or for any machine."""
    platform = wheel.removesuffix(".whl").rpartition("-")[2]
    return platform == "any" or ("manylinux" in platform and "aarch64" in platform)


if __name__ == "__main__":
    main()
