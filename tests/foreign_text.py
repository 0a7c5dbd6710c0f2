# SPDX-License-Identifier: Apache-2.0
"""Text from outside of every kind that must not be shown as it is, and how to tell."""

from __future__ import annotations

import unicodedata

FOREIGN = {
    "escape": "a\x1b[2J\x1b[1;1H\x1b]0;title\x07b",
    "newline": "a\nperception: all is well",
    "carriage return": "a\rOK",
    "backspace": "a\x08\x08\x08b\tc\x0b\x0cd",
    "null": "a\x00b",
    "delete": "a\x7fb",
    "C1": "a\x9b31m\x90\x9d\x85b",
    "bidi overrides": "a\u202etxt.exe\u202c\u202d",
    "bidi isolates": "a\u2066b\u2067c\u2068d\u2069",
    "bidi marks": "a\u200eb\u200fc\u061cd",
    "zero width": "a\u200bb\u2060c\ufeffd\u00ade\u180ef",
    "joiners": "a\u200db\u200cc\u200d",
    "separators": "a\u2028b\u2029c",
    "surrogates": "a\udc80b\ud800c",
    "stacked marks": "e" + "\u0301" * 500,
    "enclosing marks": "e" + "\u20dd" * 50,
    "tags": "a\U000e0041\U000e007f",
    "no characters": "a\uffff\ufffe\U0001ffff",
    "private": "a\ue000\U00100000",
    "invisible letters": "a\u3164b\u115fc\u1160d\uffa0e\u034ff\u2800",
    "interlinear": "a\ufff9b\ufffac\ufffb",
    "long": "x" * 5_000,
    "long and wide": "\U0001f600" * 5_000,
    "markup": "[red]a[/red] [/] <b>&amp;</b> {x} %s \\",
}
SENSIBLE = (
    "Größe 1 µm, façade, Łódź, naïve",
    "ÄÖÜ",
    "дом, Ελληνικά, Հայերեն",
    "埃及猫 エジプシャン・マウ 이집트고양이",
    "قطة مصرية",
    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian writes with it
    "חתול מצרי",
    "แมวอียิปต์ น้ำ",
    "मिस्र की बिल्ली",
    "क्\u200dष ক্\u200cষ",
    "Tiếng Việt (ệ)",
    "\U0001f468\u200d\U0001f469\u200d\U0001f467 \u2764\ufe0f\u200d\U0001f525",
    "\U0001f44d\U0001f3fd ✓ → € „“ …",
)
LONGEST_LINE, MOST_MARKS = 3000, 8
WRONG = {"Cc", "Cs", "Co", "Cn", "Zl", "Zp"}
UNSEEN = set("\u034f\u115f\u1160\u2800\u3164\uffa0")


def find_unprintable(text: str, *, newlines: str = "\n", longest: int = LONGEST_LINE) -> list[str]:
    """Return what is wrong with a text that was shown; nothing is if it is empty."""
    found = []
    marks = 0
    for place, character in enumerate(text):
        category = unicodedata.category(character)
        marks = marks + 1 if category in {"Mn", "Me"} else 0
        if character in newlines:
            continue
        is_joiner = character in "\u200c\u200d" and not text[place - 1].isascii()
        if (
            category in WRONG
            or character in UNSEEN
            or marks > 8
            or (category == "Cf" and not is_joiner)
        ):
            found.append(f"{character!a} in {text[max(0, place - 30) : place + 30]!a}")
    found += [f"{len(line)} characters" for line in text.split("\n") if len(line) > longest]
    return found[:5]
