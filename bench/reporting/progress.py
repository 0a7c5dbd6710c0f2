# SPDX-License-Identifier: Apache-2.0
"""How far a run is, for those who watch it."""

from __future__ import annotations

from typing import NamedTuple


class Progress(NamedTuple):
    """A run that goes on.

    Attributes:
        sent: frames that were published so far, warm-up excluded.
        answered: those with a result so far.
        missed: those that got none within the deadline.
        rate_hz: results per second, lately; NaN before there are any.
        p99_ms: 99th percentile of the latest ages; NaN before there are any.
        seconds_left: until the run is over.
        total: frames that the run will send, warm-up excluded.

    """

    sent: int
    answered: int
    missed: int
    rate_hz: float
    p99_ms: float
    seconds_left: float
    total: int
