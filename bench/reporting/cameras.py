# SPDX-License-Identifier: Apache-2.0
"""Which frame of a run is of which camera: the schedule tells, as cameras are evenly staggered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perception_node.bench.reporting.measurement import Case


def split_by_camera(case: Case, subject: str) -> list[NDArray[np.float64]]:
    """Return the ages of each camera's frames in ms, NaN where no result came, of all runs.

    Empty for a case of another level than node, or of one camera.
    """
    cameras = case.load.get("cameras", 1)
    if case.level != "node" or cameras == 1 or not case.of(subject):
        return []
    timelines = [run.timeline for run in case.of(subject)]
    times_s = np.concatenate([timeline.times_s for timeline in timelines])
    ages_ms = np.concatenate([timeline.ages_ms for timeline in timelines])
    numbers = np.rint(times_s * case.load["rate_hz"] * cameras).astype(int) % cameras
    return [ages_ms[numbers == camera] for camera in range(cameras)]
