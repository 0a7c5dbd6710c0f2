# SPDX-License-Identifier: Apache-2.0
"""``perception replay``: a bag through the pipeline, without ROS; the same bytes every time."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.progress import track

from perception_node.bags import open_bag
from perception_node.cli.classify import add_model_arguments, to_config, to_records
from perception_node.errors import ConfigError, FrameError
from perception_node.files import read_regular_file, replace_file
from perception_node.golden import compare
from perception_node.process import use_one_opencv_thread
from perception_node.ros.images import COMPRESSED_TYPE, RAW_TYPE, ImageReader
from perception_node.selection import load_pipeline

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from perception_node.bags import Bag, BagMessage
    from perception_node.config import NodeConfig
    from perception_node.fallback import FallbackPipeline

EXAMPLE = "perception replay samples/photos --golden samples/photos/golden.jsonl"
TRANSPORTS = {RAW_TYPE: "raw", COMPRESSED_TYPE: "compressed"}
MAX_GOLDEN_BYTES = 1 << 30
MAX_DIFFERENCES_SHOWN = 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("bag", type=Path, help="rosbag2 folder, mcap or sqlite3")
    parser.add_argument(
        "--topic", action="append", metavar="T", help="image topic; all of them without it"
    )
    add_model_arguments(parser)
    parser.add_argument("--golden", type=Path, metavar="FILE", help="compare with this file")
    parser.add_argument(
        "--tolerance", type=float, default=0.02, help="scores may differ by this (default 0.02)"
    )
    parser.add_argument(
        "--update-golden", action="store_true", help="write the golden file instead"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print one JSON line per frame, or compare with a golden file and return 1 if it differs."""
    if arguments.update_golden and arguments.golden is None:
        msg = "--update-golden writes the file that --golden names; give both"
        raise ConfigError(msg)
    config = to_config(arguments)
    use_one_opencv_thread()
    with (
        open_bag(arguments.bag) as bag,
        load_pipeline(config) as pipeline,
    ):
        records = _replay(bag, arguments.topic, pipeline, config)
        if arguments.golden is None:
            for record in records:
                sys.stdout.write(_to_line(record))
            return 0
        found = list(_progress(records))
    if arguments.update_golden:
        return _update(arguments.golden, found)
    return _compare(arguments.golden, found, arguments.tolerance)


def _replay(
    bag: Bag, wanted: list[str] | None, pipeline: FallbackPipeline, config: NodeConfig
) -> Iterator[dict[str, Any]]:
    topics = bag.select(wanted, tuple(TRANSPORTS))
    readers = {
        kind: ImageReader(transport, config.max_image_pixels, pipeline.smallest_side)
        for kind, transport in TRANSPORTS.items()
    }
    for message in bag.messages(list(topics)):
        yield _classify(message, readers[message.type_name], pipeline, config)


def _classify(
    message: BagMessage,
    reader: ImageReader,
    pipeline: FallbackPipeline,
    config: NodeConfig,
) -> dict[str, Any]:
    record: dict[str, Any] = {"topic": message.topic, "time_ns": message.time_ns}
    try:
        frame = reader.read(message.data)
    except FrameError as error:
        return {**record, "dropped": error.kind, "why": str(error)}
    prediction = pipeline.run(frame, top_k=config.top_k, threshold=config.threshold)
    record.update(stamp_ns=frame.stamp_ns, frame_id=frame.frame_id)
    return {**record, "results": to_records(prediction.hypotheses)}


def _progress(records: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    console = Console(stderr=True)
    yield from track(
        records, "replaying", console=console, transient=True, disable=not console.is_terminal
    )


def _to_line(record: dict[str, Any]) -> str:
    return json.dumps(record) + "\n"


def _update(path: Path, found: list[dict[str, Any]]) -> int:
    try:
        replace_file(path, "".join(map(_to_line, found)).encode())
    except OSError as error:
        msg = f"{path}: cannot be written: {error.strerror}"
        raise ConfigError(msg) from error
    sys.stdout.write(f"{path}: {len(found)} frames written\n")
    return 0


def _compare(path: Path, found: list[dict[str, Any]], tolerance: float) -> int:
    differences = list(compare(_read_golden(path), found, tolerance))
    for line in differences[:MAX_DIFFERENCES_SHOWN]:
        sys.stdout.write(line + "\n")
    if differences:
        sys.stdout.write(f"{len(differences)} of {len(found)} frames differ from {path}\n")
        return 1
    sys.stdout.write(f"{len(found)} frames as in {path}\n")
    return 0


def _read_golden(path: Path) -> list[dict[str, Any]]:
    try:
        lines = read_regular_file(path, MAX_GOLDEN_BYTES).decode().splitlines()
        records = [json.loads(line) for line in lines]
    except (OSError, ValueError, RecursionError) as error:
        msg = f"{path}: no golden file: {error}; make it with --update-golden"
        raise ConfigError(msg) from error
    for number, record in enumerate(records, start=1):
        if not _is_record(record):
            msg = f"{path}: no golden file: line {number} is not what replay writes"
            raise ConfigError(msg)
    return records


def _is_record(value: object) -> bool:
    """Tell whether a line of a golden file has the fields that the comparison reads."""
    results = value.get("results", []) if isinstance(value, dict) else None
    return isinstance(results, list) and all(
        isinstance(result, dict)
        and isinstance(result.get("class_id"), str)
        and isinstance(result.get("label"), str)
        and isinstance(result.get("score"), (int, float))
        for result in results
    )
