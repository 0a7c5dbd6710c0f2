# SPDX-License-Identifier: Apache-2.0
"""Besiege two real nodes and a real HTTP server with everything that comes from outside.

    make siege MINUTES=30 SEED=1

Cameras and a client ask for good pictures all the time; attacks and calm take turns. At the end
each promise is one row. Exit: 0 all are kept, 1 one is not, 3 something could not be started.
Ctrl-C ends it early and judges what was seen until then.
"""

from __future__ import annotations

import argparse
import json
import re
import secrets
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perception_node.bench.check import begin_report, print_checks, to_row
from perception_node.bench.siege.judge import judge
from perception_node.bench.siege.plan import ATTACKS, SiegePlan
from perception_node.bench.siege.record import RECOVERY_S, SECOND_NS
from perception_node.bench.siege.run import Siege
from perception_node.errors import EnvironmentLacks
from perception_node.rehearsal.domain import use_private_domain
from perception_node.system.signals import StopEvent
from perception_node.terminal.console import make_console

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console

    from perception_node.bench.check import Check
    from perception_node.bench.siege.record import SiegeRecord
    from perception_node.bench.siege.run import Stop

SHORTEST_MIN = 0.3
EXIT_OK, EXIT_FAILED, EXIT_ENVIRONMENT = 0, 1, 3
NAMES = {attack.name: attack for attack in ATTACKS}


def print_attacks(console: Console, record: SiegeRecord) -> None:
    """Print how often each attack was made, and with how many inputs."""
    turns = [name for phase in record.phases for name in phase.attacks]
    for name in sorted(set(turns), key=list(NAMES).index):
        text = f"{name:<16}{turns.count(name):>4} turns {record.inputs[name]:>8} inputs"
        console.print(f"{text}   {NAMES[name].what}")


def write_logs(folder: Path, record: SiegeRecord) -> None:
    """Write the log of each process to a file of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    for subject in record.subjects:
        name = re.sub(r"\W+", "-", subject.name)
        text = "".join(f"{line}\n" for line in subject.log)
        (folder / f"{name}.log").write_text(text, encoding="utf-8")


def to_report(
    plan: SiegePlan, record: SiegeRecord, sections: Mapping[str, Sequence[Check]]
) -> dict[str, Any]:
    """Return the report as it is written to a file."""
    return {
        **begin_report("perception_node.bench.siege"),
        "seconds": round((record.end_ns - record.begin_ns) / SECOND_NS),
        "seed": plan.seed,
        "interrupted": record.interrupted,
        "recovery_s": RECOVERY_S,
        "phases": [list(phase.attacks) for phase in record.phases],
        "inputs": dict(record.inputs),
        "rows": {name: [to_row(row) for row in rows] for name, rows in sections.items()},
    }


def main(
    given: Sequence[str] | None = None, command: Sequence[str] = (), stop: Stop | None = None
) -> int:
    """Besiege and judge; return the exit code.

    Args:
        given: the arguments; None takes those of the process.
        command: what starts a node, without ROS arguments; empty for the node as it is.
        stop: ends it early; None lets SIGINT and SIGTERM do so.

    """
    parser = argparse.ArgumentParser(
        prog="python -m perception_node.bench.siege", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--seed", type=int, help="repeats a siege (default: another each time)")
    parser.add_argument(
        "--attack", choices=NAMES, action="append", help="only this one; may be repeated"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write a report")
    parser.add_argument("--logs", type=Path, metavar="FOLDER", help="write what each process said")
    arguments = parser.parse_args(given)
    if not arguments.minutes >= SHORTEST_MIN:
        parser.error(f"--minutes: at least {SHORTEST_MIN:g}")
    seed = secrets.randbelow(1_000_000) if arguments.seed is None else arguments.seed
    attacks = [NAMES[name] for name in arguments.attack or NAMES]
    plan = SiegePlan(arguments.minutes * 60.0, seed, attacks)
    use_private_domain()
    console = make_console()
    console.print(f"{arguments.minutes:g} minutes, seed {seed}")
    siege = Siege(plan, stop or StopEvent(), command)
    try:
        record = siege.run(console)
    except EnvironmentLacks as error:
        print(error, file=sys.stderr)
        return EXIT_ENVIRONMENT
    sections = judge(record)
    print_attacks(console, record)
    for name, rows in sections.items():
        console.print(f"\n{name}")
        print_checks(console, rows)
    if record.interrupted:
        console.print("ended early; what was seen until then is judged")
    if arguments.logs is not None:
        write_logs(arguments.logs, record)
    if arguments.json is not None:
        report = json.dumps(to_report(plan, record, sections), indent=2)
        arguments.json.write_text(report + "\n", encoding="utf-8")
    if all(row.is_ok for rows in sections.values() for row in rows):
        return EXIT_OK
    console.print(f"to repeat it: make siege MINUTES={arguments.minutes:g} SEED={seed}")
    return EXIT_FAILED


if __name__ == "__main__":
    raise SystemExit(main())
