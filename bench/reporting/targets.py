# SPDX-License-Identifier: Apache-2.0
"""What the ratios of a benchmark should be; for EfficientNet-Lite0 with one inference thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from perception_node.bench.reporting.measurement import Case

P50_TO_LIMIT = "end to end p50 / (bare p50 + floor p50)"
P99_TO_LIMIT = "end to end p99 / (bare p99 + floor p99)"
OVERHEAD_TO_NAIVE = "overhead, naive / node"
OWN_CODE_MS = "own code p50, ms"
ANSWERED_PERCENT = "frames answered, %"
FAULTS = "page faults per frame"
CPU_TO_BARE = "CPU per frame / bare"
OVERLOAD_MS = "overload: p99 - 2 x infer - transport, ms"
SUPERSEDED_MS = "overload: CPU of a superseded image, node - floor, ms"
START_MS = "start to active, ms"
HIGHEST_RATE = "highest rate / that of bare inference"


class Target(NamedTuple):
    """A limit; ``at_least`` tells on which side of it a value should be."""

    limit: float
    at_least: bool = False

    def is_reached(self, value: float) -> bool:
        """Return whether a value is on the right side."""
        return value >= self.limit if self.at_least else value <= self.limit

    def describe(self) -> str:
        """Return such as ``at most 1.25``."""
        return f"at {'least' if self.at_least else 'most'} {self.limit:g}"


RATED_LOAD = {"rate_hz": 30.0, "encoding": "bgr8", "transport": "raw", "cameras": 1}


def _of_size(
    to_limit: tuple[float, float], to_naive: float, own_code_ms: float, cpu_to_bare: float
) -> dict[str, Target]:
    """Return the targets of an image size; ``to_limit`` is of the percentiles 50 and 99."""
    return {
        P50_TO_LIMIT: Target(to_limit[0]),
        P99_TO_LIMIT: Target(to_limit[1]),
        OVERHEAD_TO_NAIVE: Target(to_naive, at_least=True),
        OWN_CODE_MS: Target(own_code_ms),
        ANSWERED_PERCENT: Target(100.0, at_least=True),
        FAULTS: Target(20.0),
        CPU_TO_BARE: Target(cpu_to_bare),
    }


RATED = {
    "640x480": _of_size((1.05, 1.1), to_naive=3.0, own_code_ms=0.75, cpu_to_bare=1.2),
    "1280x720": _of_size((1.04, 1.05), to_naive=4.0, own_code_ms=0.8, cpu_to_bare=1.3),
    "1920x1080": _of_size((1.04, 1.05), to_naive=5.0, own_code_ms=1.05, cpu_to_bare=1.4),
}
EVERYWHERE = {
    OVERLOAD_MS: Target(5.0),
    SUPERSEDED_MS: Target(0.1),
    START_MS: Target(2500.0),
    HIGHEST_RATE: Target(0.9, at_least=True),
}


def find_targets(case: Case) -> dict[str, Target]:
    """Return the targets of a case by the name of their ratio; few if its load is not rated."""
    return {**EVERYWHERE, **(RATED.get(size_name(case), {}) if is_rated(case) else {})}


def is_rated(case: Case) -> bool:
    """Return whether the load is the one that the targets are for, of whatever size."""
    return all(case.load.get(key) == value for key, value in RATED_LOAD.items())


def size_name(case: Case) -> str:
    """Return such as ``640x480``; empty for a case without images."""
    size = (case.load.get("width"), case.load.get("height"))
    return "" if None in size else f"{size[0]}x{size[1]}"
