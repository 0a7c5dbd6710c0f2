# SPDX-License-Identifier: Apache-2.0
"""``perception classify``: images in, labels out, through the node's own pipeline."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from perception_node.cli.options import (
    add_model_arguments,
    add_range_arguments,
    add_size_argument,
    to_config,
)
from perception_node.engines.selection import load_in_time
from perception_node.errors import ConfigError, FrameError
from perception_node.system.files import read_regular_file
from perception_node.system.process import use_one_opencv_thread
from perception_node.terminal.output import complain, note, say, say_record
from perception_node.terminal.progress import track
from perception_node.vision.decode import IMAGE_SUFFIXES, Decoder
from perception_node.vision.frame import Frame
from perception_node.vision.samples import SampleScaler

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator

    from perception_node.config.node_config import NodeConfig
    from perception_node.engines.fallback import FallbackPipeline
    from perception_node.vision.postprocess import Hypothesis

EXAMPLE = "perception classify photos/ cat.jpg --top-k 3 --json"
MAX_FILE_BYTES = 256 << 20


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "images", nargs="+", type=Path, help="JPEG, PNG, WebP or TIFF files, or folders of them"
    )
    add_model_arguments(parser)
    add_size_argument(parser)
    add_range_arguments(parser)
    parser.add_argument("--json", action="store_true", help="one line of JSON per image")


def run(arguments: argparse.Namespace) -> int:
    """Classify every image; return 2 if one of them could not be read, after all the others."""
    config = to_config(arguments)
    files = list(_find_images(arguments.images))
    use_one_opencv_thread()
    failures = 0
    with load_in_time(config.model) as pipeline:
        scaler = SampleScaler(config.cameras.mono16_range, warn=note)
        decoder = Decoder(config.cameras.max_image_pixels, pipeline.smallest_side, scaler=scaler)
        for file in _progress(files):
            scaler.forget()  # what range the file before it had
            try:
                hypotheses = _classify(file, decoder, pipeline, config)
            except (FrameError, OSError) as error:
                failures += 1
                complain(f"{file}: {error}")
            else:
                _print(file, hypotheses, as_json=arguments.json)
    return 2 if failures else 0


def to_records(hypotheses: tuple[Hypothesis, ...]) -> list[dict[str, object]]:
    """Return hypotheses as JSON for machines; six digits survive another CPU's rounding."""
    return [
        {"class_id": str(h.class_id), "label": h.label, "score": round(h.score, 6)}
        for h in hypotheses
    ]


def _find_images(paths: list[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            found = sorted(
                file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES
            )
            if not found:
                msg = f"{path}: the folder holds no {', '.join(sorted(IMAGE_SUFFIXES))} file"
                raise ConfigError(msg)
            yield from found
        elif path.exists():
            yield path
        else:
            raise ConfigError(f"{path}: no such file")


def _classify(
    file: Path, decoder: Decoder, pipeline: FallbackPipeline, config: NodeConfig
) -> tuple[Hypothesis, ...]:
    pixels = decoder.decode(read_regular_file(file, MAX_FILE_BYTES))
    frame = Frame.from_bgr(pixels)
    return pipeline.run(
        frame, top_k=config.output.top_k, threshold=config.output.threshold
    ).hypotheses


def _progress(files: list[Path]) -> Iterable[Path]:
    """Show a bar on stderr where the results go elsewhere; on a terminal they show progress."""
    if len(files) == 1 or sys.stdout.isatty():
        return files
    return track(files, "classifying", len(files))


def _print(file: Path, hypotheses: tuple[Hypothesis, ...], *, as_json: bool) -> None:
    if as_json:
        say_record({"file": str(file), "results": to_records(hypotheses)})
        return
    say(file)
    for h in hypotheses:
        say(f"  {h.score:7.2%}  {h.label} ({h.class_id})")
