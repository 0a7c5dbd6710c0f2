# SPDX-License-Identifier: Apache-2.0
"""Tables for a terminal that keep every figure, however narrow it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.segment import Segments
from rich.table import Table
from rich.text import Text

from perception_node.printable import printable

if TYPE_CHECKING:
    from rich.console import Console

    from perception_node.bench.reporting import tables

WIDEST, LONG_HEADER = 1000, 8  # characters


def new_table(title: str, style: str) -> Table:
    """Return an empty table in the style of all."""
    return Table(
        box=SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
        pad_edge=False,
        title=Text(printable(title)),
        title_justify="left",
        title_style=style,
    )


def to_rich(table: tables.Table) -> Table:
    """Return a table of a report; long headers take two lines."""
    drawn = new_table(table.title, "italic")
    for number, header in enumerate(table.headers):
        shown = printable(header)
        short = shown.replace(" ", "\n", 1) if number and len(shown) > LONG_HEADER else shown
        drawn.add_column(Text(short), justify="right" if number else "left", no_wrap=True)
    for row in table.rows:
        drawn.add_row(*(Text(printable(cell)) for cell in row))
    return drawn


def print_whole(console: Console, table: Table) -> None:
    """Print a table as wide as it is: a narrow terminal breaks its lines, but nothing is cut."""
    wide = console.options.update(max_width=WIDEST)
    width = console.measure(table, options=wide).maximum
    options = console.options.update(width=width, max_width=width)
    console.print(Segments(console.render(table, options)), soft_wrap=True, end="")
