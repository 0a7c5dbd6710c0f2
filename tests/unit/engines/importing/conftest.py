# SPDX-License-Identifier: Apache-2.0
"""The steps of an import, run in this process."""

from __future__ import annotations

import json
from importlib import import_module

import pytest

from perception_node.engines.importing import importer
from perception_node.engines.importing.child import STEPS
from perception_node.engines.importing.sandbox import ChildResult, lend


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
