# SPDX-License-Identifier: Apache-2.0
"""How much a replay may differ from its golden file, field by field.

Written as one number (of the scores), or as ``score=0.02,top=1,stamp=ignore``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from perception_node.errors import ConfigError, quote

if TYPE_CHECKING:
    from collections.abc import Callable

DEFAULT_SCORE = 0.02
MOST_DIGITS = 9
EXACT, IGNORE, CLOSE = "exact", "ignore", "close"


@dataclass(frozen=True)
class Tolerance:
    """What counts as the same.

    Attributes:
        score: scores may differ by this, 0 to 1.
        order: ``close``: two classes may change places where their scores differ by no more than
            ``score``; ``exact``: every class must be in its place.
        top: only so many results of a frame are compared, the best first; 0 compares all.
        topic: ``exact`` or ``ignore``, as all that follow.
        time: when the frame was recorded.
        stamp: the header's stamp.
        frame_id: the header's coordinate frame.
        dropped: ``ignore`` does not compare a frame that one of the two has dropped.

    """

    score: float = DEFAULT_SCORE
    order: str = CLOSE
    top: int = 0
    topic: str = EXACT
    time: str = EXACT
    stamp: str = EXACT
    frame_id: str = EXACT
    dropped: str = EXACT

    @property
    def identity(self) -> tuple[str, ...]:
        """The fields of a record that must be equal."""
        keys = {"topic": "topic", "time": "time_ns", "stamp": "stamp_ns", "frame_id": "frame_id"}
        return tuple(key for name, key in keys.items() if getattr(self, name) == EXACT)

    def __str__(self) -> str:
        """Return it as ``--tolerance`` takes it, without what is the default."""
        changed = [
            f for f in fields(self) if f.name == "score" or getattr(self, f.name) != f.default
        ]
        return ",".join(f"{field.name}={getattr(self, field.name)}" for field in changed)


def parse_tolerance(text: str) -> Tolerance:
    """Read what ``--tolerance`` was given: a number, or ``field=value`` pairs with commas.

    Raises:
        ConfigError: a field is unknown, given twice, or has a value that it cannot have.

    """
    if "=" not in text:
        return Tolerance(score=_score(text))
    values: dict[str, float | str] = {}
    for pair in text.split(","):
        name, _, value = (part.strip() for part in pair.partition("="))
        if name not in PARSERS:
            msg = f"--tolerance: no field {quote(name)}; choose from: {', '.join(PARSERS)}"
            raise ConfigError(msg)
        if name in values:
            raise ConfigError(f"--tolerance: {name} is given twice")
        values[name] = PARSERS[name](value)
    return Tolerance(**values)  # type: ignore[arg-type]  # each parser returns its field's type


def _score(value: str) -> float:
    try:
        score = float(value)
    except ValueError:
        score = -1.0
    if not 0.0 <= score <= 1.0:  # NaN is not
        raise _wrong("score", "a number from 0 to 1", value)
    return score


def _top(value: str) -> int:
    is_short = value.isascii() and value.isdecimal() and len(value) <= MOST_DIGITS
    if not (is_short and int(value) > 0):
        raise _wrong("top", "a number from 1 on", value)
    return int(value)


def _choice(name: str, *allowed: str) -> Callable[[str], str]:
    def parse(value: str) -> str:
        if value not in allowed:
            raise _wrong(name, " or ".join(allowed), value)
        return value

    return parse


def _wrong(name: str, allowed: str, found: str) -> ConfigError:
    return ConfigError(f"--tolerance: {name} must be {allowed}, found {quote(found)}")


PARSERS: dict[str, Callable[[str], float | str]] = {
    "score": _score,
    "order": _choice("order", CLOSE, EXACT),
    "top": _top,
    **{
        name: _choice(name, EXACT, IGNORE)
        for name in ("topic", "time", "stamp", "frame_id", "dropped")
    },
}
