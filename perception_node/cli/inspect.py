# SPDX-License-Identifier: Apache-2.0
"""``perception inspect``: all that is known of a model bundle or of a plan."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perception_node.cli.int8_report import describe_int8
from perception_node.cli.plan_report import show_plan
from perception_node.engines.plans import load_stored_plan
from perception_node.errors import ConfigError
from perception_node.model.accuracy import find_problem
from perception_node.model.bundle import INT8_ON_CPU, MANIFEST, MODEL_FILES, load_bundle
from perception_node.system.resources import find_model
from perception_node.terminal.console import print_rows
from perception_node.terminal.output import say_record

if TYPE_CHECKING:
    import argparse

    from perception_node.model.bundle import ModelBundle

EXAMPLE = "perception inspect efficientnet_lite0"
PLAN_SUFFIXES = {".plan", ".json"}
LABELS_SHOWN = 6
GATED = (MODEL_FILES["int8"], INT8_ON_CPU)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("what", help="a bundle's folder or name, or a plan or its manifest")
    parser.add_argument("--json", action="store_true", help="JSON, for machines")


def run(arguments: argparse.Namespace) -> int:
    """Check every digest and print what was found; damage is raised as an error."""
    path = Path(arguments.what)
    if path.suffix in PLAN_SUFFIXES and path.name != MANIFEST and not path.is_dir():
        plan = load_stored_plan(path)
        plan.read()
        show_plan(plan, as_json=arguments.json)
    elif path.is_file() and path.name != MANIFEST:
        raise ConfigError(f"{path}: neither a bundle's folder nor a .plan nor its .json")
    else:
        folder = path.parent if path.name == MANIFEST else find_model(arguments.what)
        _inspect_bundle(load_bundle(folder), as_json=arguments.json)
    return 0


def _inspect_bundle(bundle: ModelBundle, *, as_json: bool) -> None:
    manifest = asdict(bundle.manifest)
    if bundle.manifest.quantization is None:
        del manifest["quantization"]
    record = {
        "path": str(bundle.path),
        **manifest,
        "labels": list(bundle.labels),
        "files": [_file_record(bundle, name) for name in bundle.files],
        "gate": {name: find_problem(bundle, name) for name in GATED if name in bundle.files},
    }
    if as_json:
        say_record(record)
    else:
        _show_bundle(bundle, record)


def _file_record(bundle: ModelBundle, name: str) -> dict[str, Any]:
    return {"name": name, "bytes": len(bundle.read(name)), "sha256": bundle.files[name]}


def _show_bundle(bundle: ModelBundle, record: dict[str, Any]) -> None:
    manifest = bundle.manifest
    size, output = manifest.input, manifest.output
    rows = [
        ("bundle", f"{manifest.name} ({bundle.path})"),
        ("license", manifest.license),
        ("input", f"{size.name}, float32 (1, 3, {size.height}, {size.width})"),
        ("output", f"{output.name}, float32 (1, {output.classes}), {output.kind}"),
    ]
    rows += [(key, _show(value)) for key, value in record["preprocessing"].items()]
    rows.append(("labels", _some(bundle.labels)))
    rows += describe_int8(bundle)
    for file in record["files"]:
        about = f"{file['bytes'] / 1e6:.1f} MB, sha256 {file['sha256']}"
        rows.append((file["name"], about))
    for name, problem in record["gate"].items():
        rows.append(("accuracy", f"{name}: {problem or 'passed perception evaluate'}"))
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
