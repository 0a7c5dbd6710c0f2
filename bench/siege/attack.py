# SPDX-License-Identifier: Apache-2.0
"""What an attack is, and when it has to end."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

    from perception_node.bench.siege.scene import Scene


class Until:
    """The end of an attack: a steady time, or earlier if the siege is ended."""

    def __init__(self, seconds: float) -> None:
        """Begin now."""
        self._end_s = time.monotonic() + seconds
        self._is_ended = threading.Event()

    def end(self) -> None:
        """End it now; from any thread."""
        self._is_ended.set()

    @property
    def is_over(self) -> bool:
        """Whether the attack has to return."""
        return self._is_ended.is_set() or self.overdue_s >= 0.0

    @property
    def overdue_s(self) -> float:
        """How long ago it was due; negative before."""
        return time.monotonic() - self._end_s

    def wait(self, seconds: float) -> bool:
        """Wait, at most until the end; return whether that has come."""
        self._is_ended.wait(max(0.0, min(seconds, self._end_s - time.monotonic())))
        return self.is_over


def happens(source: random.Random, share: float) -> bool:
    """Return True in this share of the calls."""
    return source.random() < share


class Attack(NamedTuple):
    """One kind of attack.

    Attributes:
        name: what the table calls it.
        what: what it does, in a few words.
        run: attacks until it is over and leaves nothing behind; yields after each input. Gets
            what there is to attack, a source of chance and its end.
        seconds: how long one turn takes.
        changes_state: the nodes may be in any state of the lifecycle after it, so the siege
            configures and activates them again.
        changes_parameters: so may their parameters be, which the siege sets back; what depends on
            them is not judged meanwhile.

    """

    name: str
    what: str
    run: Callable[[Scene, random.Random, Until], Iterator[object]]
    seconds: float = 6.0
    changes_state: bool = False
    changes_parameters: bool = False
