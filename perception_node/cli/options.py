# SPDX-License-Identifier: Apache-2.0
"""Options that several verbs have: which model runs and how, and which images judge it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from perception_node.config.node_config import NodeConfig
from perception_node.config.sections import CameraConfig, ModelConfig, OutputConfig
from perception_node.errors import ConfigError
from perception_node.terminal.output import note, parse_count, parse_number

if TYPE_CHECKING:
    import argparse

    from perception_node.calibration.images import ImageSet
    from perception_node.model.bundle import ModelBundle

MODEL_PARAMETERS = (
    "model",
    "top_k",
    "threshold",
    "threads",
    "engine",
    "precision",
    "allow_ungated",
    "plan_store",
    "configure_timeout_s",
)
BAG_HELP = "folder of rosbag2, or a .mcap, .db3 or (ROS 1) .bag file"
CAMERA_PARAMETERS = ("max_image_pixels", "mono16_range", "mono32_range")
ENGINE_TIMEOUT_MS = 60_000  # files can wait longer than a robot's camera


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that every verb with a pipeline has; defaults are the node's."""
    default, output = ModelConfig(), OutputConfig()
    parser.add_argument("--model", default=default.model, help="model bundle: folder or name")
    parser.add_argument("--top-k", type=parse_count, default=output.top_k, metavar="K")
    parser.add_argument(
        "--threshold", type=parse_number, default=output.threshold, metavar="SCORE"
    )
    parser.add_argument("--threads", type=parse_count, default=default.threads, metavar="N")
    parser.add_argument(
        "--engine", default=default.engine, help="auto, tensorrt or onnxruntime (default: auto)"
    )
    parser.add_argument("--precision", default=default.precision, help="fp32, fp16 or int8")
    parser.add_argument(
        "--allow-ungated",
        action="store_true",
        help="run int8 even if perception evaluate has not found it accurate enough",
    )
    parser.add_argument(
        "--configure-timeout",
        dest="configure_timeout_s",
        type=parse_number,
        default=default.configure_timeout_s,
        metavar="S",
        help="give up a model that is not ready in so many seconds",
    )
    parser.add_argument("--plan-store", default=default.plan_store, metavar="DIR")


def add_size_argument(parser: argparse.ArgumentParser) -> None:
    """Add ``--max-image-pixels``."""
    default = CameraConfig().max_image_pixels
    parser.add_argument(
        "--max-image-pixels",
        type=parse_count,
        default=default,
        metavar="N",
        help=f"drop larger images before they are decoded (default {default})",
    )


def add_range_arguments(parser: argparse.ArgumentParser, *, floats: bool = False) -> None:
    """Add what makes bytes of 16-bit images, and of ``floats``; the defaults are the node's."""
    default = CameraConfig()
    parser.add_argument(
        "--mono16-range",
        default=default.mono16_range,
        metavar="full|auto|MIN,MAX",
        help="values of 16-bit images that are black and white (default: full, which is 0,65535)",
    )
    if floats:
        parser.add_argument(
            "--mono32-range",
            default=default.mono32_range,
            metavar="auto|MIN,MAX",
            help="the same of 32FC1 images, which are refused without it",
        )


def to_config(arguments: argparse.Namespace) -> NodeConfig:
    """Check the model arguments with the rules of the node's parameters."""
    values = {name: getattr(arguments, name) for name in MODEL_PARAMETERS}
    values |= {name: vars(arguments)[name] for name in CAMERA_PARAMETERS if name in arguments}
    return NodeConfig().with_values({**values, "engine_timeout_ms": ENGINE_TIMEOUT_MS})


def open_sample(
    bundle: ModelBundle, arguments: argparse.Namespace
) -> tuple[ImageSet, dict[str, int] | None]:
    """Open the images that --images or --bag names; return them, and their classes if known."""
    from perception_node.calibration.images import read_labels

    images = choose_images(bundle, arguments)
    if arguments.labels is None:
        return images, None
    output = bundle.manifest.output
    if output.is_multi_label:
        msg = f"{bundle.path}: an image may have several labels, which --labels cannot say here"
        raise ConfigError(f"{msg}; leave it out, and give it to perception evaluate")
    return images, read_labels(arguments.labels, images.names, output.classes)


def choose_images(bundle: ModelBundle, arguments: argparse.Namespace) -> ImageSet:
    """Open the images that --images or --bag names, as many as --samples says."""
    from perception_node.calibration.images import open_images
    from perception_node.vision.samples import SampleScaler
    from perception_node.wire.bags import open_bag

    cameras = CameraConfig(
        mono16_range=arguments.mono16_range, mono32_range=arguments.mono32_range
    )
    images = open_images(
        bundle,
        images=arguments.images,
        bag=arguments.bag,
        topic=arguments.topic,
        scaler=SampleScaler(cameras.mono16_range, cameras.mono32_range, note),
    )
    if arguments.bag is not None:
        with open_bag(arguments.bag) as bag:
            for remark in bag.remarks:
                note(remark)
    return images if arguments.samples is None else images.sample(arguments.samples)
