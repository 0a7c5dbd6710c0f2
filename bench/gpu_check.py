# SPDX-License-Identifier: Apache-2.0
"""Run what needs a GPU on this machine's GPU, print a table and write one JSON report.

    make gpu-check

PyCUDA is installed if it is missing. Each check has a thread of its own, as an engine has.
TensorRT is used if it is here. The report: ``bench/reports/gpu-<name of the GPU>-<date>.json``.
Exit: 0 all is well, 1 something is not, 3 there is no GPU or no PyCUDA for it.
"""

from __future__ import annotations

import importlib.util
import json
import platform
import re
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from perception_node import __version__
from perception_node.bench import gpu_checks, gpu_engine_checks
from perception_node.bench.pycuda_setup import ensure_pycuda
from perception_node.engines.tensorrt.cuda.gpu import find_gpu
from perception_node.errors import EnvironmentLacks, PerceptionError
from perception_node.system.process import use_one_opencv_thread
from perception_node.terminal.console import PrintableConsole, make_console
from perception_node.terminal.progress import show_work

if TYPE_CHECKING:
    from collections.abc import Callable

    from perception_node.engines.tensorrt.cuda.gpu import Gpu

REPORTS = Path(__file__).resolve().parent / "reports"
TIMEOUT_S = 900.0  # a TensorRT build on a small Jetson takes minutes
EXIT_OK, EXIT_FAILED, EXIT_ENVIRONMENT = 0, 1, 3
CHECKS: dict[str, Callable[[], dict[str, Any]]] = {
    "contexts and threads": gpu_checks.check_contexts,
    "pinned memory": gpu_checks.check_pinned_memory,
    "graphs": gpu_checks.check_graphs,
    "kernel against the CPU's pixels": gpu_engine_checks.check_kernel,
    "kernel's speed": gpu_engine_checks.check_kernel_speed,
    "engine around a stand-in network": gpu_engine_checks.check_runtime,
    "engine of TensorRT": gpu_engine_checks.check_tensorrt,
    "a lost GPU": gpu_checks.check_lost_gpu,
}
COLORS = {"ok": "green", "failed": "red", "skipped": "yellow"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one check.

    Attributes:
        check: its name.
        state: ok, failed or skipped.
        problem: why, unless ok.
        seconds: how long it took.
        values: what it measured.

    """

    check: str
    state: str
    problem: str
    seconds: float
    values: dict[str, Any] = field(default_factory=dict)


def main() -> int:
    """Check and report; return the exit code."""
    if gpu_checks.LOSE_THE_GPU in sys.argv[1:]:
        print(gpu_checks.lose_the_gpu())
        return EXIT_OK
    console = make_console()
    gpu = find_gpu()
    if gpu is None:
        print("no NVIDIA GPU or no driver for it here; nothing to check", file=sys.stderr)
        return EXIT_ENVIRONMENT
    try:
        pycuda = ensure_pycuda(console.print)
    except EnvironmentLacks as error:
        print(error, file=sys.stderr)
        return EXIT_ENVIRONMENT
    use_one_opencv_thread()
    console.print(f"{gpu.name}, compute capability {gpu.compute_capability}, CUDA {gpu.cuda}")
    outcomes = []
    for name, check in CHECKS.items():
        with show_work(name):
            outcomes.append(run_check(name, check))
        console.print(f"{outcomes[-1].state:8} {name}")
    path = write_report(gpu, pycuda, outcomes)
    _print(console, outcomes)
    console.print(f"report: {path}")
    failed = any(outcome.state == "failed" for outcome in outcomes)
    return EXIT_FAILED if failed else EXIT_OK


def run_check(name: str, check: Callable[[], dict[str, Any]]) -> Outcome:
    """Run one check on a thread of its own; one that hangs is left behind."""
    found: list[tuple[str, str, dict[str, Any]]] = []

    def work() -> None:
        try:
            found.append(("ok", "", check()))
        except gpu_checks.CheckSkipped as error:
            found.append(("skipped", str(error), {}))
        except PerceptionError as error:
            found.append(("failed", str(error), {}))
        except Exception as error:  # noqa: BLE001 - a bug is a finding too
            found.append(("failed", f"{type(error).__name__}: {error}", {}))

    start = time.monotonic()
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    thread.join(TIMEOUT_S)
    seconds = time.monotonic() - start
    state, problem, exact = found[0] if found else ("failed", f"hangs for {TIMEOUT_S} s", {})
    values = json.loads(json.dumps(exact), parse_float=lambda text: round(float(text), 4))
    return Outcome(name, state, problem, round(seconds, 2), values)


def write_report(gpu: Gpu, pycuda: str, outcomes: list[Outcome]) -> Path:
    """Write the report and return its path; one of the same day is replaced."""
    now = datetime.now(timezone.utc)
    report = {
        "made_by": f"perception_node {__version__}, perception_node.bench.gpu_check",
        "time_utc": now.isoformat(timespec="seconds"),
        "gpu": asdict(gpu),
        "machine": {
            "architecture": platform.machine(),
            "kernel": platform.release(),
            "python": platform.python_version(),
            "pycuda": pycuda,
            "tensorrt": importlib.util.find_spec("tensorrt") is not None,
        },
        "checks": [asdict(outcome) for outcome in outcomes],
    }
    name = re.sub(r"[^a-z0-9]+", "-", gpu.name.lower()).strip("-")
    REPORTS.mkdir(exist_ok=True)
    path = REPORTS / f"gpu-{name}-{now:%Y-%m-%d}.json"
    path.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    return path


def _print(console: PrintableConsole, outcomes: list[Outcome]) -> None:
    table = Table("check", "", "what", "value")
    for outcome in outcomes:
        state = f"[{COLORS[outcome.state]}]{outcome.state}[/]"
        rows = _flat(outcome.values) or [("", outcome.problem)]
        for index, (what, value) in enumerate(rows):
            first = (outcome.check, state) if index == 0 else ("", "")
            table.add_row(*first, escape(what), escape(value))
    console.print(table)


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Return the rows of a table: a group of plain values becomes one row."""
    rows = []
    for key, value in values.items():
        if not isinstance(value, dict):
            rows.append((f"{prefix}{key}", str(value)))
        elif any(isinstance(inner, dict) for inner in value.values()):
            rows += _flat(value, f"{prefix}{key}, ")
        else:
            group = ", ".join(f"{name} {inner}" for name, inner in value.items())
            rows.append((f"{prefix}{key}", group))
    return rows


if __name__ == "__main__":
    raise SystemExit(main())
