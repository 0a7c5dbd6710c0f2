# SPDX-License-Identifier: Apache-2.0
"""One slot per camera between two threads: the newest item wins, an unread one is superseded."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

T = TypeVar("T")


class Taken(NamedTuple, Generic[T]):
    """An item, its slot, and the slots in which others wait."""

    slot: int
    item: T
    waiting: tuple[int, ...]


class Mailboxes(Generic[T]):
    """Hands the newest item of each slot to one reader; nothing queues."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._items: dict[int, T] = {}
        self._is_open = True

    def put(self, slot: int, item: T) -> int:
        """Leave ``item`` for the reader; return how many unread items it replaced, 0 or 1.

        A closed mailbox replaces the item at once: it returns 1.
        """
        with self._changed:
            if not self._is_open:
                return 1
            replaced = int(slot in self._items)
            self._items[slot] = item
            self._changed.notify()
            return replaced

    def take(self, choose: Callable[[Mapping[int, T]], int]) -> Taken[T] | None:
        """Wait for items and return the one whose slot ``choose`` returns; None once closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._items or not self._is_open)
            if not self._is_open:
                return None
            slot = choose(self._items)
            item = self._items.pop(slot)
            return Taken(slot, item, tuple(self._items))

    def close(self) -> tuple[int, ...]:
        """Wake the reader for good; return the slots whose unread items are thrown away."""
        with self._changed:
            self._is_open = False
            thrown_away = tuple(self._items)
            self._items.clear()
            self._changed.notify_all()
            return thrown_away
