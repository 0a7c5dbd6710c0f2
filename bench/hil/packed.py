# SPDX-License-Identifier: Apache-2.0
"""Millions of small records in little memory, and none of them for the garbage collector."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Generic, NamedTuple, TypeVar, overload

Row = TypeVar("Row", bound=NamedTuple)


class Packed(Sequence[Row], Generic[Row]):
    """Named tuples in columns of eight bytes a field; one thread may append while others read."""

    def __init__(self, make: Callable[..., Row], codes: str) -> None:
        """Prepare.

        Args:
            make: the tuple's class.
            codes: for each field what it is: ``q`` a whole number, ``d`` a float, ``o`` an object
                that occurs again and again, such as a label.

        """
        self._make = make
        self._columns = [array("q" if code == "o" else code) for code in codes]
        self._objects: list[list[Any] | None] = [[] if code == "o" else None for code in codes]
        self._numbers: dict[Any, int] = {}

    def append(self, row: Row) -> None:
        """Add one; it is there once its last field is."""
        for value, column, objects in zip(row, self._columns, self._objects, strict=True):
            column.append(value if objects is None else self._to_number(value, objects))

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._columns[-1])

    @overload
    def __getitem__(self, place: int) -> Row: ...
    @overload
    def __getitem__(self, place: slice) -> list[Row]: ...
    def __getitem__(self, place: int | slice) -> Row | list[Row]:
        """Return one, or a list of some."""
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        values = (column[place] for column in self._columns)
        return self._make(
            *(v if o is None else o[v] for v, o in zip(values, self._objects, strict=True))
        )

    def __iter__(self) -> Iterator[Row]:
        """Yield them in order."""
        return map(self.__getitem__, range(len(self)))

    def _to_number(self, value: object, objects: list[Any]) -> int:
        number = self._numbers.setdefault((id(objects), value), len(objects))
        if number == len(objects):
            objects.append(value)
        return number
