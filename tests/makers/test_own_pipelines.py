# SPDX-License-Identifier: Apache-2.0
"""What makers export is imported without a flag, and answers as their own pipelines do.

Every network is made here by its maker's package: ``make test-makers`` installs them and writes
``bench/reports/makers.json``. The photos are those of ``tests/accuracy``.
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
from tests.makers.networks import CLASSES, MAKERS, NAMES

SAMPLE = ROOT.parent / "shared/data/imagenet-sample"
PHOTOS = 100
AGREEMENT, DIFFERENCE = 0.98, 0.01  # Pillow's resize differs a little from ours
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
    """Photos as OpenCV reads them, and the same for Pillow."""
    files = sorted((SAMPLE / "images").iterdir())[:PHOTOS]
    images = [cv2.imread(str(file)) for file in files]
    return images, [pillow.fromarray(image[..., ::-1].copy()) for image in images]


def classify(bundle, images):
    """Return our scores, one row per image in the order of the classes."""
    rows = np.zeros((len(images), CLASSES))
    with Pipeline(bundle, OnnxRuntimeEngine(bundle, 1)) as pipeline:
        for row, image in zip(rows, images, strict=True):
            found = pipeline.run(Frame.from_bgr(image), top_k=CLASSES, threshold=0.0).hypotheses
            for one in found:
                row[NAMES.index(one.label)] = one.score
    return rows


def note(name, **figures):
    """Add a maker's figures to the report."""
    if REPORT:
        file = Path(REPORT)
        data = json.loads(file.read_text()) if file.exists() else {}
        file.write_text(json.dumps({**data, name: figures}, indent=2) + "\n")


@pytest.mark.parametrize("name", MAKERS)
def test_an_export_needs_no_flags_and_answers_as_its_maker_does(tmp_path, photos, name):
    ours, theirs = photos
    folder = tmp_path / "export"
    folder.mkdir()
    pipeline = MAKERS[name](folder, theirs)
    imported = import_model(Order(folder, tmp_path / "bundle", photos=ours[:2]))
    assert imported.labels == NAMES
    found = classify(load_bundle(tmp_path / "bundle"), ours)
    expected = np.stack([pipeline(photo) for photo in theirs])
    best = expected.argmax(1)
    agreement = float((found.argmax(1) == best).mean())
    rows = np.arange(len(best))
    difference = float(np.median(np.abs(found - expected)[rows, best]))
    note(name, photos=len(ours), top_1_agreement=agreement, median_difference=round(difference, 5))
    assert len(set(best)) > CLASSES // 2
    assert agreement >= AGREEMENT
    assert difference <= DIFFERENCE
