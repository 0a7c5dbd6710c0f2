# SPDX-License-Identifier: Apache-2.0
"""From the arguments of ``perception bench`` to what is measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from perception_node.cli.options import MODEL_PARAMETERS
from perception_node.config.node_config import NodeConfig
from perception_node.config.sections import MAX_DEADLINE_MS
from perception_node.errors import ConfigError
from perception_node.terminal.output import parse_count, parse_number

if TYPE_CHECKING:
    import argparse

    from perception_node.bench.camera.load import Load
    from perception_node.bench.levels.benchmark import BenchmarkPlan
    from perception_node.config.parameter import Value

LEVELS = ("engine", "pipeline", "node", "startup")
DECODED = {"true": True, "false": False}


def add_load_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments that say what is played."""
    parser.add_argument(
        "--size", action="append", metavar="WxH", help="default 640x480; may be repeated"
    )
    parser.add_argument("--rate", type=parse_number, default=30.0, metavar="HZ", help="per camera")
    parser.add_argument(
        "--frames", type=parse_count, default=1000, metavar="N", help="of each run"
    )
    parser.add_argument(
        "--warm-up", type=parse_count, default=30, metavar="N", help="frames before them"
    )
    parser.add_argument("--encoding", help="of raw images (default bgr8)")
    parser.add_argument("--transport", choices=("raw", "compressed"), default="raw")
    parser.add_argument("--cameras", type=parse_count, default=1, metavar="N", help="1 to 8")
    parser.add_argument("--bag", type=Path, help="play a bag's images, at --rate")
    parser.add_argument("--topic", default="", help="of the bag; its first image topic without it")
    parser.add_argument("--images", type=Path, metavar="DIR", help="play the images of a folder")


def make_plan(arguments: argparse.Namespace) -> BenchmarkPlan:
    """Return the plan.

    Raises:
        ConfigError: an argument makes no sense.

    """
    from perception_node.bench.levels.benchmark import BenchmarkPlan

    if arguments.runs < 1:
        raise ConfigError(f"--runs must be 1 or more, found {arguments.runs}")
    if not 1.0 <= arguments.deadline_ms <= MAX_DEADLINE_MS:
        raise ConfigError(
            f"--deadline-ms must be 1 to {MAX_DEADLINE_MS}, found {arguments.deadline_ms:g}"
        )
    _refuse_without_effect(arguments)
    levels = tuple(level for level in LEVELS if level in arguments.what)
    loads = tuple(_make_loads(arguments))
    if "naive" in arguments.baseline:
        _require_naive_encoding(loads[0])
    return BenchmarkPlan(
        levels=levels,
        loads=loads,
        runs=arguments.runs,
        deadline_ms=arguments.deadline_ms,
        parameters=_read_parameters(arguments),
        baselines=tuple(dict.fromkeys(arguments.baseline)),
        is_sweep=arguments.sweep,
    )


def _refuse_without_effect(arguments: argparse.Namespace) -> None:
    """Refuse what would do nothing: who gives it believes that it counts."""
    options = {"--baseline": arguments.baseline, "--sweep": arguments.sweep}
    for option, is_given in options.items():
        if is_given and "node" not in arguments.what:
            raise ConfigError(f"{option} is of the level node, which is not measured; add node")
    if arguments.sweep and arguments.baseline:
        raise ConfigError("--sweep measures the node alone; leave out --baseline")
    if arguments.baseline and arguments.cameras > 1:
        raise ConfigError(f"--cameras: --baseline takes 1, found {arguments.cameras}")
    if arguments.bag is not None and (arguments.size or arguments.encoding):
        raise ConfigError("--bag plays its images as they are; leave out --size and --encoding")
    if arguments.transport == "compressed" and arguments.encoding:
        raise ConfigError("--encoding is of raw images; leave it out with --transport compressed")


def _require_naive_encoding(load: Load) -> None:
    from perception_node.bench.baselines.naive import TO_RGB

    if load.transport == "raw" and load.encoding not in TO_RGB:
        allowed = ", ".join(TO_RGB)
        raise ConfigError(f"--baseline naive cannot read {load.encoding}; it reads: {allowed}")


def _make_loads(arguments: argparse.Namespace) -> list[Load]:
    from perception_node.bench.camera.load import Load, parse_size

    sizes = [parse_size(text) for text in dict.fromkeys(arguments.size or ["640x480"])]
    return [
        Load(
            rate_hz=arguments.rate,
            frames=arguments.frames,
            warm_up_frames=arguments.warm_up,
            width=width,
            height=height,
            encoding=arguments.encoding or "bgr8",
            transport=arguments.transport,
            cameras=arguments.cameras,
            bag=arguments.bag,
            topic=arguments.topic,
            images=arguments.images,
        )
        for width, height in sizes
    ]


def _read_parameters(arguments: argparse.Namespace) -> dict[str, Value]:
    """Return what is asked for or no default of the node's, checked with the node's own rules."""
    defaults = NodeConfig().values()
    given: dict[str, Any] = {name: getattr(arguments, name) for name in MODEL_PARAMETERS}
    named: dict[str, object] = {}
    for text in arguments.parameter:
        name, separator, value = text.partition("=")
        if not separator or name not in defaults:
            known = ", ".join(defaults)
            raise ConfigError(f"--parameter {text}: not NAME=VALUE of a parameter: {known}")
        named[name] = _convert(name, value, defaults[name])
    NodeConfig().with_values({**given, **named})
    return {name: value for name, value in given.items() if value != defaults[name]} | named


def _convert(name: str, text: str, default: Value) -> object:
    """Return a value of the type that the parameter has."""
    if name == "image_transport":
        raise ConfigError("--parameter image_transport is set by --transport only")
    if isinstance(default, bool):
        return DECODED.get(text, text)
    if isinstance(default, tuple):
        raise ConfigError(f"--parameter {name}: lists are set by --cameras only")
    try:
        return type(default)(text)
    except ValueError as error:
        kind = type(default).__name__
        raise ConfigError(f"--parameter {name} must be of type {kind}, found {text}") from error
