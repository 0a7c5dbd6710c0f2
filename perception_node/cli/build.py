# SPDX-License-Identifier: Apache-2.0
"""``perception build``: a model bundle becomes a TensorRT plan in the plan store."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, get_args

from perception_node.cli.int8_report import describe_int8, shares, warn_of_little
from perception_node.cli.plan_report import show_plan, to_record, verdict
from perception_node.config.sections import Precision
from perception_node.engines.plans import BuildOptions, DamagedPlan, PlanStore
from perception_node.engines.tensorrt.api import BACKENDS
from perception_node.engines.tensorrt.build import ensure_plan
from perception_node.engines.tensorrt.machine import differences_to_this_machine
from perception_node.errors import ConfigError
from perception_node.model.bundle import load_bundle
from perception_node.system.resources import find_model
from perception_node.terminal.console import print_rows
from perception_node.terminal.output import complain, parse_count, say, say_record
from perception_node.terminal.progress import show_work

if TYPE_CHECKING:
    import argparse

    from perception_node.engines.plans import StoredPlan
    from perception_node.model.bundle import ModelBundle

EXAMPLE = "perception build efficientnet_lite0 --precision fp16"
LARGEST_LEVEL = 5
WAKE_UP_S = 0.5


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    default = BuildOptions()
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("bundle", nargs="?", help="model bundle: folder or name")
    what.add_argument("--list", action="store_true", help="show the plans in the store")
    what.add_argument(
        "--prune",
        action="store_true",
        help="remove plans that are damaged or do not run here, and leftovers",
    )
    parser.add_argument(
        "--precision",
        choices=get_args(Precision),
        help="default: int8 of a model that came quantised, fp16 of any other",
    )
    parser.add_argument("--backend", choices=BACKENDS, default=BACKENDS[0])
    parser.add_argument(
        "--store", "--plan-store", type=Path, metavar="DIR", help="plan store (default: ~/.cache)"
    )
    parser.add_argument(
        "--workspace-mib",
        type=parse_count,
        default=default.workspace_mib,
        metavar="N",
        help=f"memory TensorRT may use while it works (default {default.workspace_mib})",
    )
    parser.add_argument(
        "--optimization-level",
        type=parse_count,
        metavar="N",
        help="0 to 5; TensorRT's own default is 3",
    )
    parser.add_argument(
        "--allow-ungated",
        action="store_true",
        help="build int8 even if perception evaluate has not found it accurate enough",
    )
    parser.add_argument(
        "--classic",
        action="store_true",
        help="int8 as TensorRT up to 10.x calibrates it: from model.onnx and calibration.cache",
    )
    parser.add_argument("--force", action="store_true", help="build even if the store has it")
    parser.add_argument("--json", action="store_true", help="JSON, for machines")


def run(arguments: argparse.Namespace) -> int:
    """Build, list or prune; return 1 if files could not be pruned; errors are raised."""
    store = PlanStore(arguments.store)
    if arguments.list:
        _list(store, as_json=arguments.json)
    elif arguments.prune:
        return _prune(store, as_json=arguments.json)
    else:
        bundle = load_bundle(find_model(arguments.bundle))
        plan = _build(bundle, arguments, store)
        show_plan(plan, as_json=arguments.json)
        if plan.fingerprint.precision == "int8":
            _show_int8(bundle, as_json=arguments.json)
    return 0


def _show_int8(bundle: ModelBundle, *, as_json: bool) -> None:
    """Say how much of the work is int8."""
    if not as_json:
        print_rows(describe_int8(bundle))
    warn_of_little(shares(bundle))


def _build(bundle: ModelBundle, arguments: argparse.Namespace, store: PlanStore) -> StoredPlan:
    """Build on a thread of its own, so that Ctrl-C reaches us while TensorRT works."""
    options = _options(arguments)
    cancel = Event()
    with show_work() as report, ThreadPoolExecutor(1, "perception-build") as thread:
        try:
            future = thread.submit(
                ensure_plan,
                bundle,
                arguments.precision or bundle.precision("fp16"),
                arguments.backend,
                store,
                options,
                report=lambda now: report(now.phase, now.fraction),
                cancel=cancel,
                force=arguments.force,
                allow_ungated=arguments.allow_ungated,
                classic=arguments.classic,
            )
            while not wait([future], WAKE_UP_S).done:
                pass  # a signal that comes just before a wait is only noticed after it
            return future.result()
        except KeyboardInterrupt:  # it may come before submit() has returned
            cancel.set()
            raise


def _options(arguments: argparse.Namespace) -> BuildOptions:
    workspace, level = arguments.workspace_mib, arguments.optimization_level
    if workspace < 1:
        raise ConfigError(f"--workspace-mib is {workspace}; must be at least 1")
    if level is not None and not 0 <= level <= LARGEST_LEVEL:
        raise ConfigError(f"--optimization-level is {level}; must be 0 to {LARGEST_LEVEL}")
    return BuildOptions(workspace, level)


def _list(store: PlanStore, *, as_json: bool) -> None:
    entries = store.entries()
    if as_json:
        say_record([_entry_record(entry) for entry in entries])
        return
    if not entries:
        say(f"{store.folder}: no plans")
        return
    heading = ("name", "precision", "backend", "GPU", "built", "size", "runs here")
    print_rows([heading, *map(_cells, entries)])


def _cells(entry: StoredPlan | DamagedPlan) -> tuple[str, ...]:
    if isinstance(entry, DamagedPlan):
        return (entry.path.name, "", "", "", "", "", f"no: {entry.problem}")
    fingerprint = entry.fingerprint
    return (
        entry.name,
        fingerprint.precision,
        f"{fingerprint.backend} {fingerprint.tensorrt}",
        fingerprint.gpu or "none",
        entry.created_utc,
        f"{entry.plan_bytes / 1e6:.1f} MB",
        verdict(to_record(entry)),
    )


def _entry_record(entry: StoredPlan | DamagedPlan) -> dict[str, object]:
    if isinstance(entry, DamagedPlan):
        return {"manifest": str(entry.path), "runs_here": False, "problem": entry.problem}
    return to_record(entry)


def _prune(store: PlanStore, *, as_json: bool) -> int:
    skipped: list[str] = []
    removed = store.prune(
        lambda plan: not differences_to_this_machine(plan.fingerprint), skipped.append
    )
    if as_json:
        say_record([str(path) for path in removed])
    else:
        for path in removed:
            say(path)
        say(f"{store.folder}: {len(removed)} files removed")
    for problem in skipped:
        complain(f"skipped: {problem}")
    return 1 if skipped else 0
