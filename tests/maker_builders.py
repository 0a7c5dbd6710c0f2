# SPDX-License-Identifier: Apache-2.0
"""Ask the makers' readers what files and metadata say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from perception_node.engines.importing.makers import read_makers
from perception_node.engines.importing.makers.evidence import Evidence
from perception_node.engines.importing.settings import Wishes
from perception_node.errors import ConversionError

MODEL = Path("model.onnx")
UNIT = pytest.approx(1 / 255)
ZEROS, ONES = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def read(files=None, metadata=None, wishes=None, size=None):
    """Return the values that are known; files are text, or data that becomes JSON."""
    contents = {
        name: (data if isinstance(data, str) else json.dumps(data)).encode()
        for name, data in (files or {}).items()
    }
    evidence = Evidence(contents, metadata or {}, size)
    known = read_makers(MODEL, evidence, wishes or Wishes())
    assert all(choice.source for choice in known.values())
    return {name: choice.value for name, choice in known.items()}


def problem(*arguments, **named):
    with pytest.raises(ConversionError) as caught:
        read(*arguments, **named)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def numbers(files):
    """Return colour, scale, mean and std."""
    known = read(files)
    return [known.get(name) for name in ("color", "scale", "mean", "std")]
