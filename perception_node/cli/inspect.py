# SPDX-License-Identifier: Apache-2.0
"""``perception inspect``: all that is known of a model bundle or of a plan."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perception_node.cli.int8_report import describe_int8
from perception_node.cli.plan_report import show_plan
from perception_node.engines.plans import load_stored_plan
from perception_node.engines.tensorrt.operators import TARGETS, readability
from perception_node.errors import ConfigError, ModelFormatError
from perception_node.model.accuracy import find_problem
from perception_node.model.bundle import (
    INT8_ON_CPU,
    MANIFEST,
    MAX_MODEL_BYTES,
    MODEL_FILES,
    MODEL_SUFFIX,
    load_bundle,
)
from perception_node.model.onnx_file import look_through
from perception_node.model.onnx_tensor import DamagedOnnx, RefusedOnnx
from perception_node.system.files import read_regular_file
from perception_node.system.resources import find_model
from perception_node.terminal.console import print_rows
from perception_node.terminal.output import say_record

if TYPE_CHECKING:
    import argparse

    from perception_node.model.bundle import ModelBundle
    from perception_node.model.onnx_file import OnnxContent

EXAMPLE = "perception inspect efficientnet_lite0"
PLAN_SUFFIXES = {".plan", ".json"}
LABELS_SHOWN = 6
GATED = (MODEL_FILES["int8"], INT8_ON_CPU)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument(
        "what", help="a bundle's folder or name, a plan or its manifest, or an ONNX file"
    )
    parser.add_argument(
        "--for",
        dest="target",
        choices=tuple(TARGETS),
        help="say whether this TensorRT can read the model",
    )
    parser.add_argument("--json", action="store_true", help="JSON, for machines")


def run(arguments: argparse.Namespace) -> int:
    """Check every digest and print what was found; damage is raised as an error."""
    path = Path(arguments.what)
    if path.suffix in PLAN_SUFFIXES and path.name != MANIFEST and not path.is_dir():
        plan = load_stored_plan(path)
        plan.read()
        show_plan(plan, as_json=arguments.json)
    elif path.is_file() and path.suffix == MODEL_SUFFIX:
        _inspect_model(path, arguments.target, as_json=arguments.json)
    elif path.is_file() and path.name != MANIFEST:
        raise ConfigError(f"{path}: neither a bundle's folder nor a .plan, its .json or a .onnx")
    else:
        folder = path.parent if path.name == MANIFEST else find_model(arguments.what)
        _inspect_bundle(load_bundle(folder), arguments.target, as_json=arguments.json)
    return 0


def _inspect_model(path: Path, target: str | None, *, as_json: bool) -> None:
    """Say what is seen in a model that is not imported; it is not given to a parser."""
    try:
        content = look_through(read_regular_file(path, MAX_MODEL_BYTES))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except (DamagedOnnx, RefusedOnnx) as error:
        raise ModelFormatError(path, str(error)) from error
    if not content.nodes:
        raise ModelFormatError(path, "it is no ONNX, or damaged: it has no graph")
    operators = Counter(node.operator for node in content.nodes)
    record: dict[str, Any] = {
        "path": str(path),
        "opset": content.opset,
        "operators": dict(operators.most_common()),
        **({"tensorrt": {path.name: _readable(content, target)}} if target else {}),
    }
    if as_json:
        say_record(record)
        return
    shown = ", ".join(f"{name} ({count})" for name, count in operators.most_common())
    rows = [("model", str(path)), ("opset", str(content.opset)), ("operators", shown)]
    print_rows(rows + _readable_rows(record, target))


def _readable(content: OnnxContent, target: str) -> list[str]:
    """Return what a version of TensorRT cannot read; empty if it can read all."""
    return readability(content, target).problems


def _readable_rows(record: dict[str, Any], target: str | None) -> list[tuple[str, str]]:
    return [
        (str(target), f"{name}: {problem}")
        for name, problems in record.get("tensorrt", {}).items()
        for problem in problems or ["can be read, by NVIDIA's table"]
    ]


def _inspect_bundle(bundle: ModelBundle, target: str | None, *, as_json: bool) -> None:
    record = {
        "path": str(bundle.path),
        **bundle.manifest.to_record(),
        "labels": list(bundle.labels),
        "files": [_file_record(bundle, name) for name in bundle.files],
        "gate": {name: find_problem(bundle, name) for name in GATED if name in bundle.files},
    }
    if target:
        models = [name for name in MODEL_FILES.values() if name in bundle.files]
        record["tensorrt"] = {
            name: _readable(look_through(bundle.read(name)), target) for name in models
        }
    if as_json:
        say_record(record)
    else:
        _show_bundle(bundle, record, target)


def _file_record(bundle: ModelBundle, name: str) -> dict[str, Any]:
    return {"name": name, "bytes": len(bundle.read(name)), "sha256": bundle.files[name]}


def _show_bundle(bundle: ModelBundle, record: dict[str, Any], target: str | None) -> None:
    manifest = bundle.manifest
    size, output = manifest.input, manifest.output
    rows = [
        ("bundle", f"{manifest.name} ({bundle.path})"),
        ("license", manifest.license),
        ("input", f"{size.name}, float32 (1, 3, {size.height}, {size.width})"),
        ("output", f"{output.name}, float32 (1, {output.classes}), {output.kind}"),
    ]
    if output.thresholds is not None:
        rows.append(("thresholds", _some(tuple(f"{each:g}" for each in output.thresholds))))
    rows += [(key, _show(value)) for key, value in record["preprocessing"].items()]
    rows.append(("labels", _some(bundle.labels)))
    rows += describe_int8(bundle)
    for file in record["files"]:
        about = f"{file['bytes'] / 1e6:.1f} MB, sha256 {file['sha256']}"
        rows.append((file["name"], about))
    for name, problem in record["gate"].items():
        rows.append(("accuracy", f"{name}: {problem or 'passed perception evaluate'}"))
    rows += _readable_rows(record, target)
    rows += [(str(key), _show(value)) for key, value in manifest.provenance.items()]
    print_rows(rows)


def _some(labels: tuple[str, ...]) -> str:
    more = len(labels) - LABELS_SHOWN
    return ", ".join(labels[:LABELS_SHOWN]) + (f" and {more} more" if more > 0 else "")


def _show(value: object) -> str:
    """Return a value of JSON on one line."""
    if isinstance(value, (list, tuple)):
        return ", ".join(map(str, value))
    return value if isinstance(value, str) else json.dumps(value)
