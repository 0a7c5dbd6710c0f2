# SPDX-License-Identifier: Apache-2.0
"""``perception calibrate``: images become int8 and FP16 models in the bundle."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np

from perception_node.calibration.calibrate import Wanted, calibrate
from perception_node.calibration.judging import Limits
from perception_node.calibration.mixed_precision import (
    calibrate_mixed,
    model_latencies_ms,
    parse_keep,
)
from perception_node.cli.int8_report import describe_share, warn_of_little
from perception_node.cli.options import BAG_HELP, add_range_arguments, open_sample
from perception_node.errors import ConfigError
from perception_node.model.bundle import INT8_ON_CPU, add_files, load_bundle
from perception_node.system.process import use_one_opencv_thread
from perception_node.system.resources import find_model
from perception_node.terminal.console import print_rows
from perception_node.terminal.output import parse_count, say, say_record
from perception_node.terminal.progress import show_phases

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from perception_node.calibration.calibrate import Calibration
    from perception_node.calibration.images import ImageSet
    from perception_node.calibration.mixed_precision import Mixed
    from perception_node.model.bundle import ModelBundle

EXAMPLE = "perception calibrate my_bundle --images photos/ --samples 500"
SAMPLES = 500
SHOWN = 10  # layers


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("bundle", help="model bundle that gets the files: folder or name")
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--images",
        type=Path,
        metavar="DIR|LIST",
        help="folder of JPEG and PNG files, or text file with one path per line",
    )
    source.add_argument("--bag", type=Path, help=BAG_HELP)
    parser.add_argument("--topic", metavar="T", help="image topic of the bag")
    add_range_arguments(parser, floats=True)
    parser.add_argument(
        "--samples",
        type=parse_count,
        default=SAMPLES,
        metavar="N",
        help=f"use N images, evenly spaced (default {SAMPLES})",
    )
    parser.add_argument(
        "--method",
        choices=get_args(Wanted),
        default="auto",
        help="how activation ranges are chosen; auto tries all on held-out images (default)",
    )
    parser.add_argument(
        "--labels", type=Path, metavar="CSV", help="file,class_index: right labels decide too"
    )
    parser.add_argument(
        "--keep-float",
        metavar="N|auto",
        help="leave the N layers that int8 hurts most in float; auto: as few as the "
        "accuracy gate's agreement takes",
    )
    parser.add_argument(
        "--requantize",
        action="store_true",
        help="take the quantisers off a model that came as int8, and measure other scales",
    )
    parser.add_argument("--json", action="store_true", help="JSON, for machines")


def run(arguments: argparse.Namespace) -> int:
    """Calibrate and put the files into the bundle, all or none; errors are raised."""
    use_one_opencv_thread()
    bundle = load_bundle(find_model(arguments.bundle))
    if not os.access(bundle.path, os.W_OK):  # said now, not after minutes
        msg = f"{bundle.path}: cannot be written; copy the bundle to a folder of your own"
        raise ConfigError(msg)
    _check_is_float(bundle, requantize=arguments.requantize)
    images, labels = open_sample(bundle, arguments)
    keep = None if arguments.keep_float is None else parse_keep(arguments.keep_float)
    mixed = None
    with show_phases() as report:
        if keep is None:
            calibration = calibrate(bundle, images, arguments.method, labels=labels, report=report)
        else:
            mixed = calibrate_mixed(
                bundle,
                images,
                arguments.method,
                keep,
                min_agreement=Limits().min_agreement,
                labels=labels,
                report=report,
            )
            calibration = mixed.calibration
    latencies = _latencies_ms(bundle, calibration)
    add_files(bundle, calibration.files)
    if arguments.json:
        record = _to_record(calibration) | (_mixed_record(mixed) if mixed else {})
        say_record(record | {"cpu_latency_ms": latencies})
    else:
        if mixed:
            _show_mixed(mixed)
        _print(bundle.path, calibration, images)
        _show_speed(calibration, latencies)
        say(f"now measure it: perception evaluate {bundle.path} --images OTHER_IMAGES")
    warn_of_little(calibration.int8_share)
    return 0


def _latencies_ms(bundle: ModelBundle, calibration: Calibration) -> dict[str, float]:
    """Return the latency of float32 and int8 on one thread of this CPU."""
    size = bundle.manifest.input
    values = np.zeros((1, 3, size.height, size.width), np.float32)
    models = {"float32": bundle.read(), "int8": calibration.files[INT8_ON_CPU]}
    return {name: round(ms, 3) for name, ms in model_latencies_ms(models, values).items()}


def _show_speed(calibration: Calibration, latencies: Mapping[str, float]) -> None:
    for name, share in calibration.int8_share.items():
        say(f"{name}: int8 does {describe_share(share)}")
    before, after = latencies["float32"], latencies["int8"]
    verdict = "" if after < before else "; int8 is not worth it on this CPU"
    say(f"CPU, one thread: float32 {before:.2f} ms, int8 {after:.2f} ms{verdict}")


def _check_is_float(bundle: ModelBundle, *, requantize: bool) -> None:
    """Refuse to quantise what is quantised already, unless it is asked for."""
    is_quantized = bundle.manifest.quantization is not None
    if is_quantized and not requantize:
        msg = f"{bundle.path}: its model came as int8; calibrate the bundle of its float model"
        raise ConfigError(f"{msg}, or give --requantize to quantise this one with the images")
    if requantize and not is_quantized:
        raise ConfigError(f"{bundle.path}: its model is a float one; leave out --requantize")


def _to_record(calibration: Calibration) -> dict[str, object]:
    return {
        "method": calibration.method,
        "images": calibration.used,
        "held_out": calibration.held_out,
        "skipped": dict(calibration.skipped),
        "trials": [asdict(trial) for trial in calibration.trials],
        "files": sorted(calibration.files),
        "int8_share": calibration.int8_share,
    }


def _print(path: Path, calibration: Calibration, images: ImageSet) -> None:
    rows = [("method", "same label", "difference", "top-1", "")]
    for trial in sorted(calibration.trials, key=lambda trial: trial.merit, reverse=True):
        top_1 = "" if trial.top_1 is None else f"{trial.top_1:.1%}"
        chosen = "taken" if trial.method == calibration.method else ""
        rows.append(
            (trial.method, f"{trial.agreement:.1%}", f"{trial.difference:.2%}", top_1, chosen)
        )
    print_rows(rows)
    skipped = images.why_skipped()
    say(
        f"{calibration.used} images gave the ranges, {calibration.held_out} others judged"
        f"{'; ' + skipped if skipped else ''}"
    )
    say(f"{path}: {', '.join(sorted(calibration.files))}")


def _show_mixed(mixed: Mixed) -> None:
    """Print the worst layers and those in float, and what these bring and cost."""
    kept = mixed.kept
    rows = [("alone in int8", "output error", "label flips", "")]
    for each in mixed.ranking[: max(SHOWN, len(kept.convolutions))]:
        mark = "float" if each.convolution in kept.convolutions else "int8"
        flips = f"{each.flips} of {each.images}"
        rows.append((each.convolution, f"{each.error:.4%}", flips, mark))
    print_rows(rows)
    say(
        f"{len(kept.convolutions)} of {len(mixed.ranking)} layers stay in float: "
        f"same label {kept.agreement_without:.1%} -> {kept.agreement:.1%}, "
        f"CPU {kept.latency_without_ms:.2f} -> {kept.latency_ms:.2f} ms "
        f"(float32 {kept.latency_float32_ms:.2f} ms)"
    )
    say("")


def _mixed_record(mixed: Mixed) -> dict[str, object]:
    return {
        "kept_float": asdict(mixed.kept),
        "sensitivity": [asdict(each) for each in mixed.ranking],
    }
