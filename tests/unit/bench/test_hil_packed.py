# SPDX-License-Identifier: Apache-2.0
"""Packed records are the same records, in less memory."""

from __future__ import annotations

import sys

from perception_node.bench.camera.fault_schedule import Fault
from perception_node.bench.hil.packed import Packed
from perception_node.bench.hil.recorder import HilRecord, SentFrame
from perception_node.rehearsal.heard import Result

FRAMES = [SentFrame(1 << 60, 2, 3, Fault.OK, 0), SentFrame(-4, 5, 6, Fault.STUCK, 1)]


def test_what_was_added_comes_back():
    packed = Packed(SentFrame, "qqqoq")
    for frame in FRAMES:
        packed.append(frame)
    assert list(packed) == FRAMES
    assert len(packed) == 2
    assert packed[-1] == FRAMES[1]
    assert packed[1:] == FRAMES[1:]
    assert packed[:5] == FRAMES


def test_a_day_of_answers_stays_small():
    answers = HilRecord().answers
    for number in range(10_000):
        answers.append(Result(number, number + 1, f"label {number % 5}", 0.25, str(number % 5)))
    assert answers[7] == Result(7, 8, "label 2", 0.25, "2")
    held = sum(sys.getsizeof(column) for column in answers._columns)
    assert held < 50 * len(answers)
