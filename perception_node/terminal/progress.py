# SPDX-License-Identifier: Apache-2.0
"""Bars on a terminal, and nothing elsewhere, with any rich from 11 on, which Ubuntu 22.04 has."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from perception_node.terminal.console import make_console

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.progress import ProgressColumn

T = TypeVar("T")


@contextmanager
def show_progress(*columns: ProgressColumn) -> Iterator[Progress]:
    """Show bars on stderr, where it is a terminal; the caller adds tasks with a total."""
    console = make_console(stderr=True)
    bar = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    if bar.disable:  # rich 11 ends with an empty line what it did not show
        yield bar
    else:
        with bar:
            yield bar


def track(items: Iterable[T], description: str, total: int) -> Iterator[T]:
    """Yield the items and show how many of them are done."""
    words, percentage = "{task.description}", "{task.percentage:>3.0f}%"
    columns = (TextColumn(words), BarColumn(), TextColumn(percentage), TimeRemainingColumn())
    with show_progress(*columns) as bar:
        task = bar.add_task(description, total=total)
        for item in items:
            yield item
            bar.advance(task)


def count_column() -> TextColumn:
    """Return a column such as 12/345; rich's own is not in rich 11."""
    return TextColumn("{task.completed:.0f}/{task.total:.0f}", style="progress.download")
