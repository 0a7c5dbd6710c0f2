# SPDX-License-Identifier: Apache-2.0
"""Programs of ``torch.export``: old files and new ones, in this process."""

from __future__ import annotations

import io
import os
from importlib import import_module
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from perception_node.engines.importing.files.archive import check_archive
from perception_node.engines.importing.files.filetypes import recognise
from perception_node.engines.importing.importer import Order, import_model
from perception_node.engines.importing.settings import Wishes
from perception_node.errors import ConversionError, EnvironmentLacks
from perception_node.model.bundle import load_bundle
from tests.import_builders import old_program, program, small_module, torch

pytestmark = pytest.mark.filterwarnings("ignore")
PATH = Path("model.pt2")
NAMES = ("red", "green", "blue")
WISHES = Wishes(
    color="RGB",
    resize="stretch",
    scale=1 / 255,
    mean=(0, 0, 0),
    std=(1, 1, 1),
    labels=tuple("rgb"),
)


@pytest.fixture
def step(monkeypatch, tmp_path):
    """Return the child's module, in a folder of its own; it changes the environment."""
    torch()
    pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.chdir(tmp_path)
    return import_module("perception_node.engines.importing.export.program")


@pytest.mark.parametrize("save", [program, old_program])
def test_a_program_becomes_one_onnx_file(step, save):
    content = save(small_module(), (1, 3, 4, 6))
    assert recognise(PATH, content) == "torch.export"
    check_archive(PATH, content)
    Path("model").write_bytes(content)
    facts, blobs = step.perform(PATH, {})
    assert facts == {"torch": torch().__version__}
    model = onnx.load_model_from_string(blobs["model"])
    assert [opset.version for opset in model.opset_import if not opset.domain] == [18]
    session = ort.InferenceSession(blobs["model"], providers=["CPUExecutionProvider"])
    (value,) = session.get_inputs()
    assert value.shape == [1, 3, 4, 6]
    image = np.random.default_rng(3).random((1, 3, 4, 6), np.float32)
    (scores,) = session.run(None, {value.name: image})
    assert scores == pytest.approx(12 * image.mean((2, 3)), abs=1e-5)


@pytest.mark.usefixtures("in_this_process")
def test_a_program_is_imported_like_onnx(step, tmp_path):
    assert step
    (tmp_path / "m.pt2").write_bytes(program(small_module(), (1, 3, 4, 6)))
    imported = import_model(Order(tmp_path / "m.pt2", tmp_path / "bundle", WISHES))
    bundle = load_bundle(tmp_path / "bundle")
    assert (bundle.manifest.input.height, bundle.manifest.input.width) == (4, 6)
    assert imported.format == bundle.manifest.provenance["format"] == "torch.export"
    assert bundle.manifest.provenance["torch"] == torch().__version__
    assert imported.choices["size"].source == "its input"


@pytest.mark.usefixtures("in_this_process")
def test_all_missing_packages_are_named_at_once(step, tmp_path, monkeypatch):
    assert step
    (tmp_path / "m.pt2").write_bytes(program(small_module(), (1, 3, 4, 6)))
    monkeypatch.setattr(
        "perception_node.engines.importing.opening.find_spec",
        lambda name: None if name in {"torch", "onnxscript"} else name,
    )
    with pytest.raises(EnvironmentLacks, match=r"needs torch, onnxscript; run: pip install torch"):
        import_model(Order(tmp_path / "m.pt2", tmp_path / "bundle", WISHES))


def test_an_open_batch_and_half_precision_are_exported(step):
    nn = torch().nn
    batch = torch().export.Dim("batch", min=1, max=8)
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).half()
    Path("model").write_bytes(
        program(module, (2, 3, 8, 8), torch().float16, dynamic_shapes=({0: batch},))
    )
    _, blobs = step.perform(PATH, {})
    (value,) = onnx.load_model_from_string(blobs["model"]).graph.input
    assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT16
    assert value.type.tensor_type.shape.dim[0].dim_param


def test_several_outputs_are_compared_one_by_one(step):
    nn = torch().nn

    class Two(nn.Module):
        def forward(self, x):
            return {"scores": x.mean([2, 3]), "extra": (x.flatten(1),)}

    Path("model").write_bytes(program(Two(), (1, 3, 4, 6)))
    _, blobs = step.perform(PATH, {})
    assert len(onnx.load_model_from_string(blobs["model"]).graph.output) == 2


def test_a_model_that_differs_as_onnx_is_refused(step, monkeypatch):
    Path("model").write_bytes(program(small_module(), (1, 3, 4, 6)))
    other = small_module()
    other.gain = 12.1
    wrong = torch().export.export(other.eval(), (torch().zeros(1, 3, 4, 6),))
    right = step.export
    monkeypatch.setattr(step, "export", lambda path, _: right(path, wrong))
    with pytest.raises(ConversionError, match=r"differs by .* on noise, more than .* be trusted"):
        step.perform(PATH, {})


def test_what_is_no_classifier_of_one_image_is_refused(step):
    nn = torch().nn

    class Sum(nn.Module):
        def forward(self, x, y):
            return x + y

    zeros = torch().zeros(1, 3)
    buffer = io.BytesIO()
    torch().export.save(torch().export.export(Sum(), (zeros, zeros)), buffer)
    Path("model").write_bytes(buffer.getvalue())
    with pytest.raises(ConversionError, match="it has 2 inputs; a classifier of images has one"):
        step.perform(PATH, {})
    Path("model").write_bytes(b"no archive")
    with pytest.raises(ConversionError, match="PyTorch cannot load it: "):
        step.perform(PATH, {})
