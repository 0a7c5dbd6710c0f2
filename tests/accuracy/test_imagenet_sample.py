# SPDX-License-Identifier: Apache-2.0
"""The default model on 500 images of ImageNet's classes, through the real command.

The images are not part of the repository: a folder ``imagenet-sample`` with ``images/`` and
``ground_truth.csv`` (file, class_index) lies in ``../shared/data`` where they are at hand.
"""

from __future__ import annotations

import csv
import json

import pytest

from tests.builders import ROOT, perception

SAMPLE = ROOT.parent / "shared/data/imagenet-sample"
TOP_1 = 0.865
TOP_5 = 0.96

pytestmark = [
    pytest.mark.alone,
    pytest.mark.accuracy,
    pytest.mark.slow,
    pytest.mark.skipif(not SAMPLE.is_dir(), reason=f"no images at {SAMPLE}"),
]


@pytest.fixture(scope="module")
def ranks():
    """The place of the right class among the results of each image; None where it is not there."""
    with (SAMPLE / "ground_truth.csv").open(newline="") as file:
        truth = {row["file"]: row["class_index"] for row in csv.DictReader(file)}
    result = perception("classify", SAMPLE / "images", "--json")
    assert (result.returncode, result.stderr) == (0, "")
    found = {}
    for record in map(json.loads, result.stdout.splitlines()):
        name = record["file"].rpartition("/")[2]
        classes = [one["class_id"] for one in record["results"]]
        found[name] = classes.index(truth[name]) if truth[name] in classes else None
    assert found.keys() == truth.keys()
    return list(found.values())


def test_top_1(ranks):
    assert ranks.count(0) / len(ranks) >= TOP_1


def test_top_5(ranks):
    assert sum(rank is not None for rank in ranks) / len(ranks) >= TOP_5
