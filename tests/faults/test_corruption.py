# SPDX-License-Identifier: Apache-2.0
"""No damaged file of a bundle or of the plan store ever reaches a parser."""

from __future__ import annotations

import random

import onnxruntime as ort
import pytest

from perception_node.engines.onnxruntime import OnnxRuntimeEngine
from perception_node.engines.plans import DamagedPlan, PlanStore, load_stored_plan
from perception_node.errors import ModelError, PlanIntegrityError
from perception_node.model.bundle import load_bundle
from tests.builders import color_network, make_bundle
from tests.plan_builders import NAME, ORIN, builder

CORRUPTIONS = 300


def corruptions(content):
    """Yield copies of a file, each with one other byte, spread evenly over the file."""
    generator = random.Random(0)
    for number in range(CORRUPTIONS):
        first, last = (len(content) * n // CORRUPTIONS for n in (number, number + 1))
        damaged = bytearray(content)
        damaged[generator.randrange(first, max(last, first + 1))] ^= generator.randrange(1, 256)
        yield bytes(damaged)


def test_every_corruption_is_another_one():
    content = bytes(1000)
    assert len(set(corruptions(content))) == CORRUPTIONS
    for damaged in corruptions(content):
        assert sum(a != b for a, b in zip(damaged, content, strict=True)) == 1


@pytest.fixture
def no_parser(monkeypatch):
    def parse(*_arguments, **_options):
        pytest.fail("a damaged model reached ONNX Runtime")

    monkeypatch.setattr(ort, "InferenceSession", parse)


@pytest.mark.parametrize("name", ["bundle.json", "labels.txt", "model.onnx", "model.fp16.onnx"])
@pytest.mark.usefixtures("no_parser")
def test_no_corruption_of_a_bundle_reaches_a_parser(tmp_path, name):
    (tmp_path / "model.fp16.onnx").write_bytes(color_network(gain=6.0))
    make_bundle(tmp_path)
    content = (tmp_path / name).read_bytes()
    for damaged in corruptions(content):
        (tmp_path / name).write_bytes(damaged)
        with pytest.raises(ModelError, match=name):
            use_all(tmp_path)


def use_all(folder):
    bundle = load_bundle(folder)
    bundle.read("model.fp16.onnx")
    OnnxRuntimeEngine(bundle)


@pytest.fixture
def stored(tmp_path):
    """A plan that is larger than a page, with a manifest that holds a table of layers."""
    content = random.Random(1).randbytes(10_000)
    layers = [{"name": f"layer {n}", "precision": "Half"} for n in range(50)]
    return PlanStore(tmp_path / "plans").build_once(NAME, ORIN, builder(content, layers=layers))


@pytest.mark.parametrize("which", ["plan", "manifest"])
def test_no_corruption_of_a_plan_or_its_manifest_gets_through(stored, which):
    store = PlanStore(stored.path.parent)
    file = stored.path if which == "manifest" else stored.path.with_name(stored.plan_file)
    content = file.read_bytes()
    for damaged in corruptions(content):
        file.write_bytes(damaged)
        with pytest.raises(PlanIntegrityError, match=file.name) as caught:
            store.find(NAME, ORIN)
        assert "\n" not in str(caught.value)
        assert str(caught.value).isprintable()
        with pytest.raises(PlanIntegrityError, match=file.name):
            load_stored_plan(stored.path).read()
        if which == "plan":
            with pytest.raises(PlanIntegrityError, match=file.name):
                stored.read()
    assert [type(entry) for entry in store.entries()] == [DamagedPlan]
    file.write_bytes(content)
    assert store.find(NAME, ORIN).read() == stored.read()
