# SPDX-License-Identifier: Apache-2.0
"""``perception demo``: the sample bag through DDS into a real node in its own process."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
from rich.markup import escape

from perception_node.cli.demo_report import ResultTable, is_good, print_summary, read_photos
from perception_node.cli.play import add_rate_argument, check_rate
from perception_node.errors import ConfigError
from perception_node.ros.required import require_ros
from perception_node.system.files import replace_file
from perception_node.system.resources import SAMPLE_BAG, SAMPLE_TOPICS, find_resource
from perception_node.terminal.console import make_console
from perception_node.wire.bags import open_bag

if TYPE_CHECKING:
    import argparse

    from perception_node.cli.demo_report import Photo
    from perception_node.ros.rehearsal import Rehearsal

EXAMPLE = "perception demo --transport raw --picture cat.png"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "--transport", choices=SAMPLE_TOPICS, default="compressed", help="which topic to play"
    )
    add_rate_argument(parser)
    parser.add_argument(
        "--picture", type=Path, default=Path("perception_demo.png"), help="annotated picture"
    )


def run(arguments: argparse.Namespace) -> int:
    """Play, watch, judge; return 1 if the frames of a photo did not get their labels."""
    check_rate(arguments.rate)
    sample = find_resource(SAMPLE_BAG)
    photos = read_photos(sample / "expected.json")
    require_ros()
    from perception_node.ros.domain import use_private_domain
    from perception_node.ros.rehearsal import Rehearsal

    use_private_domain()
    console = make_console()
    topic = SAMPLE_TOPICS[arguments.transport]
    with open_bag(sample) as bag, ResultTable(console) as table:
        rehearsal = Rehearsal(on_result=table.add)
        rehearsal.run(bag.messages([topic]), topic, arguments.rate, is_typed=True)
    print_summary(console, photos, rehearsal)
    if _save_picture(arguments.picture, photos[0], rehearsal):
        console.print(f"annotated picture: {escape(str(arguments.picture))}")
    return 0 if is_good(photos, rehearsal) else 1


def _save_picture(path: Path, photo: Photo, rehearsal: Rehearsal) -> bool:
    """Write the overlay of the photo's frame with the highest score, if there is one."""
    watched = rehearsal.pictures.keys() & rehearsal.results.keys()
    best = max(
        filter(photo.shows, watched),
        key=lambda stamp_ns: rehearsal.results[stamp_ns].score,
        default=None,
    )
    if best is None:
        return False
    try:
        done, content = cv2.imencode(path.suffix, rehearsal.pictures[best])
        path.parent.mkdir(parents=True, exist_ok=True)
        replace_file(path, content.tobytes())
    except (OSError, cv2.error) as error:
        reason = getattr(error, "strerror", None) or f"{path.suffix or 'no suffix'} is no format"
        msg = f"{path}: the picture cannot be written: {reason}; choose another with --picture"
        raise ConfigError(msg) from error
    return bool(done)
