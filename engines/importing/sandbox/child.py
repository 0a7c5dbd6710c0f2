# SPDX-License-Identifier: Apache-2.0
"""The confined process: ``python -m perception_node.engines.importing.sandbox.child DESCRIPTOR``.

It reads ``request`` in the current folder, confines itself, runs one step and writes the answer
into the open file ``DESCRIPTOR``; see ``sandbox.py``. Packages are imported before: some start
programs when they are (PyTorch for CUDA looks for libraries), and they are not what is feared.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perception_node.engines.importing.sandbox.confinement import Limits, confine
from perception_node.errors import ConversionError

if TYPE_CHECKING:
    from collections.abc import Callable

STEPS = {
    "inspect-torchscript": "export.script_facts",
    "export-torchscript": "export.torchscript",
    "export-keras": "export.keras_model",
    "export-program": "export.program",
    "inspect-onnx": "graph.inspection",
    "convert-onnx": "graph.conversion",
}
MAX_TRACEBACK = 8000  # characters
Found = tuple[dict[str, Any], dict[str, bytes]]


def main() -> None:
    """Do what the request asks for; an error of the model is an answer too."""
    answer = int(sys.argv[1])
    sys.path[:] = [entry for entry in sys.path if entry not in {"", str(Path.cwd())}]
    request = json.loads(Path("request").read_bytes())
    try:
        module = import_module(f"perception_node.engines.importing.{STEPS[request['step']]}")
    except ImportError as error:  # it is there, as the parent has found, but does not load
        write(answer, {"lacks": str(error)}, {})
        return
    perform: Callable[..., Found] = module.perform
    limits, path = Limits(**request["limits"]), Path(request["path"])
    missing = confine(limits, request["private"])
    fall_silent()
    if missing and request["must_be_confined"]:
        write(answer, {"unconfined": missing}, {})
        return
    try:
        write(answer, *perform(path, request["options"]))
    except ConversionError as error:
        write(answer, {"problem": str(error).removeprefix(f"{path}: ")}, {})
    except MemoryError:
        write(answer, {"problem": "its conversion needs more memory than an import may take"}, {})
    except Exception:  # noqa: BLE001 - its traceback must not go to where a model prints
        write(answer, {"bug": traceback.format_exc()[-MAX_TRACEBACK:]}, {})


def fall_silent() -> None:
    """Send all that is printed from here on, by whatever means, to nowhere."""
    for descriptor in (1, 2):
        os.dup2(0, descriptor)  # /dev/null, see sandbox.py


def write(descriptor: int, facts: dict[str, Any], blobs: dict[str, bytes]) -> None:
    """Write an answer: a line of JSON, then the blobs."""
    lengths = {name: len(content) for name, content in blobs.items()}
    line = json.dumps({**facts, "blobs": lengths}).encode() + b"\n"
    with os.fdopen(descriptor, "wb") as file:
        for content in (line, *blobs.values()):
            file.write(content)


if __name__ == "__main__":
    main()
