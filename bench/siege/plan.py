# SPDX-License-Identifier: Apache-2.0
"""Which attacks there are, and in which order they come."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perception_node.bench.siege.camera import BURSTS, SECOND_CAMERA, STAMPS
from perception_node.bench.siege.http import FLOODS, MALFORMED, SLOW, VIEWERS
from perception_node.bench.siege.images import IMAGES
from perception_node.bench.siege.lifecycle import BUNDLES, LIFECYCLE, MESSAGES
from perception_node.bench.siege.load import STEAL, STOP

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from perception_node.bench.siege.attack import Attack

ATTACKS = (
    IMAGES,
    STEAL,
    STOP,
    MALFORMED,
    SLOW,
    FLOODS,
    VIEWERS,
    MESSAGES,
    LIFECYCLE,
    BUNDLES,
    BURSTS,
    STAMPS,
    SECOND_CAMERA,
)
MOST_AT_ONCE = 3
CALM_S = 7.0
LONGEST_WARM_UP_S, WARM_UP_SHARE = 20.0, 0.15


@dataclass(frozen=True)
class SiegePlan:
    """What to do for how long.

    Attributes:
        seconds: from the beginning of the warm-up to the end of the last calm.
        seed: of everything that is left to chance.
        attacks: what there is to choose from.

    """

    seconds: float
    seed: int
    attacks: Sequence[Attack] = ATTACKS

    @property
    def warm_up_s(self) -> float:
        """How long only good pictures come; then what a process has is what it needs."""
        return min(LONGEST_WARM_UP_S, WARM_UP_SHARE * self.seconds)

    def phases(self) -> Iterator[tuple[Attack, ...]]:
        """Yield without end what attacks at the same time: one to three of them.

        They are dealt like cards, so that each comes as often as any other.
        """
        source = random.Random(self.seed)
        deck: list[Attack] = []
        while True:
            hand: list[Attack] = []
            for _ in range(source.randint(1, MOST_AT_ONCE)):
                if not deck:
                    deck = source.sample(list(self.attacks), len(self.attacks))
                if deck[-1] in hand:
                    break
                hand.append(deck.pop())
            yield tuple(hand)
