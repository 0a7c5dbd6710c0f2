# SPDX-License-Identifier: Apache-2.0
"""``perception evaluate``: the accuracy gate, which decides whether int8 may run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from rich.markup import escape

from perception_node.calibration.evaluation import (
    Evaluation,
    evaluate,
    models_of,
    store_evaluation,
)
from perception_node.calibration.images import read_label_sets
from perception_node.calibration.judging import Limits
from perception_node.calibration.report import to_html
from perception_node.cli.options import add_range_arguments, choose_images, open_sample
from perception_node.config.sections import Precision
from perception_node.errors import ConfigError
from perception_node.model.bundle import MODEL, MODEL_FILES, load_bundle
from perception_node.system.files import write_named_file
from perception_node.system.process import use_one_opencv_thread
from perception_node.system.resources import find_model
from perception_node.terminal.console import make_console, print_rows
from perception_node.terminal.output import complain, parse_count, parse_number, say_record
from perception_node.terminal.progress import show_phases

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from perception_node.calibration.images import ImageSet
    from perception_node.calibration.judging import Truth
    from perception_node.model.bundle import ModelBundle

EXAMPLE = "perception evaluate my_model --images photos/ --labels truth.csv --report report.html"
EXIT_GATE_FAILED = 1
COLUMNS = {
    "top-1": ("top_1", "{:.2%}"),
    "top-5": ("top_5", "{:.2%}"),
    "mAP": ("mean_average_precision", "{:.2%}"),
    "precision": ("precision", "{:.2%}"),
    "recall": ("recall", "{:.2%}"),
    "lost points": ("drop", "{:.2f}"),
    "agreement": ("agreement", "{:.2%}"),
    "cosine": ("cosine", "{:.4f}"),
    "cal. error": ("calibration_error", "{:.4f}"),
    "CPU ms": ("latency_ms", "{:.2f}"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    default = Limits()
    parser.add_argument("bundle", help="model bundle: folder or name; gets accuracy.json")
    parser.add_argument(
        "--images",
        type=Path,
        metavar="DIR",
        help="folder of images, or a list of files, other than those of the calibration",
    )
    parser.add_argument("--bag", type=Path, help="take the images from a bag instead")
    parser.add_argument("--topic", help="image topic of the bag")
    add_range_arguments(parser, floats=True)
    parser.add_argument(
        "--samples", type=parse_count, metavar="N", help="at most so many, evenly spaced"
    )
    parser.add_argument(
        "--labels",
        type=Path,
        metavar="CSV",
        help="lines of file,class_index (multi-label: one per label); without, no top-1",
    )
    parser.add_argument(
        "--precisions",
        metavar="LIST",
        help="such as fp32,fp16,int8; default: all that the bundle has",
    )
    parser.add_argument(
        "--max-drop",
        type=parse_number,
        default=default.max_drop,
        metavar="POINTS",
        help=f"of top-1, multi-label of mAP, below float32 (default {default.max_drop:g})",
    )
    parser.add_argument(
        "--min-agreement",
        type=parse_number,
        default=default.min_agreement,
        metavar="PART",
        help=f"of the images (or labels) as in float32 (default {default.min_agreement:g})",
    )
    parser.add_argument("--report", type=Path, metavar="FILE.html", help="write a page to look at")
    parser.add_argument("--json", action="store_true", help="what accuracy.json says, on stdout")


def run(arguments: argparse.Namespace) -> int:
    """Evaluate, store the verdict and return 1 if the gate failed."""
    limits = Limits(arguments.max_drop, arguments.min_agreement)
    bundle = load_bundle(find_model(arguments.bundle))
    models = models_of(bundle, _precisions(arguments.precisions))
    images, truth = _open_labelled(bundle, arguments)
    use_one_opencv_thread()
    with show_phases() as report:
        evaluation = evaluate(bundle, images, models, truth=truth, limits=limits, report=report)
    if arguments.report:
        write_named_file(arguments.report, to_html(bundle, evaluation).encode())
    store_evaluation(bundle, evaluation)
    if arguments.json:
        say_record(evaluation.record)
    else:
        _show(evaluation)
    for problem in filter(None, (evaluation.skipped, evaluation.warning)):
        complain(problem)
    return 0 if evaluation.passed else EXIT_GATE_FAILED


def _open_labelled(
    bundle: ModelBundle, arguments: argparse.Namespace
) -> tuple[ImageSet, Mapping[str, Truth] | None]:
    """Open the images; return them, and their class or all their labels if known."""
    output = bundle.manifest.output
    if arguments.labels is None or not output.is_multi_label:
        return open_sample(bundle, arguments)
    images = choose_images(bundle, arguments)
    return images, read_label_sets(arguments.labels, images.names, output.classes)


def _precisions(text: str | None) -> list[Precision] | None:
    if text is None:
        return None
    names = [name.strip() for name in text.split(",")]
    unknown = [name for name in names if name not in MODEL_FILES]
    if unknown:
        raise ConfigError(f"--precisions: {unknown[0]!r} is none of {', '.join(MODEL_FILES)}")
    return [known for name in names for known in get_args(Precision) if known == name]


def _show(evaluation: Evaluation) -> None:
    """Print a row for each model, and why those that fail do."""
    record = evaluation.record
    models: dict[str, dict[str, Any]] = record["models"]
    shown = {
        heading: (field, form)
        for heading, (field, form) in COLUMNS.items()
        if any(verdict.get(field) is not None for verdict in models.values())
    }
    rows = [(f"{record['images']['count']} images", *shown, "gate")]
    for name, verdict in models.items():
        cells = (_cell(verdict.get(field), form) for field, form in shown.values())
        rows.append((name, *cells, _gate(name, passed=verdict["passed"])))
    print_rows(rows)
    console = make_console()
    for name, verdict in models.items():
        if verdict["why"]:
            console.print(f"[red]{escape(name)}[/red]: {escape('; '.join(verdict['why']))}")


def _cell(value: float | None, form: str) -> str:
    return "" if value is None else form.format(value)


def _gate(name: str, *, passed: bool) -> str:
    if name == MODEL:
        return "reference"
    return "passed" if passed else "FAILED"
