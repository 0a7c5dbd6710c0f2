# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
from dataclasses import asdict, fields, replace

import numpy as np
import pytest

from perception_node.engines.plans import BuildOptions, PlanFingerprint, l4t_release
from tests.plan_builders import ORIN, OTHER_VALUES, with_other

EVERY_FIELD = [field.name for field in fields(PlanFingerprint)]


def test_every_field_has_another_value_in_these_tests():
    assert list(OTHER_VALUES) == EVERY_FIELD


def test_the_key_is_the_same_in_every_process():
    """A change of the key costs every user a build: make it on purpose."""
    assert ORIN.key() == "39519baa1772fcab"
    assert replace(ORIN).key() == ORIN.key()


@pytest.mark.parametrize("field", EVERY_FIELD)
def test_every_field_changes_the_key(field):
    assert with_other(field).key() != ORIN.key()
    assert len(with_other(field).key()) == 16


@pytest.mark.parametrize("field", EVERY_FIELD)
def test_a_difference_names_its_field(field):
    (difference,) = ORIN.differences(with_other(field))
    assert difference.startswith(field)
    assert difference.isprintable()


def test_differences_say_what_was_built_and_what_is_here():
    here = replace(
        ORIN,
        gpu="Thor",
        input_shape=(1, 3, 224, 224),
        onnx_sha256="0" * 64,
        l4t="",
        options=BuildOptions(workspace_mib=64, optimization_level=5),
    )
    assert ORIN.differences(here) == [
        "onnx_sha256: built for a1a1a1a1a1a1..., here 000000000000...",
        "input_shape: built for 1x3x8x8, here 1x3x224x224",
        "gpu: built for Orin, here Thor",
        "l4t: built for 36.4.3, here none",
        "options.workspace_mib: built for 512, here 64",
        "options.optimization_level: built for default, here 5",
    ]
    assert ORIN.differences(replace(ORIN)) == []


@pytest.mark.parametrize("field", EVERY_FIELD)
def test_it_comes_back_from_json(field):
    fingerprint = with_other(field)
    data = json.loads(json.dumps(asdict(fingerprint)))
    found = PlanFingerprint.from_json(data)
    assert found == fingerprint
    assert found.key() == fingerprint.key()


@pytest.mark.parametrize("field", EVERY_FIELD)
@pytest.mark.parametrize(
    "value", [None, True, 1.5, [], [1, "3"], {"8": 8}, {"workspace_mib": "512"}]
)
def test_other_types_are_refused(field, value):
    with pytest.raises(ValueError, match="fingerprint"):
        PlanFingerprint.from_json({**asdict(ORIN), field: value})


def test_a_fingerprint_that_json_would_change_cannot_be_made():
    """A list comes back as a tuple, a NumPy integer not at all: no plan would ever fit."""
    for field, value in (("input_shape", [1, 3, 8, 8]), ("sm_count", np.int64(8)), ("gpu", None)):
        with pytest.raises(ValueError, match=f"{field} of a fingerprint cannot be"):
            replace(ORIN, **{field: value})


@pytest.mark.parametrize("field", EVERY_FIELD)
def test_a_missing_field_is_refused(field):
    data = asdict(ORIN)
    del data[field]
    with pytest.raises(ValueError, match=field):
        PlanFingerprint.from_json(data)


@pytest.mark.parametrize("data", [None, [], "text", 1, {}, {**asdict(ORIN), "more": 1}])
def test_other_json_is_no_fingerprint(data):
    with pytest.raises(ValueError, match="not a fingerprint"):
        PlanFingerprint.from_json(data)


@pytest.mark.parametrize(
    "field", ["backend", "tensorrt", "cuda", "gpu", "compute_capability", "sm_count", "l4t"]
)
def test_the_machine_and_tensorrt_bind_a_timing_cache(field):
    assert with_other(field).timing_cache_key() != ORIN.timing_cache_key()


@pytest.mark.parametrize("field", ["onnx_sha256", "precision", "input_shape", "options"])
def test_models_share_a_timing_cache(field):
    assert with_other(field).timing_cache_key() == ORIN.timing_cache_key()


@pytest.mark.parametrize(
    ("text", "release"),
    [
        (
            "# R36 (release), REVISION: 4.3, GCID: 38968081, BOARD: generic, EABI: aarch64",
            "36.4.3",
        ),
        ("# R35 (release), REVISION: 2.1, GCID: 32413640, BOARD: t186ref\n", "35.2.1"),
        ("# R39 (release), REVISION: 2.0, GCID: 1\n# more\n", "39.2.0"),
        ("", ""),
        ("Ubuntu 24.04", ""),
        ("\xff\x00", ""),
    ],
)
def test_the_release_of_jetson_linux_is_read(tmp_path, text, release):
    (tmp_path / "nv_tegra_release").write_bytes(text.encode("latin-1"))
    assert l4t_release(tmp_path / "nv_tegra_release") == release


def test_other_machines_have_no_release_of_jetson_linux(tmp_path):
    assert l4t_release(tmp_path / "missing") == ""
    assert l4t_release(tmp_path) == ""
