# SPDX-License-Identifier: Apache-2.0
"""``perception replay``: a bag through the pipeline or real nodes; the same bytes every time."""

from __future__ import annotations

from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from perception_node.cli.options import (
    BAG_HELP,
    add_model_arguments,
    add_range_arguments,
    add_size_argument,
    to_config,
)
from perception_node.cli.play import check_rate
from perception_node.cli.replay_frames import replay_bag, replay_bag_live
from perception_node.errors import ConfigError
from perception_node.model.bundle import load_bundle
from perception_node.replay.golden_file import read_golden, write_golden
from perception_node.replay.tally import Tally, find_empty
from perception_node.replay.tolerance import DEFAULT_SCORE, parse_tolerance
from perception_node.replay.verdict import judge
from perception_node.ros.result_bag import open_result_bag, require_place
from perception_node.system.files import write_named_file
from perception_node.system.resources import DEFAULT_MODEL, find_model
from perception_node.terminal.output import complain, note, parse_number, say, say_record
from perception_node.terminal.progress import track
from perception_node.wire.bags import open_bag
from perception_node.wire.images import TRANSPORTS

if TYPE_CHECKING:
    import argparse

    from perception_node.config.node_config import NodeConfig
    from perception_node.replay.golden import Record
    from perception_node.replay.verdict import Verdict
    from perception_node.wire.bags import Bag

EXAMPLE = "perception replay samples/photos --golden samples/photos/golden.jsonl --report report"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("bag", type=Path, help=BAG_HELP)
    parser.add_argument(
        "--topic", action="append", metavar="T", help="image topic; all of them without it"
    )
    add_model_arguments(parser)
    add_size_argument(parser)
    add_range_arguments(parser, floats=True)
    parser.add_argument(
        "--live", action="store_true", help="through real nodes over DDS, one frame at a time"
    )
    parser.add_argument(
        "--rate", type=parse_number, help="with --live: at most so many times the recorded speed"
    )
    parser.add_argument(
        "--out",
        type=Path,
        metavar="BAG",
        help="write images and classifications: FILE.mcap, or a new folder",
    )
    _add_comparison_arguments(parser)


def _add_comparison_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--golden", type=Path, metavar="FILE", help="compare with this file")
    parser.add_argument(
        "--tolerance",
        default=str(DEFAULT_SCORE),
        help="of the scores (default 0.02), or per field: score=0.02,order=close|exact,top=K, and "
        "topic, time, stamp, frame_id, dropped = exact|ignore",
    )
    parser.add_argument(
        "--update-golden", action="store_true", help="write the golden file instead"
    )
    parser.add_argument(
        "--report", type=Path, metavar="PLACE", help="show what changed: FILE.html, or a folder"
    )
    parser.add_argument("--junit", type=Path, metavar="FILE", help="the verdict as JUnit XML")


def run(arguments: argparse.Namespace) -> int:
    """Print one JSON line per frame, or compare with a golden file and return 1 if it differs.

    Where there is no image, or every one is dropped, nothing is written, and 1 returned.
    """
    tolerance = parse_tolerance(arguments.tolerance)
    _check(arguments)
    config = to_config(arguments)
    is_compared = arguments.golden is not None and not arguments.update_golden
    golden = read_golden(arguments.golden) if is_compared else []
    with open_bag(arguments.bag) as bag:
        topics = bag.select(arguments.topic, tuple(TRANSPORTS))
        for remark in bag.remarks:
            note(f"{arguments.bag}: {remark}")
        tally, found = Tally(), []
        problem = find_empty(bag, topics, arguments.topic)
        if not problem:
            found = _replay(arguments, bag, topics, config, tally)
            problem = tally.problem
        if problem:
            complain(f"{arguments.bag}: {problem}")
            return 1
        if arguments.out is not None:
            _write_bag(arguments.out, bag, topics, found, config)
        if is_compared:
            verdict = judge(arguments.golden, golden, found, tolerance)
            return _conclude(arguments, bag, topics, verdict, config)
    if arguments.update_golden:
        write_golden(arguments.golden, found)
        say(f"{arguments.golden}: {len(found)} frames written")
    return 0


def _conclude(
    arguments: argparse.Namespace,
    bag: Bag,
    topics: dict[str, str],
    verdict: Verdict,
    config: NodeConfig,
) -> int:
    """Show a verdict in all ways that were asked for; return the exit code."""
    for line in verdict.lines():
        say(line)
    if arguments.report is not None:
        _write_report(arguments, bag, topics, verdict, config)
    if arguments.junit is not None:
        from perception_node.replay.junit import to_junit

        write_named_file(arguments.junit, to_junit(str(arguments.bag), verdict))
    return 1 if verdict.differences else 0


def _check(arguments: argparse.Namespace) -> None:
    """Refuse what cannot be done, before a long replay.

    Raises:
        ConfigError: arguments contradict each other, or there is no place for a file.

    """
    problem = ""
    has_verdict = arguments.report is not None or arguments.junit is not None
    if arguments.update_golden and arguments.golden is None:
        problem = "--update-golden writes the file that --golden names; give both"
    elif has_verdict and (arguments.golden is None or arguments.update_golden):
        problem = "--report and --junit need something to compare with; give --golden FILE"
    elif arguments.rate is not None and not arguments.live:
        problem = "--rate sets the pace of --live; give both"
    if problem:
        raise ConfigError(problem)
    _check_places(arguments)
    if arguments.rate is not None:
        check_rate(arguments.rate)
    for package, place in (("junitparser", arguments.junit), ("jinja2", arguments.report)):
        if place is not None:
            import_module(package)


def _check_places(arguments: argparse.Namespace) -> None:
    golden = arguments.golden if arguments.update_golden else None
    out = arguments.out
    for path in filter(None, (arguments.report, arguments.junit, out, golden)):
        if not path.parent.is_dir():
            msg = f"{path}: cannot be written: the folder {path.parent} does not exist"
            raise ConfigError(msg)
    if out is not None:
        require_place(out)
        if _is_of(arguments.bag, out):
            raise ConfigError(f"{out}: is the bag that is replayed; give another name")


def _is_of(bag: Path, file: Path) -> bool:
    """Return whether a file is a bag, or a part of it."""
    return bag.resolve() in (file.resolve(), file.resolve().parent)


def _replay(
    arguments: argparse.Namespace,
    bag: Bag,
    topics: dict[str, str],
    config: NodeConfig,
    tally: Tally,
) -> list[Record]:
    """Return the records; where they are only printed, none are kept."""
    if arguments.live:
        records = replay_bag_live(bag, topics, config, arguments.rate)
    else:
        records = replay_bag(bag, topics, config)
    with closing(records):
        counted = tally.count(records)
        if arguments.golden is not None:
            return list(track(counted, "replaying", bag.count(list(topics))))
        found = []
        for record in counted:
            say_record(record)
            if arguments.out is not None:
                found.append(record)
        return found


def _write_bag(
    path: Path, bag: Bag, topics: dict[str, str], found: list[Record], config: NodeConfig
) -> None:
    labels = load_bundle(find_model(config.model.model)).labels
    messages = bag.messages(list(topics))
    with open_result_bag(path, topics, labels) as results:
        for message, record in zip(messages, found, strict=True):
            results.write(message, record)


def _write_report(
    arguments: argparse.Namespace,
    bag: Bag,
    topics: dict[str, str],
    verdict: Verdict,
    config: NodeConfig,
) -> None:
    from perception_node.replay.report import report_bag

    facts = {
        "bag": str(arguments.bag),
        "model": config.model.model or DEFAULT_MODEL,
        "replayed": "through real nodes over DDS" if arguments.live else "through the pipeline",
    }
    max_pixels = config.cameras.max_image_pixels
    file = report_bag(arguments.report, bag, topics, verdict, facts, max_pixels)
    say(f"report: {file}")
