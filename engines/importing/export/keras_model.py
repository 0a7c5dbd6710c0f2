# SPDX-License-Identifier: Apache-2.0
"""In the confined child: let Keras export its model to ONNX, and compare the two."""

from __future__ import annotations

import io
import os
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from perception_node.engines.importing.export.program import compare
from perception_node.engines.importing.export.torchscript import problems
from perception_node.errors import ConversionError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from perception_node.untyped import KerasModel

os.environ["KERAS_BACKEND"] = "torch"  # of the three, the one that other imports need too
keras: Any = import_module("keras")  # its types are of no use for what a file holds

FILE = "model.keras"  # Keras goes by the name
TRIES = 2
HAS_CODE = (
    "it has a Lambda layer or the like, which is Python code; replace it by a layer of Keras's "
    "own and save it again"
)


def perform(path: Path, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Export ``model.keras`` for one image, and run both on noise, pixels from 0 to 255.

    The option ``size``, height and width, is for a model that takes any.

    Returns:
        Keras's version; the blob ``model`` (ONNX).

    Raises:
        ConversionError: Keras cannot load, run or export it, or the two differ.

    """
    warnings.simplefilter("ignore")
    model = load_model(path)
    shape = input_shape(path, model, options["size"])
    random = np.random.default_rng(0)
    noise = [random.uniform(0, 255, shape).astype(np.float32) for _ in range(TRIES)]
    with problems(path, "Keras cannot run it"):
        expected = [flatten(model(each, training=False)) for each in noise]
    buffer = io.BytesIO()
    with problems(path, "Keras cannot export it to ONNX"):
        signature = [keras.InputSpec(shape=shape, dtype="float32")]
        model.export(buffer, format="onnx", verbose=False, input_signature=signature)
    compare(path, buffer.getvalue(), noise, expected)
    return {"keras": str(keras.__version__)}, {"model": buffer.getvalue()}


def load_model(path: Path) -> KerasModel:
    """Return the model, without Python code of its own.

    Raises:
        ConversionError: Keras cannot load it, or finds such code.

    """
    with problems(path, "Keras cannot load it"):
        try:
            return keras.saving.load_model(FILE, compile=False, safe_mode=True)
        except ValueError as error:
            if "safe_mode" in str(error):  # its advice is no way out here
                raise ConversionError(path, HAS_CODE) from error
            raise


def input_shape(
    path: Path, model: KerasModel, size: tuple[int, int] | None
) -> tuple[int, int, int, int]:
    """Return the shape of one image, NHWC or NCHW, as the model takes it.

    Raises:
        ConversionError: it takes something else, or any size and none is given.

    """
    shapes = [tuple(each.shape) for each in model.inputs or ()]
    if len(shapes) != 1 or len(shapes[0]) != len("NHWC"):
        raise ConversionError(path, f"its inputs are {shapes}; one image is needed")
    shape = [1, *shapes[0][1:]]
    first = 2 if shape[1] in {1, 3} and shape[3] not in {1, 3} else 1
    sides = slice(first, first + 2)
    if None in shape[sides] and size is None:
        raise ConversionError(path, "it takes images of any size; give --size HxW")
    for place, side in enumerate(size or (), start=first):
        shape[place] = shape[place] or side
    if None in shape:
        raise ConversionError(path, f"its input is {shapes[0]}; its channels are not said")
    batch, second, third, fourth = map(int, shape)
    return batch, second, third, fourth


def flatten(output: object) -> list[NDArray[Any]]:
    """Return all tensors that a model returns, float32."""
    leaves = keras.tree.flatten(output)
    return [np.asarray(keras.ops.convert_to_numpy(leaf), np.float32) for leaf in leaves]
