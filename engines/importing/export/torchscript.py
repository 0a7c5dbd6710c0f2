# SPDX-License-Identifier: Apache-2.0
"""In the confined child: run a TorchScript module and export it to ONNX.

``torch.onnx.export`` takes a scripted module only with ``dynamo=False``, a way that PyTorch will
remove: that is why the version of PyTorch is pinned for this step.
"""

from __future__ import annotations

import io
import warnings
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from perception_node.errors import ConversionError, first_line

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from numpy.typing import NDArray

    from perception_node.untyped import TorchModule

torch: Any = import_module("torch")  # its types are of no use for what a file holds

OPSET = 17  # what TensorRT 8.6 and all later parsers read


def perform(path: Path, options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Export ``model``, and run it on ``images``: float32 of shape (n, 3, height, width).

    Returns:
        PyTorch's version; the blobs ``model`` (ONNX) and ``outputs``
        (``.npy``, float32 of shape (n, classes)).

    Raises:
        ConversionError: PyTorch cannot load, run or export it.

    """
    del options
    images = np.load("images", allow_pickle=False)
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    module = load_module(path)
    outputs = [run_module(path, module, image[np.newaxis]) for image in images]
    buffer = io.BytesIO()
    with problems(path, "PyTorch cannot export it to ONNX"):
        torch.onnx.export(
            module,
            (torch.from_numpy(images[:1]),),
            buffer,
            dynamo=False,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["output"],
        )
    facts = {"torch": str(torch.__version__)}
    rows = io.BytesIO()
    np.save(rows, np.concatenate(outputs))
    return facts, {"model": buffer.getvalue(), "outputs": rows.getvalue()}


def load_module(path: Path) -> TorchModule:
    """Load ``model``.

    Raises:
        ConversionError: PyTorch cannot.

    """
    with problems(path, "PyTorch cannot load it"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and people have it
        module: TorchModule = torch.jit.load("model", map_location="cpu").eval()
    return module


def run_module(
    path: Path,
    module: TorchModule,
    image: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Run it on one image of shape (1, 3, height, width); return (1, classes).

    The module itself may give its scores along any axis, such as (classes,) or (1, classes, 1, 1).

    Raises:
        ConversionError: it fails, or returns something else.

    """
    with problems(path, "PyTorch cannot run it"), torch.no_grad():
        output = module(torch.from_numpy(image))
    if not isinstance(output, torch.Tensor):
        kind = type(output).__name__
        raise ConversionError(path, f"it returns a {kind}; a classifier returns one tensor")
    if sum(axis > 1 for axis in output.shape) > 1 or output.dtype != torch.float32:
        found = f"{tuple(output.shape)} {output.dtype}"
        raise ConversionError(path, f"it returns {found}, not float32 of shape (1, classes)")
    array: NDArray[np.float32] = output.numpy()
    return array.reshape(1, -1).copy()


@contextmanager
def problems(path: Path, what: str) -> Iterator[None]:
    """Wrap whatever PyTorch raises: it documents no exceptions.

    Raises:
        ConversionError: says ``what`` went wrong, and why.

    """
    try:
        yield
    except ConversionError:
        raise
    except Exception as error:
        text = str(error).strip()
        reason = first_line(_first_cause(error))
        if "Traceback of TorchScript" in text:
            reason = text.splitlines()[-1].strip()[:300]
        raise ConversionError(path, f"{what}: {reason}") from error


def _first_cause(error: Exception) -> Exception:
    """Return what went wrong first: the exporter wraps it in general advice."""
    while isinstance(error.__cause__, Exception):
        error = error.__cause__
    return error
