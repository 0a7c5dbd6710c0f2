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
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perception_node.bench.camera.fault_schedule import FAULTS, SECOND_NS
from perception_node.bench.check import begin_report, print_checks, to_row
from perception_node.bench.hil.host import Host
from perception_node.bench.hil.pictures import read_pictures
from perception_node.bench.hil.verdict import judge
from perception_node.bench.soak.messages import MessageTrial
from perception_node.bench.soak.scenario import make_scenario
from perception_node.errors import EnvironmentLacks
from perception_node.rehearsal.domain import use_private_domain
from perception_node.terminal.console import make_console
from perception_node.terminal.progress import show_work

if TYPE_CHECKING:
    from collections.abc import Sequence

    from perception_node.bench.check import Check
    from perception_node.bench.hil.recorder import HilRecord
    from perception_node.bench.hil.scenario import Scenario

SHORTEST_S, HIGHEST_RATE_HZ = 10.0, 1000.0
PICTURES = 8
EXIT_OK, EXIT_FAILED, EXIT_ENVIRONMENT = 0, 1, 3
# What the rows of a soak are called, where a scenario calls them otherwise.
NAMES = {
    "account of the node": "account",
    "answers received": "results received",
    "answered": "answers while nothing is wrong",
    "other label for the same picture": "other class for the same picture",
    "recovery after a fault": "longest recovery, s",
    "state at the end": "active at the end",
}


def run_scenario(scenario: Scenario) -> HilRecord:
    """Play it and tell how it goes."""
    pictures = read_pictures(scenario.camera)[:PICTURES]
    with show_work("starting") as say:

        def show(record: HilRecord) -> None:
            now_ns = time.monotonic_ns()
            on = (str(i.fault) for i in record.faults if i.begin_ns <= now_ns < i.end_ns)
            played_s = max(0, now_ns - record.begin_ns) / SECOND_NS if record.begin_ns else 0.0
            text = f"{played_s:.0f} s, camera: {next(on, 'ok')}, {len(record.answers)} results"
            for sample in record.samples[-1:]:
                text += f", {sample.own_mib:.0f} MiB, {sample.descriptors} descriptors"
                text += f", {sample.threads} threads"
            say(text, None)

        return Host(scenario, pictures, on_progress=show).run()


def to_report(
    scenario: Scenario, seed: int, record: HilRecord, checks: Sequence[Check]
) -> dict[str, Any]:
    """Return the report as it is written to a file."""
    camera = scenario.camera
    return {
        **begin_report("perception_node.bench.soak"),
        "seconds": camera.seconds,
        "rate_hz": camera.rate_hz,
        "seed": seed,
        "transport": camera.transport,
        "results": len(record.answers),
        "rows": [to_row(check) for check in checks],
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
    console, seed = make_console(), arguments.seed
    scenario = make_scenario(arguments.seconds, arguments.rate, seed, arguments.transport, command)
    try:
        record = run_scenario(scenario)
        if not record.complete:
            raise KeyboardInterrupt
        checks = [c._replace(name=NAMES.get(c.name, c.name)) for c in judge(scenario, record)]
        if arguments.messages:
            with show_work(f"{arguments.messages} hostile messages"):
                checks += MessageTrial(arguments.messages, seed, command=command).run()
    except EnvironmentLacks as error:
        print(error, file=sys.stderr)
        return EXIT_ENVIRONMENT
    print_checks(console, checks)
    if arguments.json is not None:
        report = json.dumps(to_report(scenario, seed, record, checks), indent=2)
        arguments.json.write_text(report + "\n", encoding="utf-8")
    return EXIT_OK if all(check.is_ok for check in checks) else EXIT_FAILED


if __name__ == "__main__":
    raise SystemExit(main())
