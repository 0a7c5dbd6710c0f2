# SPDX-License-Identifier: Apache-2.0
"""Let a real node run for a minute, an hour or a day with a camera that fails in every way.

    make soak SECONDS=3600

The node has a process of its own; a camera of 640x480 plays to it over DDS. Then another node gets
10 000 messages that no honest peer sends. At the end each limit is one row. Exit: 0 all are kept,
1 one is not, 3 the node could not be started.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perception_node import __version__
from perception_node.bench.camera.fault_schedule import FAULTS
from perception_node.bench.soak.limits import print_rows
from perception_node.bench.soak.messages import MessageTrial
from perception_node.bench.soak.run import Soak
from perception_node.bench.soak.verdict import SoakRun, judge
from perception_node.errors import EnvironmentLacks
from perception_node.rehearsal.domain import use_private_domain
from perception_node.terminal.console import make_console

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perception_node.bench.soak.limits import Row

SHORTEST_S, HIGHEST_RATE_HZ = 10.0, 1000.0
EXIT_OK, EXIT_FAILED, EXIT_ENVIRONMENT = 0, 1, 3


def to_report(soak: Soak, run: SoakRun, rows: Sequence[Row]) -> dict[str, Any]:
    """Return the report as it is written to a file."""
    return {
        "made_by": f"perception_node {__version__}, perception_node.bench.soak",
        "time_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "machine": {"architecture": platform.machine(), "cores": os.cpu_count()},
        "seconds": soak.seconds,
        "rate_hz": soak.rate_hz,
        "seed": soak.seed,
        "transport": soak.transport,
        "results": len(run.record.stamps_ns),
        "rows": [row._asdict() for row in rows],
    }


def main(given: Sequence[str] | None = None, command: Sequence[str] = ()) -> int:
    """Soak and judge; return the exit code.

    Args:
        given: the arguments; None takes those of the process.
        command: what starts the node, without ROS arguments; empty for the node as it is.

    """
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--rate", type=float, default=30.0, help="frames per second")
    parser.add_argument("--seed", type=int, default=1, help="of the faults")
    parser.add_argument("--transport", choices=FAULTS, default="raw")
    parser.add_argument(
        "--messages", type=int, default=10_000, help="hostile messages to another node afterwards"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write a report")
    arguments = parser.parse_args(given)
    if not arguments.seconds >= SHORTEST_S or not 1.0 <= arguments.rate <= HIGHEST_RATE_HZ:
        parser.error(
            f"at least {SHORTEST_S:g} seconds, 1 to {HIGHEST_RATE_HZ:g} frames per second"
        )
    use_private_domain()
    console = make_console()
    soak = Soak(arguments.seconds, arguments.rate, arguments.seed, arguments.transport, command)
    try:
        run = soak.run(console)
        rows = judge(run)
        if arguments.messages:
            with console.status(f"{arguments.messages} hostile messages"):
                rows += MessageTrial(arguments.messages, arguments.seed, command=command).run()
    except EnvironmentLacks as error:
        print(error, file=sys.stderr)
        return EXIT_ENVIRONMENT
    print_rows(console, rows)
    if arguments.json is not None:
        report = json.dumps(to_report(soak, run, rows), indent=2)
        arguments.json.write_text(report + "\n", encoding="utf-8")
    return EXIT_OK if all(row.is_ok for row in rows) else EXIT_FAILED


if __name__ == "__main__":
    raise SystemExit(main())
