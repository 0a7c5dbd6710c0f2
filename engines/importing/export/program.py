# SPDX-License-Identifier: Apache-2.0
"""In the confined child: export a ``torch.export`` program to ONNX, and compare the two."""

from __future__ import annotations

import io
import os
import tempfile
import warnings
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from perception_node.engines.importing.export.torchscript import problems
from perception_node.engines.onnxruntime.session import open_session
from perception_node.errors import ConversionError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

    from perception_node.untyped import TorchModule

torch: Any = import_module("torch")  # its types are of no use for what a file holds
import_module("onnxscript")  # PyTorch's exporter needs it
# PyTorch wants a folder for caches that it does not use here. Once it is confined, none can be
# made or tried out.
os.environ["TORCHINDUCTOR_CACHE_DIR"] = tempfile.gettempdir()

OPSET = 18  # the exporter's own; TensorRT 10 and all later parsers read it
TRIES = 2
# Of the range of an output: rounding in another order, with 24 bits and with 11.
TOLERANCES = {"float32": 1e-3, "float64": 1e-3, "float16": 2e-2}


def perform(path: Path, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Export ``model``, and run both on noise of the shape that it was traced with.

    Returns:
        PyTorch's version; the blob ``model`` (ONNX).

    Raises:
        ConversionError: PyTorch cannot load, run or export it, or the two differ.

    """
    del options
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with problems(path, "PyTorch cannot load it"):
        program = torch.export.load("model")
    noise = [make_noise(path, program, seed) for seed in range(TRIES)]
    module = program.module()
    with problems(path, "PyTorch cannot run it"), torch.no_grad():
        expected = [flatten(module(torch.from_numpy(each))) for each in noise]
    model = export(path, program)
    compare(path, model, noise, expected)
    return {"torch": str(torch.__version__)}, {"model": model}


def make_noise(path: Path, program: TorchModule, seed: int) -> NDArray[Any]:
    """Return an input of the program's only shape and type; an open axis gets one element.

    Raises:
        ConversionError: it has another number of inputs than one.

    """
    names = set(program.graph_signature.user_inputs)
    places = [node for node in program.graph.nodes if node.op == "placeholder"]
    inputs = [node.meta["val"] for node in places if node.name in names]
    if len(inputs) != 1 or not isinstance(inputs[0], torch.Tensor):
        problem = f"it has {len(inputs)} inputs; a classifier of images has one tensor"
        raise ConversionError(path, problem)
    examples = torch.utils._pytree.tree_leaves(program.example_inputs)  # noqa: SLF001 - no other
    (value,) = inputs
    shape = examples[0].shape if len(examples) == 1 else value.shape
    random = np.random.default_rng(seed)
    if value.dtype.is_floating_point:
        made = torch.from_numpy(random.normal(size=tuple(map(int, shape))))
    else:
        made = torch.from_numpy(random.integers(0, 256, tuple(map(int, shape))))
    array: NDArray[Any] = made.to(value.dtype).numpy()
    return array


def flatten(output: object) -> list[NDArray[Any]]:
    """Return all tensors of what a program returns, in the order of its ONNX outputs."""
    leaves = torch.utils._pytree.tree_leaves(output)  # noqa: SLF001 - there is no other
    return [leaf.float().numpy().copy() for leaf in leaves if isinstance(leaf, torch.Tensor)]


def export(path: Path, program: TorchModule) -> bytes:
    """Return the program as one ONNX file.

    Raises:
        ConversionError: PyTorch cannot export it.

    """
    buffer = io.BytesIO()
    with problems(path, "PyTorch cannot export it to ONNX"):
        torch.onnx.export(
            program,
            (),
            buffer,
            dynamo=True,
            external_data=False,
            verbose=False,
            opset_version=OPSET,
        )
    return buffer.getvalue()


def compare(
    path: Path,
    model: bytes,
    noise: list[NDArray[Any]],
    expected: list[list[NDArray[Any]]],
) -> None:
    """Run the ONNX model; what it gives must be what the program gave.

    Raises:
        ConversionError: it cannot be run, or gives something else.

    """
    with problems(path, "ONNX Runtime cannot run it"):
        session = open_session(model, input_bytes=noise[0].nbytes)
        (value,) = session.get_inputs()
        found = [session.run(None, {value.name: each}) for each in noise]
    for outputs, wanted in zip(found, expected, strict=True):
        if [output.shape for output in outputs] != [each.shape for each in wanted]:
            raise ConversionError(path, "as ONNX it gives outputs of other shapes than before")
        for output, each in zip(outputs, wanted, strict=True):
            tolerance = TOLERANCES.get(str(output.dtype), 0.0)
            room = tolerance * max(1.0, float(np.abs(each).max(initial=0.0)))
            difference = float(np.abs(output.astype(np.float64) - each).max(initial=0.0))
            if not difference <= room:
                problem = (
                    f"as ONNX its output differs by {difference:.1e} on noise, more than "
                    f"{room:.1e}; the conversion cannot be trusted"
                )
                raise ConversionError(path, problem)
