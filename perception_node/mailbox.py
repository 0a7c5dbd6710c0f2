# SPDX-License-Identifier: Apache-2.0
"""One slot per camera between two threads: the newest item wins, an unread one is superseded."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from queue import SimpleQueue
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")


@dataclass(frozen=True, slots=True)  # a NamedTuple cannot be generic before Python 3.11
class Taken(Generic[T]):
    """An item, its slot, and the slots in which others wait."""

    slot: int
    item: T
    waiting: tuple[int, ...]


class Mailboxes(Generic[T]):
    """Hands the newest item of each slot to one reader; nothing queues."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._items: dict[int, T] = {}
        # One per unread item, so that the reader sleeps in C and wakes up without detours.
        self._tokens: SimpleQueue[None] = SimpleQueue()
        self._is_open = True

    def put(self, slot: int, item: T) -> int:
        """Leave ``item`` for the reader; return how many unread items it replaced, 0 or 1.

        A closed mailbox replaces the item at once: it returns 1.
        """
        with self._lock:
            if not self._is_open:
                return 1
            replaced = slot in self._items
            self._items[slot] = item
        if not replaced:
            self._tokens.put(None)
        return int(replaced)

    def take(self, choose: Callable[[Mapping[int, T]], int]) -> Taken[T] | None:
        """Wait for items and return the one whose slot ``choose`` returns; None once closed."""
        self._tokens.get()
        with self._lock:
            if not self._is_open:
                self._tokens.put(None)  # closed for good, for whoever asks again
                return None
            try:
                slot = choose(self._items)
            except BaseException:
                self._tokens.put(None)  # the item it stands for is still there
                raise
            item = self._items.pop(slot)
            return Taken(slot, item, tuple(self._items))

    def close(self) -> tuple[int, ...]:
        """Wake the reader for good; return the slots whose unread items are thrown away."""
        with self._lock:
            self._is_open = False
            thrown_away = tuple(self._items)
            self._items.clear()
        self._tokens.put(None)
        return thrown_away
