# SPDX-License-Identifier: Apache-2.0
"""The page that shows which frames of a replay changed: picture, expected and found results."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perception_node import __version__
from perception_node.errors import ConfigError
from perception_node.html_page import render, to_page
from perception_node.replay.golden import HEADER, KINDS
from perception_node.replay.pictures import MAX_IMAGE_PIXELS, read_pictures
from perception_node.system.files import replace_file

if TYPE_CHECKING:
    from perception_node.replay.golden import Difference, Record
    from perception_node.replay.verdict import Verdict
    from perception_node.wire.bags import Bag

TEMPLATE = Path(__file__).with_name("page.html.j2")
MAX_SHOWN = 100
PAGE_WIDTH = 1000  # units of the drawing that shows where the changed frames are
HEADER_KEYS = ("topic", "time_ns", "stamp_ns", "frame_id")
INDEX, SUFFIX = "index.html", ".html"


def report_bag(
    place: Path,
    bag: Bag,
    topics: dict[str, str],
    verdict: Verdict,
    facts: dict[str, str],
    max_pixels: int = MAX_IMAGE_PIXELS,
) -> Path:
    """Write the page of a replay of some topics of a bag; see ``write_report`` for its place.

    Args:
        place: file or folder.
        bag: what was replayed.
        topics: its image topics that were, and their types.
        verdict: what came out.
        facts: what else the page says, by name.
        max_pixels: of larger images no picture is shown.

    """
    numbers = {difference.number for difference in verdict.differences[:MAX_SHOWN]}
    pictures = read_pictures(bag.messages(list(topics)), numbers, max_pixels)
    return write_report(place, render_report(verdict, facts, pictures))


def render_report(verdict: Verdict, facts: dict[str, str], pictures: dict[int, str]) -> str:
    """Return the page as HTML; ``pictures`` are data URIs by the number of the frame."""
    frames, differences = verdict.frames, verdict.differences
    total = len(differences)
    counts = Counter(difference.kind for difference in differences)
    width = PAGE_WIDTH / max(1, frames)
    known = {"golden file": str(verdict.golden), "tolerance": str(verdict.tolerance)}
    facts = {**facts, **known, "made by": f"perception_node {__version__}"}
    word = f"{total} of {frames} frames differ" if total else f"{frames} frames as expected"
    body = render(
        TEMPLATE,
        verdict=word,
        facts=list(facts.items()),
        frames=frames,
        total=total,
        counts=[(kind, counts[kind]) for kind in KINDS if counts[kind]],
        marks=sorted({round(width * (d.number - 1)) for d in differences}),
        mark_width=max(2, round(width)),
        shown=[_to_article(d, pictures.get(d.number, "")) for d in differences[:MAX_SHOWN]],
    )
    return to_page(f"{word}: {next(iter(facts.values()))}", body)


def write_report(path: Path, page: str) -> Path:
    """Write the page to a file named ``.html``, or as ``index.html`` into a folder.

    Returns the file.

    Raises:
        ConfigError: it cannot be written.

    """
    file = path if path.suffix == SUFFIX else path / INDEX
    try:
        file.parent.mkdir(exist_ok=True)
        replace_file(file, page.encode(errors="replace"))
    except OSError as error:
        raise ConfigError(f"{file}: the report cannot be written: {error.strerror}") from error
    return file


def _to_article(difference: Difference, picture: str) -> dict[str, Any]:
    sides = {"expected": difference.expected, "found": difference.found}
    known = {_appearance(result) for result in (difference.expected or {}).get("results", [])}
    return {
        "number": difference.number,
        "kind": difference.kind,
        "topic": difference.topic,
        "picture": picture,
        "sides": [_to_side(name, record, difference, known) for name, record in sides.items()],
    }


def _to_side(
    name: str, record: Record | None, difference: Difference, known: set[tuple[str, str]]
) -> dict[str, Any]:
    results = [
        {
            "label": result["label"],
            "score": f"{result['score']:.4f}",
            "percent": f"{100 * min(max(result['score'], 0.0), 1.0):.1f}",
            "is_new": _appearance(result) not in known,
        }
        for result in (record or {}).get("results", [])
    ]
    return {"name": name, "note": _to_note(record, difference), "results": results}


def _appearance(result: Record) -> tuple[str, str]:
    return result["label"], f"{result['score']:.4f}"


def _to_note(record: Record | None, difference: Difference) -> str:
    """Return what is to be said besides the results, which may be nothing."""
    if record is None:
        return "no such frame"
    if "dropped" in record:
        return f"dropped ({record['dropped']}): {record.get('why', '')}"
    if difference.kind == HEADER:
        known, found = difference.expected or {}, difference.found or {}
        names = [name for name in HEADER_KEYS if known.get(name) != found.get(name)]
        return ", ".join(f"{name} {record.get(name)}" for name in names)
    return "" if record.get("results") else "no result"
