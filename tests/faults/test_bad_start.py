# SPDX-License-Identifier: Apache-2.0
"""A model or a parameter that cannot be used: one line that says so, and nothing half done."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from perception_node.model.bundle import write_bundle
from tests.builders import MANIFEST
from tests.ros.harness import Stream, make_image, wait_for

pytestmark = pytest.mark.ros


def flip(path):
    """Change one bit in the middle of a file."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def rewrite(bundle, name, content):
    """Change a file of a bundle, and make the bundle believe that it belongs to it."""
    (bundle / name).write_bytes(content)
    write_bundle(bundle, MANIFEST)


def with_a_fifo(bundle):
    (bundle / "model.onnx").unlink()
    os.mkfifo(bundle / "model.onnx")


def with_other_schema(bundle):
    manifest = json.loads((bundle / "bundle.json").read_bytes())
    manifest["schema_version"] = 99
    (bundle / "bundle.json").write_text(json.dumps(manifest), encoding="utf-8")


BAD_MODELS = {
    "no model": (lambda b: (b / "model.onnx").unlink(), "model.onnx: cannot be read"),
    "no labels": (lambda b: (b / "labels.txt").unlink(), "labels.txt: cannot be read"),
    "no manifest": (lambda b: (b / "bundle.json").unlink(), "bundle.json: cannot be read"),
    "folder is gone": (shutil.rmtree, "no such folder"),
    "flipped model": (lambda b: flip(b / "model.onnx"), "model.onnx: sha256"),
    "flipped labels": (lambda b: flip(b / "labels.txt"), "labels.txt: sha256"),
    "flipped manifest": (lambda b: flip(b / "bundle.json"), "bundle.json: "),
    "manifest of the future": (with_other_schema, "schema_version: 1 was expected"),
    "manifest is no JSON": (lambda b: (b / "bundle.json").write_text("{"), "not JSON"),
    "a label too few": (
        lambda b: rewrite(b, "labels.txt", b"red\ngreen\n"),
        "labels.txt: 2 labels for a model with 3 classes",
    ),
    "a label too many": (
        lambda b: rewrite(b, "labels.txt", b"red\ngreen\nblue\nblack\n"),
        "labels.txt: 4 labels for a model with 3 classes",
    ),
    "labels are no text": (lambda b: rewrite(b, "labels.txt", b"\xff\xfe\n"), "not UTF-8"),
    "garbage model": (
        lambda b: rewrite(b, "model.onnx", b"garbage" * 1000),
        "model.onnx: it is no ONNX, or damaged",
    ),
    "empty model": (lambda b: rewrite(b, "model.onnx", b""), "model.onnx: "),
    "model is a pipe": (with_a_fifo, "model.onnx: cannot be read"),
}


@pytest.mark.parametrize("damage", BAD_MODELS)
def test_a_bad_model_fails_to_configure_with_one_line(start, peer, color_model, tmp_path, damage):
    bundle = tmp_path / "bundle"
    shutil.copytree(color_model, bundle)
    hurt, cause = BAD_MODELS[damage]
    hurt(bundle)
    with start(model=bundle) as node:
        line = wait_for(node.log_lines, lambda: "a line in the log")[0]
        assert peer.state() == "unconfigured"
        # Asked again, the node says the same again.
        assert not peer.change("configure")
        assert peer.state() == "unconfigured"
        assert node.end() == 0
        lines = node.log_lines()
        assert "Traceback" not in node.log()
    assert line.startswith("[ERROR]")
    assert "configure failed: " in line
    assert str(bundle) in line
    assert cause in line
    assert len(lines) == 2, lines


def test_a_model_that_was_mended_can_be_configured(start, peer, color_model, tmp_path):
    bundle = tmp_path / "bundle"
    shutil.copytree(color_model, bundle)
    flip(bundle / "model.onnx")
    with start(model=bundle, autostart=False):
        assert not peer.change("configure")
        flip(bundle / "model.onnx")
        assert peer.change("configure")
        assert peer.change("activate")


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (("-p", "top_k:=0"), "top_k"),
        (("-p", "top_k:=1001"), "top_k"),
        (("-p", "top_k:=2.5"), "top_k"),
        (("-p", "top_k:=five"), "top_k"),
        (("-p", "threshold:=1.5"), "threshold"),
        (("-p", "threshold:=.nan"), "threshold"),
        (("-p", "image_transport:=h264"), "image_transport"),
        (("-p", "executor:=multi_threaded"), "executor"),
        (("-p", "image_qos:=reliable"), "image_qos"),
        (("-p", "nonsense"), "nonsense"),
        (("-r", "nonsense"), "nonsense"),
        (("-r", "__node:=1 2"), "1 2"),
        (("-r", "__ns:=no space"), "no space"),
        (("--params-file", "/no/such/file.yaml"), "/no/such/file.yaml"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_a_bad_argument_ends_the_process_with_one_line(start, arguments, word):
    with start(*arguments) as node:
        assert node.process.wait(30) == 2
        # rcl writes a line of its own when it cannot parse its arguments.
        lines = [line for line in node.log().splitlines() if "[rcl]: " not in line]
    assert len(lines) == 1, lines
    assert lines[0].startswith("[FATAL]")
    assert word in lines[0]


def test_the_executor_of_old_is_a_warning_and_nothing_else(start, peer):
    with start(executor="events") as node:
        Stream(peer).classify(make_image("red", 1))
        (line,) = [line for line in node.log_lines() if "executor" in line]
        assert node.end() == 0
    assert "[WARN]" in line
    assert line.endswith("parameter executor is deprecated and has no effect; remove it")


def test_a_params_file_is_read(start, tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text("/**:\n  ros__parameters:\n    top_k: 0\n", encoding="utf-8")
    with start("--params-file", str(file)) as node:
        assert node.process.wait(30) == 2
        assert "top_k" in node.log()
