# SPDX-License-Identifier: Apache-2.0
"""The locked packages that a machine has to compile, and what it needs for that.

Standard library only, and it starts on Python 3.7, like the set-up that uses it.
"""

from __future__ import annotations

import platform
import shutil
import sys
import sysconfig
from pathlib import Path

# Their wheels are for x86-64 only; tests/unit/test_lock_files.py compares this with the locks.
COMPILED = {"aarch64": ("hdrhistogram",)}


def missing_compiler() -> dict[str, str]:
    """Return what this machine lacks to compile them, each with its Debian or Ubuntu package."""
    names = COMPILED.get(platform.machine())
    if names is None:
        return {}
    missing = {}
    if not shutil.which("gcc"):
        missing["gcc"] = "gcc"
    if not Path(sysconfig.get_path("include"), "Python.h").is_file():
        missing["Python.h"] = f"python{sys.version_info[0]}.{sys.version_info[1]}-dev"
    reason = f"to compile {', '.join(names)}"
    return {f"{what} ({reason})": package for what, package in missing.items()}
