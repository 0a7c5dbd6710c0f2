# SPDX-License-Identifier: Apache-2.0
"""A ResNet-18 ``model.zip`` with 21 classes: import, replay, the node, NVIDIA's own parser."""

from __future__ import annotations

import io
import json
from typing import Any, NamedTuple

import numpy as np
import pytest
from vision_msgs.msg import LabelInfo

from perception_node.engines.half_precision import to_half_precision
from perception_node.engines.plans import BuildOptions
from perception_node.engines.tensorrt.api import load_tensorrt
from perception_node.engines.tensorrt.builder import build_plan
from perception_node.engines.tensorrt.inspection import check_precision
from perception_node.model.bundle import ModelBundle, load_bundle
from perception_node.ros.qos import LATCHED
from perception_node.vision.preprocess import FramePreprocessor
from perception_node.wire.bags import open_bag
from perception_node.wire.images import COMPRESSED_TYPE, RAW_TYPE, ImageReader
from tests.builders import SAMPLE_BAG, perception
from tests.calibration_builders import quantize
from tests.import_builders import AERIAL, resnet18, script, torch
from tests.ros.harness import (
    NODE,
    Peer,
    Stream,
    claim_domain,
    make_image,
    serialize,
    start_node,
    wait_for,
)

pytestmark = [pytest.mark.ros, pytest.mark.slow]
MAX_PIXELS = 1 << 24


class Imported(NamedTuple):
    """The bundle, and the archive as PyTorch reads it again."""

    bundle: ModelBundle
    module: Any


@pytest.fixture(scope="module")
def imported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("import")
    archive = script(resnet18())
    (folder / "model.zip").write_bytes(archive)
    result = perception("import", folder / "model.zip", "-o", folder / "aerial")
    assert (result.returncode, result.stderr) == (0, "")
    with pytest.warns(DeprecationWarning, match="torch.jit.load"):
        module = torch().jit.load(io.BytesIO(archive))
    return Imported(load_bundle(folder / "aerial"), module)


def ask_pytorch(imported, frame, preprocess, image):
    """Return the probabilities that PyTorch gives for a frame."""
    preprocess(frame)
    with torch().no_grad():
        return imported.module(torch().from_numpy(image)).softmax(1)[0].numpy()


def preprocessor(bundle):
    image = np.empty((1, 3, 224, 224), np.float32)
    return FramePreprocessor(bundle.manifest.preprocessing, image), image


def test_labels_and_preprocessing_come_from_the_archive(imported):
    manifest = imported.bundle.manifest
    assert imported.bundle.labels == AERIAL
    assert len(AERIAL) == manifest.output.classes == 21
    assert (manifest.input.height, manifest.input.width) == (224, 224)
    settings = manifest.preprocessing
    assert (settings.color, settings.resize, settings.scale) == ("RGB", "stretch", 1 / 255)
    assert (settings.mean, settings.std) == ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert manifest.output.kind == "logits"


def test_the_conversion_was_checked_against_pytorch(imported):
    checked = imported.bundle.manifest.provenance["checked"]
    assert checked["images"] == 8
    assert 0 < checked["largest_difference"] <= 1e-4


def test_a_replay_gives_pytorchs_own_answers(imported):
    result = perception("replay", SAMPLE_BAG, "--model", imported.bundle.path, "--top-k", "21")
    assert (result.returncode, result.stderr) == (0, "")
    records = [json.loads(line) for line in result.stdout.splitlines()]
    preprocess, image = preprocessor(imported.bundle)
    readers = {
        RAW_TYPE: ImageReader("raw", MAX_PIXELS, 448),
        COMPRESSED_TYPE: ImageReader("compressed", MAX_PIXELS, 448),
    }
    with open_bag(SAMPLE_BAG) as bag:
        messages = list(bag.messages(list(bag.topics)))
    assert len(messages) == len(records) == 108
    winners = set()
    for message, record in list(zip(messages, records, strict=True))[::6]:
        frame = readers[message.type_name].read(message.data)
        expected = ask_pytorch(imported, frame, preprocess, image)
        found = np.zeros(21)
        for one in record["results"]:
            assert one["label"] == AERIAL[int(one["class_id"])]
            found[int(one["class_id"])] = one["score"]
        assert found == pytest.approx(expected, abs=1e-4)
        winners.add(record["results"][0]["label"])
    assert len(winners) > 1


def test_the_node_publishes_its_labels_and_pytorchs_answer(imported):
    parameters = {"model": imported.bundle.path, "autostart": True, "top_k": 21}
    with claim_domain() as domain, start_node(domain, parameters), Peer(domain) as peer:
        infos = peer.collect(LabelInfo, f"{NODE}/label_info", LATCHED)
        message = make_image("orange", 7, size=(64, 48))
        result = Stream(peer).classify(message)
        wait_for(lambda: infos, lambda: "label_info")
    assert [entry.class_name for entry in infos[0].class_map] == list(AERIAL)
    preprocess, image = preprocessor(imported.bundle)
    image_reader = ImageReader("raw", MAX_PIXELS, 448)
    frame = image_reader.read(serialize(message))
    expected = ask_pytorch(imported, frame, preprocess, image)
    found = {int(one.class_id): one.score for one in result.results}
    assert [found[index] for index in range(21)] == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_nvidias_parser_and_builder_take_it_in_every_precision(imported, precision):
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
    model = imported.bundle.read()
    if precision == "int8":
        noise = np.random.default_rng(0).random((2, 1, 3, 224, 224), np.float32)
        model = quantize(model, list(noise))
    if precision != "fp32":
        model = to_half_precision(model)
    built = build_plan(load_tensorrt("tensorrt-rtx"), model, precision, BuildOptions())
    assert built.is_strongly_typed
    assert len([layer for layer in built.layers if layer.kind == "Convolution"]) == 20
    check_precision(built.layers, precision, is_typed=True)
