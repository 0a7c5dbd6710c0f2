# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

from perception_node.engines.importing.settings import Wishes
from tests.maker_builders import problem, read


def test_labels_of_deepstream_stand_on_one_line():
    assert read({"labels.txt": "cat;dog;bird"})["labels"] == ("cat", "dog", "bird")


def test_teachable_machine_numbers_its_names():
    assert read({"labels.txt": "0 red\n1 dark green\n"}) == {"labels": ("red", "dark green")}


def test_a_damaged_file_of_names_is_named_and_a_wish_goes_before_it():
    files = {"labels.json": '{"0": "a", "2": "b"}'}
    text = problem(files)
    assert "labels.json: the classes are numbered from 0 to 2 without 1" in text
    assert text.endswith("correct it, or import the model from a folder without that file")
    assert "labels" not in read(files, wishes=Wishes(labels=("a", "b")))
