# SPDX-License-Identifier: Apache-2.0
"""What makers export is imported without a flag, and answers as their own pipelines do.

``make test-makers`` installs the makers' packages and writes ``bench/reports/makers.json``. The
photos are those of ``tests/accuracy``.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from perception_node.engines.importing.importer import Order, import_model
from perception_node.engines.onnxruntime import OnnxRuntimeEngine
from perception_node.engines.pipeline import Pipeline
from perception_node.model.bundle import load_bundle
from perception_node.vision.frame import Frame
from tests.builders import ROOT
from tests.makers import networks, pipelines

SAMPLE = ROOT.parent / "shared/data/imagenet-sample"
PHOTOS, FEW = 100, 30
# Where nothing is resampled, only the arithmetic differs, and the decoding of nothing.
SAME = {"agreement": 0.99, "difference": 1e-3}
# Pillow's resize is not ours: on whole pixels, with other kernels. A trained network sees it.
RESAMPLED = {"agreement": 0.95, "difference": 0.015}
REPORT = os.environ.get("MAKERS_REPORT")

pytestmark = [
    pytest.mark.makers,
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"no images at {SAMPLE}"),
    pytest.mark.filterwarnings("ignore"),
]
pillow = pytest.importorskip("PIL.Image")


@pytest.fixture(scope="module")
def photos():
    """BGR images."""
    return [cv2.imread(str(file)) for file in sorted((SAMPLE / "images").iterdir())[:PHOTOS]]


def for_pillow(images):
    return [pillow.fromarray(image[..., ::-1].copy()) for image in images]


def classify(bundle, images):
    """Return our scores, one row per image in the order of the classes."""
    rows = np.zeros((len(images), len(bundle.labels)))
    with Pipeline(bundle, OnnxRuntimeEngine(bundle, 1)) as pipeline:
        for row, image in zip(rows, images, strict=True):
            found = pipeline.run(Frame.from_bgr(image), top_k=len(row), threshold=0.0)
            for one in found.hypotheses:
                row[int(one.class_id)] = one.score
    return rows


def compare(name, folder, pipeline, images, limits):
    """Import a folder without flags, and compare the two answers to each image."""
    imported = import_model(Order(folder, folder.parent / "bundle", photos=images[:2]))
    found = classify(load_bundle(folder.parent / "bundle"), images)
    expected = np.stack([pipeline(photo) for photo in for_pillow(images)])
    best = expected.argmax(1)
    agreement = float((found.argmax(1) == best).mean())
    rows = np.arange(len(best))
    difference = float(np.median(np.abs(found - expected)[rows, best]))
    note(name, photos=len(images), top_1_agreement=agreement, median_difference=difference)
    assert agreement >= limits["agreement"]
    assert difference <= limits["difference"]
    return imported, best


def note(name, **figures):
    """Add a maker's figures to the report."""
    if REPORT:
        file = Path(REPORT)
        data = json.loads(file.read_text()) if file.exists() else {}
        rounded = {key: round(value, 5) for key, value in figures.items()}
        file.write_text(json.dumps({**data, name: rounded}, indent=2) + "\n")


@pytest.mark.parametrize("name", networks.MAKERS)
def test_a_network_of_each_maker_answers_the_same_where_nothing_is_resampled(
    tmp_path, photos, name
):
    side, make = networks.MAKERS[name]
    folder = tmp_path / "export"
    folder.mkdir()
    images = [cv2.resize(photo, (side, side)) for photo in photos[:FEW]]
    pipeline = make(folder, for_pillow(images))
    imported, best = compare(f"{name}, own network", folder, pipeline, images, SAME)
    assert imported.labels == networks.NAMES
    assert len(set(best)) > networks.CLASSES // 3


@pytest.mark.parametrize("name", pipelines.PIPELINES)
def test_photos_of_any_size_are_brought_to_size_as_the_maker_does(tmp_path, photos, name):
    folder = tmp_path / "export"
    folder.mkdir()
    pipeline = pipelines.PIPELINES[name](folder)
    compare(name, folder, pipeline, photos, RESAMPLED)
