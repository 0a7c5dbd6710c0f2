# SPDX-License-Identifier: Apache-2.0
"""How far a command is, for those who watch: drawn on a terminal, and not at all elsewhere.

It works with any rich from 11 on, which Ubuntu 22.04 has.
"""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, TypeVar

from rich.live import Live
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from perception_node.terminal.console import make_console

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from rich.console import Console, RenderableType
    from rich.progress import Task, TaskID
    from typing_extensions import Self

T = TypeVar("T")


def track(items: Iterable[T], phase: str, total: int) -> Iterator[T]:
    """Yield the items and show how many of them are done."""
    with show_phases() as report:
        report(phase, 0, total)
        for done, item in enumerate(items, start=1):
            yield item
            report(phase, done, total)


@contextmanager
def show_phases() -> Iterator[Callable[[str, int, int], None]]:
    """Show a bar for each phase; what is yielded takes its name, and how many of how many."""
    words, count = TextColumn("{task.description}"), "{task.completed:.0f}/{task.total:.0f}"
    count_column = TextColumn(count, style="progress.download")  # rich's own is not in rich 11
    with _bars(words, BarColumn(), count_column, _Speed(), TimeRemainingColumn()) as bars:
        tasks: dict[str, TaskID] = {}

        def report(phase: str, done: int, total: int) -> None:
            if phase not in tasks:
                tasks[phase] = bars.add_task(escape(phase), total=total)
            bars.update(tasks[phase], completed=done)

        yield report


@contextmanager
def show_work(words: str = "") -> Iterator[Callable[[str, float | None], None]]:
    """Show what is being done, and since when.

    What is yielded takes other words, and which part is done: 0.0 to 1.0, None if unknown.
    """
    columns = (SpinnerColumn(), BarColumn(), _Elapsed(), TextColumn("{task.description}"))
    with _bars(*columns) as bars:
        task = bars.add_task(escape(words), start=False, total=1.0)

        def report(words: str, part: float | None) -> None:
            # The bar of a task that is not started pulses.
            done: int = part or 0  # type: ignore[assignment] # a float will do
            is_known = part is not None
            bars.reset(task, start=is_known, completed=done, description=escape(words))

        yield report


class Redrawn:
    """What is drawn again and again in one place of a terminal, from entering to leaving."""

    def __init__(self, console: Console) -> None:
        """Prepare."""
        self.console = console
        self._drawing = ExitStack()

    def render(self) -> RenderableType:
        """Return what is to be seen now; called by a thread of rich's."""
        raise NotImplementedError

    def leave(self) -> None:
        """Write what stays; nothing by default."""

    def __enter__(self) -> Self:
        """Begin to draw."""
        if self.console.is_terminal:
            live = Live(console=self.console, get_renderable=self.render, transient=True)
            self._drawing.enter_context(live)
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop drawing."""
        self._drawing.close()
        self.leave()


@contextmanager
def _bars(*columns: ProgressColumn) -> Iterator[Progress]:
    console = make_console(stderr=True)
    bars = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
    if bars.disable:  # rich 11 ends with an empty line what it did not show
        yield bars
    else:
        with bars:
            yield bars


class _Elapsed(ProgressColumn):
    """Seconds since the beginning; rich's own column starts again with each phase."""

    def __init__(self) -> None:
        super().__init__()
        self._begin = time.monotonic()

    def render(self, _task: Task) -> Text:
        return Text(str(timedelta(seconds=int(time.monotonic() - self._begin))))


class _Speed(ProgressColumn):
    """How many a second."""

    def render(self, task: Task) -> Text:
        speed = task.finished_speed or task.speed
        return Text(f"{speed:.0f}/s" if speed else "")
