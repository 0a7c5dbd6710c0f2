# SPDX-License-Identifier: Apache-2.0
"""What the readers of all makers have in common."""

from __future__ import annotations

import json

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from perception_node.engines.importing.makers import FILES, read_makers
from perception_node.engines.importing.makers.evidence import Evidence
from perception_node.engines.importing.makers.label_files import NAMES
from perception_node.engines.importing.settings import Wishes
from perception_node.errors import ConversionError
from tests.maker_builders import MODEL, read


def test_nothing_is_known_of_a_model_without_words():
    assert read() == {}
    assert read({"config.json": {"server": "x"}}, {"producer": "me"}) == {}


# Nothing that is written by others ends in a traceback.

METADATA = ("author", "license", "task", "stride", "imgsz", "names")
TEXT = st.text(max_size=12)
LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | TEXT
KEYS = st.sampled_from(
    [
        *("pretrained_cfg", "input_size", "crop_pct", "crop_mode", "mean", "std", "label_names"),
        *("architecture", "model_type", "architectures", "id2label", "image_processor_type"),
        *("size", "crop_size", "resample", "image_mean", "image_std", "shortest_edge", "height"),
        *("PreProcess", "transform_ops", "ResizeImage", "NormalizeImage", "scale", "PostProcess"),
        *("dataset", "model", "preprocess_mode", "task", "names", "imgsz", "stride", "labels"),
    ]
)
VALUES = st.recursive(
    LEAVES | st.sampled_from(["ConvNextImageProcessor", "ViTImageProcessor", "center", "torch"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=12,
)
DATA = st.dictionaries(KEYS, VALUES, max_size=6)
BYTES = st.binary(max_size=60) | TEXT.map(str.encode) | DATA.map(lambda d: json.dumps(d).encode())


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    files=st.dictionaries(
        st.sampled_from([*FILES, *NAMES, "extra/config.txt"]), BYTES, max_size=4
    ),
    metadata=st.dictionaries(st.sampled_from([*METADATA, "character"]) | TEXT, TEXT, max_size=4),
)
def test_whatever_is_written_there_is_understood_or_refused(files, metadata):
    try:
        known = read_makers(MODEL, Evidence(files, metadata), Wishes())
    except ConversionError as error:
        assert "\n" not in str(error)
    else:
        assert all(choice.source.isprintable() for choice in known.values())
