# SPDX-License-Identifier: Apache-2.0
"""The confined child with one more step, ``look``: ``sandbox.CHILD`` in ``calling_look.py``."""

import sys
from pathlib import Path
from types import SimpleNamespace

from perception_node.engines.importing.sandbox import child


def read(path: str) -> str:
    """Return what comes of reading a file or listing a folder."""
    try:
        return str(
            len(list(Path(path).iterdir()) if path.endswith("/") else Path(path).read_bytes())
        )
    except OSError as error:
        return type(error).__name__


def perform(_path, options):
    """Print a lot, and return what comes of reading each of the paths."""
    sys.stdout.write("\x1b[31mprinted by the model\n" * 100)
    sys.stdout.flush()
    return {"read": {path: read(path) for path in options["paths"]}, "path": sys.path}, {}


if __name__ == "__main__":
    child.STEPS["look"] = "look"
    sys.modules["perception_node.engines.importing.look"] = SimpleNamespace(perform=perform)
    child.main()
