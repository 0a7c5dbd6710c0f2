# SPDX-License-Identifier: Apache-2.0
"""``perception bench``: how long an image takes, from a camera's publish call to its labels."""

from __future__ import annotations

import sys
from dataclasses import fields
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape

from perception_node.cli.classify import add_model_arguments
from perception_node.config import NodeConfig
from perception_node.errors import ConfigError
from perception_node.files import replace_file

if TYPE_CHECKING:
    import argparse

    from rich.console import Console

    from perception_node.bench.camera.load import Load
    from perception_node.bench.levels.session import Plan
    from perception_node.bench.reporting.measurement import Report
    from perception_node.parameter import Value

EXAMPLE = "perception bench node --size 1280x720 --baseline naive --out report"
LEVELS = ("engine", "pipeline", "node", "startup")
TASKS = ("compare", "report")
MODEL_PARAMETERS = (
    "model",
    "top_k",
    "threshold",
    "threads",
    "engine",
    "precision",
    "allow_ungated",
    "plan_store",
)
DECODED = {"true": True, "false": False}
EXIT_INTERRUPTED = 130


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "what",
        nargs="*",
        default=["node"],
        metavar="LEVEL",
        help="engine (bare inference), pipeline, node (default), startup, or several of them; or "
        "compare A.json B.json; or report A.json..., which merges and draws again",
    )
    _add_load_arguments(parser)
    parser.add_argument("--runs", type=int, default=1, help="turns of each subject (default 1)")
    parser.add_argument("--deadline-ms", type=float, default=100.0, metavar="MS")
    parser.add_argument(
        "--baseline",
        action="append",
        default=[],
        choices=("naive", "floor"),
        help="takes turns with the node: the node that people write, or transport alone",
    )
    parser.add_argument("--sweep", action="store_true", help="find the highest rate kept up with")
    parser.add_argument("--out", type=Path, metavar="NAME", help="write NAME.json, .md and .png")
    parser.add_argument(
        "--max-regression", default="5%", metavar="SHARE", help="for compare (default 5%%)"
    )
    parser.add_argument(
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="a parameter of the node, such as executor=events; may be repeated",
    )
    add_model_arguments(parser)


def _add_load_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--size", action="append", metavar="WxH", help="default 640x480; may be repeated"
    )
    parser.add_argument("--rate", type=float, default=30.0, metavar="HZ", help="per camera")
    parser.add_argument("--frames", type=int, default=1000, metavar="N", help="of each run")
    parser.add_argument("--warm-up", type=int, default=30, metavar="N", help="frames before them")
    parser.add_argument("--encoding", default="bgr8", help="of raw images (default bgr8)")
    parser.add_argument("--transport", choices=("raw", "compressed"), default="raw")
    parser.add_argument("--cameras", type=int, default=1, metavar="N", help="1 to 8")
    parser.add_argument("--bag", type=Path, help="play a bag's images, at --rate")
    parser.add_argument("--topic", default="", help="of the bag; its first image topic without it")
    parser.add_argument("--images", type=Path, metavar="DIR", help="play the images of a folder")


def run(arguments: argparse.Namespace) -> int:
    """Measure, or compare, or draw again; return 1 if a comparison found a regression."""
    from rich.console import Console  # noqa: PLC0415 - what follows is slow to import

    console = Console()
    task, *files = arguments.what
    if task == "compare":
        return _compare(console, files, arguments.max_regression)
    if task == "report":
        return _report(console, files, arguments.out)
    unknown = [level for level in arguments.what if level not in LEVELS]
    if unknown:
        allowed = ", ".join((*LEVELS, *TASKS))
        raise ConfigError(f"no such level: {unknown[0]}; choose from: {allowed}")
    return _measure(console, _make_plan(arguments), arguments.out)


def _measure(console: Console, plan: Plan, out: Path | None) -> int:
    from perception_node.bench.levels.engine_level import describe_model  # noqa: PLC0415
    from perception_node.bench.levels.session import Session  # noqa: PLC0415
    from perception_node.bench.machine import find_warnings, read_machine  # noqa: PLC0415
    from perception_node.bench.noise import measure_noise  # noqa: PLC0415
    from perception_node.bench.reporting.live_table import LiveTable, print_report  # noqa: PLC0415
    from perception_node.bench.reporting.measurement import Report  # noqa: PLC0415
    from perception_node.ros.required import require_ros  # noqa: PLC0415

    require_ros()
    _require_writable(out)
    machine, noise = read_machine(), measure_noise()
    console.print(noise.describe(), highlight=False)
    report = Report(
        command=[Path(word).name for word in sys.argv[2:]],  # a path is nobody's business
        started_utc=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        deadline_ms=plan.deadline_ms,
        model=describe_model(plan.parameters),
        machine={**machine, "noise": noise._asdict()},
        warnings=find_warnings(machine),
    )
    for warning in report.warnings:
        console.print(f"[yellow]warning:[/] {escape(warning)}", highlight=False, soft_wrap=True)
    exit_code = 0
    try:
        with LiveTable(console, plan.total_runs) as table:
            Session(plan, report, table).run()
    except KeyboardInterrupt:
        exit_code = EXIT_INTERRUPTED
    finally:  # also after an error: hours may lie before it
        report.warnings = find_warnings(machine, read_machine())
        report.cases = [case for case in report.cases if case.runs]
        if report.cases:
            print_report(console, report)
            _write(console, report, out)
    return exit_code


def _compare(console: Console, files: list[str], max_regression: str) -> int:
    from perception_node.bench.reporting.compare import (  # noqa: PLC0415
        compare,
        find_caveats,
        parse_max_regression,
    )
    from perception_node.bench.reporting.live_table import print_differences  # noqa: PLC0415
    from perception_node.bench.reporting.measurement import read_report  # noqa: PLC0415

    limit = parse_max_regression(max_regression)
    if len(files) != 2:  # noqa: PLR2004 - before and after
        raise ConfigError(f"compare takes two reports, found {len(files)}")
    before, after = (read_report(Path(file)) for file in files)
    differences = compare(before, after, limit)
    print_differences(console, differences, find_caveats(before, after))
    return 1 if any(difference.is_regression for difference in differences) else 0


def _report(console: Console, files: list[str], out: Path | None) -> int:
    from perception_node.bench.reporting.live_table import print_report  # noqa: PLC0415
    from perception_node.bench.reporting.measurement import read_report  # noqa: PLC0415
    from perception_node.bench.reporting.merging import merge_reports  # noqa: PLC0415

    if not files:
        raise ConfigError("report takes the .json files of one benchmark or several")
    merged = merge_reports([read_report(Path(file)) for file in files])
    print_report(console, merged)
    _write(console, merged, out)
    return 0


def _make_plan(arguments: argparse.Namespace) -> Plan:
    from perception_node.bench.levels.session import Plan  # noqa: PLC0415

    if arguments.runs < 1:
        raise ConfigError(f"--runs must be 1 or more, found {arguments.runs}")
    if not 1.0 <= arguments.deadline_ms <= 60_000.0:  # noqa: PLR2004 - as of the node's parameter
        raise ConfigError(f"--deadline-ms must be 1 to 60000, found {arguments.deadline_ms:g}")
    levels = tuple(level for level in LEVELS if level in arguments.what)
    return Plan(
        levels=levels,
        loads=tuple(_make_loads(arguments)),
        runs=arguments.runs,
        deadline_ms=arguments.deadline_ms,
        parameters=_read_parameters(arguments),
        baselines=tuple(dict.fromkeys(arguments.baseline)),
        is_sweep=arguments.sweep,
    )


def _make_loads(arguments: argparse.Namespace) -> list[Load]:
    from perception_node.bench.camera.load import Load, parse_size  # noqa: PLC0415

    sizes = [parse_size(text) for text in dict.fromkeys(arguments.size or ["640x480"])]
    return [
        Load(
            rate_hz=arguments.rate,
            frames=arguments.frames,
            warm_up_frames=arguments.warm_up,
            width=width,
            height=height,
            encoding=arguments.encoding,
            transport=arguments.transport,
            cameras=arguments.cameras,
            bag=arguments.bag,
            topic=arguments.topic,
            images=arguments.images,
        )
        for width, height in sizes
    ]


def _read_parameters(arguments: argparse.Namespace) -> dict[str, Value]:
    """Return what differs from the node's defaults, checked with the node's own rules."""
    defaults = {field.name: field.default for field in fields(NodeConfig)}
    given: dict[str, Any] = {name: getattr(arguments, name) for name in MODEL_PARAMETERS}
    for text in arguments.parameter:
        name, separator, value = text.partition("=")
        if not separator or name not in defaults:
            known = ", ".join(defaults)
            raise ConfigError(f"--parameter {text}: not NAME=VALUE of a parameter: {known}")
        given[name] = _convert(name, value, defaults[name])
    NodeConfig(**given)
    return {name: value for name, value in given.items() if value != defaults[name]}


def _convert(name: str, text: str, default: Any) -> Any:  # noqa: ANN401 - of the default's type
    """Return a value of the type that the parameter has."""
    if isinstance(default, bool):
        return DECODED.get(text, text)
    if isinstance(default, tuple):
        raise ConfigError(f"--parameter {name}: lists are set by --cameras only")
    try:
        return type(default)(text)
    except ValueError as error:
        kind = type(default).__name__
        raise ConfigError(f"--parameter {name} must be of type {kind}, found {text}") from error


def _require_writable(out: Path | None) -> None:
    """Find out before an hour's work."""
    if out is not None and not out.parent.is_dir():
        raise ConfigError(f"--out {out}: there is no folder {out.parent}")


def _write(console: Console, report: Report, out: Path | None) -> None:
    if out is None:
        return
    from perception_node.bench.reporting.figure import draw  # noqa: PLC0415
    from perception_node.bench.reporting.markdown import to_markdown  # noqa: PLC0415

    try:
        replace_file(Path(f"{out}.json"), report.to_json().encode())
        replace_file(Path(f"{out}.md"), to_markdown(report).encode())
        draw(report, Path(f"{out}.png"))
    except OSError as error:
        raise ConfigError(f"--out {out}: cannot be written: {error.strerror}") from error
    console.print(f"written: {escape(str(out))}.json, .md, .png", soft_wrap=True)
