# SPDX-License-Identifier: Apache-2.0
"""Every line that ``perception`` writes, and every option it reads; tables are in ``console.py``.

Text from outside, such as a label or another library's error, is shown by ``printable``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import traceback
from typing import TYPE_CHECKING, NoReturn

from perception_node.errors import ConfigError, quote
from perception_node.printable import printable, printable_lines

if TYPE_CHECKING:
    from types import TracebackType

    from perception_node.untyped import Passed

UNCUT = sys.maxsize
MOST_DIGITS = 18  # what has no more of them fits into 64 bits


def say(line: object) -> None:
    """Write one line to stdout."""
    sys.stdout.write(f"{printable(line)}\n")


def say_marked(mark: str, color: str, line: object) -> None:
    """Write one line to stdout that begins with a word of ours, coloured on a terminal."""
    if sys.stdout.isatty() and "NO_COLOR" not in os.environ:
        mark = f"\033[{color}m{mark}\033[m"
    sys.stdout.write(f"{mark}{printable(line)}\n")


def say_record(record: object, indent: int | None = None) -> None:
    """Write JSON for machines to stdout; JSON itself escapes all but ASCII."""
    sys.stdout.write(f"{json.dumps(record, indent=indent)}\n")


def note(line: object) -> None:
    """Write one line beside the results, to stderr."""
    sys.stderr.write(f"{printable(line)}\n")
    sys.stderr.flush()


def complain(problem: object) -> None:
    """Write what is wrong, as one line on stderr."""
    note(f"perception: {printable(problem)}")


def describe_bug(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Write the traceback of a bug to stderr; ``sys.excepthook`` while a verb runs."""
    text = "".join(traceback.format_exception(kind, error, trace))
    sys.stderr.write(f"{printable_lines(text)}\n")


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one printable line."""

    def _print_message(self, message: str, file: Passed = None) -> None:
        if message:
            text = "\n".join(printable(line, UNCUT) for line in message.split("\n"))
            super()._print_message(text, file)

    def error(self, message: str) -> NoReturn:
        """Raise ``ConfigError``, as for any other wrong input; how the verb is used is longer."""
        raise ConfigError(f"{message}; see {self.prog} --help")


def parse_count(text: str) -> int:
    """Return a whole number of an option: of few enough digits for whatever counts with it."""
    try:
        return int(_check_length(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{quote(text)} is not a whole number") from error


def parse_number(text: str) -> float:
    """Return a finite number of an option."""
    try:
        value = float(_check_length(text))
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{quote(text)} is not a finite number")
    return value


def _check_length(text: str) -> str:
    if len(text) > MOST_DIGITS:
        raise argparse.ArgumentTypeError(f"{text[:MOST_DIGITS]}... is too long for a number")
    return text
