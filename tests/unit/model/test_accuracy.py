# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import replace

import pytest

from perception_node.errors import ModelFormatError, ModelIntegrityError, UngatedModel
from perception_node.model.accuracy import find_problem, read_accuracy, require_accurate
from perception_node.model.bundle import (
    ACCURACY,
    INT8_ON_CPU,
    MODEL,
    Manifest,
    add_files,
    load_bundle,
    write_bundle,
)
from perception_node.system.resources import find_model
from tests.builders import color_network
from tests.gate_builders import INT8, gate, int8_bundle, int8_color_network

MODELS = [INT8, INT8_ON_CPU]


@pytest.fixture
def bundle(tmp_path):
    return int8_bundle(tmp_path / "colors")


@pytest.fixture
def gated(bundle, tmp_path):
    return gate(bundle, tmp_path)


def refused(bundle, model=INT8_ON_CPU):
    with pytest.raises(UngatedModel) as caught:
        require_accurate(bundle, model, allow_ungated=False)
    message = str(caught.value)
    assert message.startswith(f"{bundle.path / model}: ")
    assert "\n" not in message
    assert "allow_ungated:=true, --allow-ungated" in message
    return message


@pytest.mark.parametrize("model", MODELS)
def test_a_model_that_passed_may_run(gated, model):
    require_accurate(gated, model, allow_ungated=False)
    require_accurate(load_bundle(gated.path), model, allow_ungated=False)


@pytest.mark.parametrize("model", MODELS)
def test_a_model_that_nobody_evaluated_is_refused(bundle, model):
    message = refused(bundle, model)
    assert "never measured" in message
    assert f"run: perception evaluate {bundle.path} --images DIR --labels CSV" in message


def test_it_may_be_allowed_all_the_same(bundle):
    require_accurate(bundle, INT8_ON_CPU, allow_ungated=True)


@pytest.mark.parametrize("model", MODELS)
def test_a_model_that_failed_is_refused_with_its_numbers(tmp_path, model):
    swapped = int8_color_network(order=(1, 0, 2))
    bundle = gate(int8_bundle(tmp_path / "bad", model=swapped), tmp_path)
    message = refused(bundle, model)
    assert "top-1 is 66.67 points below float32, over 1" in message
    assert "agrees with float32 on 33.33% of the images, under 95.00%" in message
    assert "perception calibrate" in message


def test_a_verdict_is_about_one_file_only(gated):
    again = add_files(gated, {INT8_ON_CPU: int8_color_network(gain=11.0)})
    assert "about another model" in refused(again)
    assert find_problem(again, INT8) == ""


def test_a_verdict_is_about_one_float32_model(gated):
    again = add_files(gated, {MODEL: color_network(gain=11.0)})
    assert "about another model" in refused(again, INT8)
    assert "perception evaluate" in refused(again)


def test_a_verdict_is_about_one_preprocessing(gated):
    old = gated.manifest
    changed: Manifest = replace(old, preprocessing=replace(old.preprocessing, color="BGR"))
    again = replace(gated, manifest=changed)
    assert "other preprocessing" in refused(again)


def test_a_verdict_that_was_edited_is_refused(gated):
    path = gated.path / ACCURACY
    path.write_text(path.read_text().replace('"passed": true', '"passed":  true', 1))
    with pytest.raises(ModelIntegrityError, match=r"accuracy\.json"):
        require_accurate(gated, INT8, allow_ungated=False)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"3",
        b"{}",
        b'{"models": 3, "subject": {}}',
        b'{"models": {"a": 1}, "subject": {}}',
        b'{"models": {}, "subject": "a"}',
        b'{"models": {"a": {"sha256": "", "passed": 1, "why": []}}, "subject": {}}',
        b'{"models": {"a": {"sha256": "", "passed": false, "why": [1]}}, "subject": {}}',
        b'{"models": {"a": {"sha256": NaN}}}',
    ],
)
def test_a_verdict_that_says_nothing_is_an_error_that_names_it(bundle, content):
    again = add_files(bundle, {ACCURACY: content})
    with pytest.raises(ModelFormatError, match=r"accuracy\.json: .*perception evaluate"):
        require_accurate(again, INT8, allow_ungated=False)


def test_a_bundle_without_a_verdict_says_nothing(bundle):
    assert read_accuracy(bundle) == {}


def test_a_file_that_is_not_listed_is_no_verdict(gated):
    record = json.loads((gated.path / ACCURACY).read_text())
    (gated.path / INT8).unlink()
    write_bundle(gated.path, gated.manifest)  # lists models and labels only
    assert record["models"][INT8_ON_CPU]["passed"]
    assert "never measured" in refused(load_bundle(gated.path))


def test_verdicts_of_older_releases_are_still_about_the_same_preprocessing():
    shipped = load_bundle(find_model(""))
    assert shipped.manifest.preprocessing.sha256() == (
        "e63ef19a559cdd29cd301d729bc5b262a3f3495b1458f40503386a107087c672"
    )
