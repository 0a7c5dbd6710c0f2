# SPDX-License-Identifier: Apache-2.0
"""In the confined child: say what a TorchScript archive tells of itself, without running it."""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perception_node.engines.importing.export.torchscript import load_module
from perception_node.engines.importing.files.archive import DAMAGE

if TYPE_CHECKING:
    from perception_node.untyped import TorchModule

TRACED_INPUTS = "traced_inputs.pkl"  # torch.jit.trace keeps its example, torch.jit.script has none
CHANNELS = 3
STORAGE, MEMORY = "BINPERSID", {"PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE"}
WHOLE_NUMBERS = {"BININT", "BININT1", "BININT2"}
SHAPE = [WHOLE_NUMBERS, {"MARK"}, *[WHOLE_NUMBERS] * 4, {"TUPLE"}]  # after an offset: N, C, H, W


def perform(path: Path, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Return ``labels`` or None, ``traced``, and ``size``: height and width, or None.

    Raises:
        ConversionError: PyTorch cannot load it.

    """
    del options
    example = read_traced_inputs(Path("model"))
    module = load_module(path)
    facts = {
        "labels": read_labels(module),
        "traced": example is not None,
        "size": find_size(example or b""),
    }
    return facts, {}


def read_labels(module: TorchModule) -> list[str] | None:
    """Return the module's ``labels`` if they are a list of names."""
    labels = getattr(module, "labels", None)
    if isinstance(labels, (list, tuple)) and all(isinstance(label, str) for label in labels):
        return list(labels) or None
    return None


def read_traced_inputs(archive: Path) -> bytes | None:
    """Return the pickle of what a module was traced with; None if it was not traced."""
    try:
        with zipfile.ZipFile(archive) as file:
            names = [name for name in file.namelist() if name.endswith("/" + TRACED_INPUTS)]
            return file.read(names[0]) if names else None
    except DAMAGE:  # PyTorch will say so
        return None


def find_size(pickled: bytes) -> list[int] | None:
    """Return the height and width of the one image in a pickle, if that is what it holds.

    Nothing is unpickled. Its operations are looked through: those of a tensor name its storage,
    then say an offset and a tuple, the shape.
    """
    try:
        found = [(operation.name, value) for operation, value, _ in pickletools.genops(pickled)]
    except Exception:  # noqa: BLE001 - a pickle that is none may raise anything
        return None
    found = [(name, value) for name, value in found if name not in MEMORY]
    tensors = [place for place, (name, _) in enumerate(found) if name == STORAGE]
    if len(tensors) != 1:
        return None
    after = found[tensors[0] + 1 :][: len(SHAPE)]
    numbers = [value for _, value in after if isinstance(value, int)]
    is_shape = [name in allowed for (name, _), allowed in zip(after, SHAPE, strict=False)]
    if is_shape != [True] * len(SHAPE) or numbers[2] != CHANNELS:
        return None
    return numbers[3:]
