# SPDX-License-Identifier: Apache-2.0
"""Class names in a CSV table: a column of names, or one of numbers beside it, in either order."""

from __future__ import annotations

import csv
import io

NAMES = ("name", "label", "class_name", "class", "category", "display_name")
NUMBERS = ("index", "id", "class_id", "label_id", "class_index", "idx", "number")
DELIMITERS = ",;\t"


def read_table(text: str, suffix: str) -> list[tuple[int, str]]:
    """Return the number and the name of each class.

    Raises:
        ValueError: it is no such table.

    """
    first = text.split("\n", 1)[0]
    delimiter = "\t" if suffix == ".tsv" else next((d for d in DELIMITERS if d in first), ",")
    try:
        lines = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
        rows = [[cell.strip() for cell in row] for row in lines if any(map(str.strip, row))]
    except csv.Error as error:
        raise ValueError(f"it is no CSV: {error}") from error
    if not rows:
        raise ValueError("it is empty")
    if len({len(row) for row in rows}) > 1:
        raise ValueError("its rows differ in length; put names with commas into quotes")
    number, name = _find_columns(rows)
    if number is None:
        return list(enumerate(row[name] for row in rows))
    if wrong := next((row for row in rows if not _is_number(row[number])), None):
        raise ValueError(f"{wrong[number][:20]!a} is no number of a class")
    return [(int(row[number]), row[name]) for row in rows]


def _find_columns(rows: list[list[str]]) -> tuple[int | None, int]:
    """Return where the numbers are, if there are any, and where the names; drop the header."""
    header = [cell.lower().replace(" ", "_") for cell in rows[0]]
    names = [place for place, cell in enumerate(header) if cell in NAMES]
    numbers = [place for place, cell in enumerate(header) if cell in NUMBERS]
    if len(names) == 1 and len(numbers) <= 1 and (numbers or len(header) == 1):
        del rows[0]
        return (numbers[0] if numbers else None), names[0]
    numbers = [p for p in range(len(header)) if all(_is_number(row[p]) for row in rows)]
    if len(header) == 1 and not numbers:
        return None, 0
    if len(header) == 2 and numbers:
        return numbers[0], 1 - numbers[0]
    raise ValueError("it has no columns of a number and a name; write a header: index,name")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal() and len(text) < len(str(10**6))
