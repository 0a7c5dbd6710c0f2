# SPDX-License-Identifier: Apache-2.0
"""Tables, bars and colours of ``perception``; text from outside is shown by ``printable``.

Rows are made of single cells, so nothing within one can look like the next.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rich.cells import cell_len
from rich.console import Console
from rich.segment import Segment

from perception_node.printable import printable
from perception_node.terminal.output import UNCUT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import ConsoleOptions, RenderableType
    from rich.text import Text

    from perception_node.untyped import Passed


def print_rows(rows: Sequence[tuple[str, ...]]) -> None:
    """Write rows of cells as aligned columns; long ones are never cut, as in a rich table."""
    shown = [tuple(map(printable, row)) for row in rows]
    widths = [max(map(cell_len, column)) for column in zip(*shown, strict=True)]
    for row in shown:
        cells = (
            cell + " " * (width - cell_len(cell)) for cell, width in zip(row, widths, strict=True)
        )
        sys.stdout.write("  ".join(cells).rstrip() + "\n")


class PrintableConsole(Console):
    """A console of rich that lets nothing but printable text through; colours are its own.

    A ``str`` is one line or one cell; a ``Text`` of rich is the caller's to make printable.
    """

    def render_str(self, text: str, **options: Passed) -> Text:
        """Return a line or a cell; newlines are for its beginning only."""
        line = text.lstrip("\n")
        begin = text[: len(text) - len(line)]
        return super().render_str(begin + printable(line, UNCUT), **options)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield the pieces of what is printed."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text == "\n":
                yield segment
            else:
                lines = (printable(line, UNCUT) for line in segment.text.split("\n"))
                yield Segment("\n".join(lines), segment.style)


def make_console(**options: Passed) -> PrintableConsole:
    """Return the console of a verb: lines are not wrapped and numbers not coloured."""
    return PrintableConsole(highlight=False, soft_wrap=True, emoji=False, **options)
