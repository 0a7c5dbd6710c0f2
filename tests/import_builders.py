# SPDX-License-Identifier: Apache-2.0
"""Model files as people have them: TorchScript, and ONNX of every shape that can be imported."""

from __future__ import annotations

import io
import warnings
import zipfile

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from perception_node.engines.importing.settings import Wishes
from tests.builders import to_onnx

AERIAL = (
    "agricultural",
    "airplane",
    "baseballdiamond",
    "beach",
    "buildings",
    "chaparral",
    "denseresidential",
    "forest",
    "freeway",
    "golfcourse",
    "harbor",
    "intersection",
    "mediumresidential",
    "mobilehomepark",
    "overpass",
    "parkinglot",
    "river",
    "runway",
    "sparseresidential",
    "storagetanks",
    "tenniscourt",
)
HEIGHT, WIDTH, CLASSES = 6, 8, 5  # not square: a swapped axis shows
NAMES = tuple(f"class {index}" for index in range(CLASSES))
TYPES = {
    "float32": TensorProto.FLOAT,
    "float16": TensorProto.FLOAT16,
    "uint8": TensorProto.UINT8,
}
# What must be said of a model that takes float32 pixels of some kind.
SAID = Wishes(
    color="RGB", resize="stretch", mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3), labels=NAMES
)
# What must be said of a TorchScript module that is not one of the reference application.
SCRIPT_SAID = Wishes(
    size=(4, 6),
    color="RGB",
    resize="stretch",
    scale=1 / 255,
    mean=(0.0, 0.0, 0.0),
    std=(1.0, 1.0, 1.0),
)


def scores_weights() -> np.ndarray:
    """Return the weights of ``scores_network``: every pixel of every channel has its own."""
    shape = (3 * HEIGHT * WIDTH, CLASSES)
    return np.random.default_rng(5).normal(0.0, 0.1, shape).astype(np.float32)


def scores_network(
    layout: str = "NCHW",
    element: str = "float32",
    *,
    batch: int | str = 1,
    softmax: bool = False,
    ending: tuple[int, ...] = (1, CLASSES),
    metadata: dict[str, str] | None = None,
    moved_before_cast: bool = False,
) -> bytes:
    """Return an ONNX model: scores are the image's numbers, in the order (3, H, W), by weights.

    Args:
        layout: order of the input's axes; with RGBA instead of C, alpha is dropped.
        element: type of the input; what is not float32 is cast.
        batch: 1, or the name of an open axis.
        softmax: ends with it.
        ending: shape of the output.
        metadata: of the model.
        moved_before_cast: the image is transposed before it is cast.

    """
    axes = layout.replace("RGBA", "C")
    channels = 4 if axes != layout else 3
    sizes = {"N": batch, "C": channels, "H": HEIGHT, "W": WIDTH}
    order = [axes.index(axis) for axis in ("NCHW" if "N" in axes else "CHW")]
    move, cast = ("Transpose", {"perm": order}), ("Cast", {"to": TensorProto.FLOAT})
    steps = [(o, [], a) for o, a in ([move, cast] if moved_before_cast else [cast, move])]
    if channels == 4:
        steps.append(("Slice", ["first", "third", "channels"], {}))
    steps += [("Reshape", ["row"], {}), ("MatMul", ["weights"], {})]
    steps += [("Softmax", [], {"axis": 1})] if softmax else []
    steps.append(("Reshape", ["ending"], {}))
    nodes = []
    for number, (operator, constants, attributes) in enumerate(steps):
        source = f"step{number - 1}" if number else "picture"
        target = f"step{number}" if number + 1 < len(steps) else "scores"
        nodes.append(helper.make_node(operator, [source, *constants], [target], **attributes))
    constants = {
        "weights": scores_weights(),
        "row": np.array([-1, 3 * HEIGHT * WIDTH]),
        "ending": np.array([-1 if batch != 1 and n == 0 else d for n, d in enumerate(ending)]),
        "first": np.array([0]),
        "third": np.array([3]),
        "channels": np.array([-3]),
    }
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        "scores",
        [helper.make_tensor_value_info("picture", TYPES[element], [sizes[a] for a in axes])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [batch, *ending[1:]])],
        [numpy_helper.from_array(v, name) for name, v in constants.items() if name in used],
    )
    model = onnx.load_model_from_string(to_onnx(graph))
    helper.set_model_props(model, metadata or {})
    return model.SerializeToString()


# TorchScript


def torch():
    """Return PyTorch, or skip the test where it is not installed."""
    return pytest.importorskip("torch", reason="PyTorch is not installed (make setup does it)")


def script(module, extra=None) -> bytes:
    """Return a module as the TorchScript archive that ``torch.jit.save`` makes of it.

    ``extra`` are texts by the name of the file in the archive's folder ``extra``.
    """
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated, and people have it
        torch().jit.save(torch().jit.script(module.eval()), buffer, _extra_files=extra)
    return buffer.getvalue()


def program(module, shape, dtype=None, **options) -> bytes:
    """Return a module as the archive that ``torch.export.save`` makes of it."""
    export, buffer = torch().export, io.BytesIO()
    example = torch().zeros(shape, dtype=dtype)
    export.save(export.export(module.eval(), (example,), **options), buffer)
    return buffer.getvalue()


def old_program(module, shape) -> bytes:
    """Return the same as PyTorch before 2.8 has saved it."""
    torch()
    from torch._export.serde.schema import SCHEMA_VERSION
    from torch._export.serde.serialize import serialize

    parts = serialize(torch().export.export(module.eval(), (torch().zeros(shape),)))
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("serialized_exported_program.json", parts.exported_program)
        for name in ("state_dict", "constants", "example_inputs"):
            file.writestr(f"serialized_{name}.pt", getattr(parts, name))
        file.writestr("version", ".".join(map(str, SCHEMA_VERSION)))
    return buffer.getvalue()


def trace(module, example) -> bytes:
    """Return a module as the archive that ``torch.jit.trace`` gives for an example input."""
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch().jit.save(torch().jit.trace(module.eval(), example), buffer)
    return buffer.getvalue()


def small_module(labels=("red", "green", "blue")):
    """Return a module that tells colours apart: logit i is 12 times the mean of channel i.

    With ``labels`` None it has no such attribute.
    """
    nn = torch().nn

    class Colors(nn.Module):
        def __init__(self):
            super().__init__()
            if labels is not None:
                self.labels = list(labels)
            self.gain = 12.0

        def forward(self, x):
            return x.mean([2, 3]) * self.gain

    return Colors()


def resnet18(labels=AERIAL, seed: int = 0):
    """Return a ResNet-18 (He et al. 2015) with random weights and a ``labels`` attribute."""
    nn = torch().nn

    def convolution(inputs, outputs, size, stride):
        return nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.conv1 = convolution(inputs, outputs, 3, stride)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.conv2 = convolution(outputs, outputs, 3, 1)
            self.bn2 = nn.BatchNorm2d(outputs)
            self.relu = nn.ReLU()
            self.shortcut = nn.Sequential()
            if stride != 1:
                self.shortcut = nn.Sequential(
                    convolution(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)
                )

        def forward(self, x):
            residual = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
            return self.relu(residual + self.shortcut(x))

    class ResNet18(nn.Module):
        def __init__(self):
            super().__init__()
            self.labels = list(labels)
            stem = (convolution(3, 64, 7, 2), nn.BatchNorm2d(64), nn.ReLU())
            widths = ((64, 64, 1), (64, 128, 2), (128, 256, 2), (256, 512, 2))
            blocks = [
                block
                for inputs, outputs, stride in widths
                for block in (Block(inputs, outputs, stride), Block(outputs, outputs, 1))
            ]
            self.features = nn.Sequential(*stem, nn.MaxPool2d(3, 2, 1), *blocks)
            self.pool = nn.AdaptiveAvgPool2d(1)
            self.fc = nn.Linear(512, len(labels))

        def forward(self, x):
            return self.fc(self.pool(self.features(x)).flatten(1))

    with torch().random.fork_rng():
        torch().manual_seed(seed)
        module = ResNet18()
        for layer in module.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        module.fc.weight.data *= 4.0  # answers that differ between images
    return module


def rezip(content: bytes, change) -> bytes:
    """Return an archive whose entries went through ``change(name, data) -> (name, data)``."""
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(content)) as old,
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as new,
    ):
        for info in old.infolist():
            name, data = change(info.filename, old.read(info))
            new.writestr(name, data)
    return buffer.getvalue()
