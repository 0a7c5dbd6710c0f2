# SPDX-License-Identifier: Apache-2.0
"""What was heard of a node, as plain values: whoever judges it needs no ROS."""

from __future__ import annotations

from typing import NamedTuple


class Result(NamedTuple):
    """One classification as a subscriber gets it.

    Attributes:
        stamp_ns: the image's own stamp.
        received_ns: when it arrived, on this process's steady clock.
        label: name of the best class, empty if none reached the threshold.
        score: its score.
        class_id: its number, as the message has it.

    """

    stamp_ns: int
    received_ns: int
    label: str
    score: float
    class_id: str = ""
