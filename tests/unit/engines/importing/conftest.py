# SPDX-License-Identifier: Apache-2.0
"""The steps of an import run in this process; ``tests/faults`` and the command confine them."""

from __future__ import annotations

import json
from importlib import import_module

import numpy as np
import pytest

from perception_node.engines.importing import importer
from perception_node.engines.importing.importer import Order, import_model
from perception_node.engines.importing.sandbox.child import STEPS
from perception_node.engines.importing.sandbox.sandbox import ChildResult, lend
from perception_node.model.bundle import load_bundle
from tests.builders import smooth
from tests.import_builders import SAID

PHOTO = np.ascontiguousarray(smooth(48, 64)[..., ::-1])  # BGR


@pytest.fixture
def in_this_process(monkeypatch, tmp_path):
    """Run each step here, in a folder of its own."""

    class Here:
        def __init__(self, path, *_arguments, **_options):
            self.path = path

        def run(self, step, files, options, **_options):
            folder = tmp_path / f"step {len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            with monkeypatch.context() as patch, lend(folder, files):
                patch.chdir(folder)
                module = import_module(f"perception_node.engines.importing.{STEPS[step]}")
                facts, blobs = module.perform(self.path, json.loads(json.dumps(options)))
            return ChildResult(json.loads(json.dumps(facts)), blobs)

    monkeypatch.setattr(importer, "Sandbox", Here)


@pytest.fixture
def convert(tmp_path, in_this_process):
    """Import a model and return what came of it, with the bundle."""

    def run(model, wishes=SAID, **more):
        file = tmp_path / "scores.onnx"
        file.write_bytes(model)
        order = Order(file, tmp_path / "bundle", wishes, photos=[PHOTO], **more)
        return import_model(order), load_bundle(tmp_path / "bundle")

    return run
