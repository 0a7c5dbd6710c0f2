# SPDX-License-Identifier: Apache-2.0
"""Text from outside as it may be shown: on a terminal, in a log, a page, an XML file, a metric.

A label, a topic, a file name or another library's error may hold what moves a cursor, begins a
line that looks like ours, turns the reading direction, or cannot be seen at all. Every output
shows it through this one filter. Words of any language stay as they are: what is not to be seen,
or not as it is, becomes the escape that Python writes for it.
"""

from __future__ import annotations

import html
import sys
import unicodedata
from pathlib import PurePath

MOST_CHARACTERS = 2000  # of a line: a path may have 4096 and is still known by both ends
MOST_LINES = 300
MOST_MARKS = 6  # on one letter; more than any language stacks, fewer than cover the line above
ELLIPSIS = " ... "
# Letters and marks by their category, and yet nothing that one could see.
INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u180b\u180c\u180d\u180f\u2800\u3164\uffa0")
JOINERS = frozenset("\u200c\u200d")  # Persian, the languages of India and emoji need them
MARKS = frozenset(("Mn", "Me"))
JOINED = frozenset("LMS")  # letters, marks and symbols, by the first letter of their category


def printable(text: object, limit: int = MOST_CHARACTERS) -> str:
    """Return a text as one printable line that can be written as UTF-8, and as XML 1.0.

    Newlines and other control characters, characters that turn the direction or have no width,
    lone surrogates and characters without a meaning become escapes; spaces of any width become
    plain ones. Where it is longer than ``limit`` characters, the middle is left out.
    """
    line = str(text)
    if len(line) > limit:
        line = _shorten(line, limit)
    if line.isascii():
        return line if line.isprintable() else "".join(map(_show_ascii, line))
    return _shorten("".join(_show_all(line)), limit)


def is_printable(text: str) -> bool:
    """Return whether a text is shown as it is."""
    return printable(text) == text


def printable_lines(text: object) -> str:
    """Return a text of several lines, such as a traceback; all lines but the first are indented.

    So none of them looks like the beginning of another message in a log.
    """
    lines = str(text).rstrip("\n").split("\n")
    if len(lines) > MOST_LINES:
        half = MOST_LINES // 2
        lines = [*lines[:half], ELLIPSIS.strip(), *lines[-half:]]
    return "\n  ".join(map(printable, lines))


def finalize(value: object) -> object:
    """Return what a template of Jinja puts into a page, of any length; for ``finalize=``.

    What is HTML already (``Markup``) stays.
    """
    is_text = isinstance(value, (str, PurePath)) and not hasattr(value, "__html__")
    return printable(value, sys.maxsize) if is_text else value


def printable_html(text: object) -> str:
    """Return a text as it may stand in an element or in a quoted attribute of HTML."""
    return html.escape(printable(text))


def _shorten(line: str, limit: int) -> str:
    """Leave out the middle: what is wrong stands first, and what to do last."""
    if len(line) <= limit:
        return line
    kept = max(0, limit - len(ELLIPSIS))
    tail = kept // 3
    return line[: kept - tail] + ELLIPSIS + (line[-tail:] if tail else "")


def _show_ascii(character: str) -> str:
    return character if character.isprintable() else _escape(character)


def _show_all(line: str) -> list[str]:
    shown = []
    marks = 0
    for place, character in enumerate(line):
        category = unicodedata.category(character)
        marks = marks + 1 if category in MARKS else 0
        if category == "Zs":
            shown.append(" ")
        elif character in JOINERS:
            joins = 0 < place < len(line) - 1 and all(
                _is_joined(line[place + step]) for step in (-1, 1)
            )
            shown.append(character if joins else _escape(character))
        elif not character.isprintable() or character in INVISIBLE or marks > MOST_MARKS:
            shown.append(_escape(character))
        else:
            shown.append(character)
    return shown


def _is_joined(neighbour: str) -> bool:
    return not neighbour.isascii() and unicodedata.category(neighbour)[0] in JOINED


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode("ascii")
