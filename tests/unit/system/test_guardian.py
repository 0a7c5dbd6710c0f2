# SPDX-License-Identifier: Apache-2.0
"""What a process has started ends with it, whatever ends it."""

from __future__ import annotations

import ast
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from perception_node.system.guardian import MARK, ended_with_us
from tests.builders import ROOT
from tests.started import start_family, wait_until

PACKAGE = ("perception_node", "bench", "engines", "calibration")
STARTS = {"subprocess.Popen", "subprocess.run", "Popen", "subprocess.check_output"}
START = (
    "import subprocess, sys, time\n"
    "from perception_node.system.guardian import ended_with_us\n"
    "children = [subprocess.Popen(['sh', '-c', script], env=ended_with_us())\n"
    "            for script in sys.argv[1:]]\n"
)
# Each sleeps for another time, by which it is found.
PLAIN = "exec sleep 1001"
GRANDCHILD = "sleep 1002 & wait"
DAEMON = "setsid sh -c 'sleep 1003 & exec sleep 1004' & exec sleep 1005"
STUBBORN = "trap '' TERM HUP INT; exec sleep 1006"  # ignored signals stay so through exec
STOPPED = "kill -STOP $$; exec sleep 1007"


def test_the_mark_is_in_the_environment_and_nothing_else_changes():
    assert ended_with_us({"A": "b"}) == {"A": "b", MARK: ended_with_us()[MARK]}
    assert {n: v for n, v in ended_with_us().items() if n != MARK} == {
        n: v for n, v in os.environ.items() if n != MARK
    }


@pytest.mark.parametrize(
    ("script", "sleepers"),
    [
        (PLAIN, ("sleep 1001",)),
        (GRANDCHILD, ("sleep 1002",)),
        (DAEMON, ("sleep 1003", "sleep 1004", "sleep 1005")),
        (STUBBORN, ("sleep 1006",)),
    ],
    ids=["child", "grandchild", "daemon", "stubborn"],
)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_all_end_with_who_has_started_them(script, sleepers, number):
    with start_family(sys.executable, "-c", START + "time.sleep(1000)", script) as family:
        family.wait_for(*sleepers, "guardian_process.py")
        family.process.send_signal(number)
        family.process.wait()
        family.wait_until_gone()


def test_one_that_is_stopped_ends_too():
    with start_family(sys.executable, "-c", START + "time.sleep(1000)", STOPPED) as family:
        (child,) = family.wait_for("kill -STOP")

        def is_stopped():
            status = Path(f"/proc/{child}/stat").read_text(encoding="utf-8")
            return status.rpartition(")")[2].split()[0] == "T"

        wait_until(is_stopped, family.members)
        family.kill()
        family.wait_until_gone()


def test_a_signal_for_the_whole_group_leaves_nobody():
    with start_family(sys.executable, "-c", START + "time.sleep(1000)", DAEMON) as family:
        family.wait_for("sleep 1003", "sleep 1004", "sleep 1005", "guardian_process.py")
        os.killpg(family.process.pid, signal.SIGKILL)
        family.process.wait()
        family.wait_until_gone()


def test_what_a_child_has_started_for_itself_ends_after_it():
    """As with a test that runs the command, which runs nodes: each has a guardian of its own."""
    inner = START + "time.sleep(1000)"
    outer = (
        "import subprocess, sys, time\n"
        "from perception_node.system.guardian import ended_with_us\n"
        "command = [sys.executable, '-c', *sys.argv[1:]]\n"
        "child = subprocess.Popen(command, env=ended_with_us())\n"
        "time.sleep(1000)"
    )
    with start_family(sys.executable, "-c", outer, inner, DAEMON) as family:
        family.wait_for("sleep 1003", "sleep 1004", "sleep 1005")
        wait_until(
            lambda: sum("guardian_process.py" in line for line in family.members().values()) == 2,
            family.members,
        )
        family.kill()
        family.wait_until_gone()


def test_a_process_that_ends_in_order_leaves_no_guardian():
    script = START + "[child.kill() for child in children]; [child.wait() for child in children]"
    with start_family(sys.executable, "-c", script, PLAIN) as family:
        assert family.process.wait(30) == 0
        family.wait_until_gone()


def test_others_are_left_alone():
    with (
        start_family(sys.executable, "-c", START + "time.sleep(1000)", PLAIN) as one,
        start_family(sys.executable, "-c", START + "time.sleep(1000)", PLAIN) as other,
        subprocess.Popen(["/bin/sleep", "1008"]) as own,
    ):
        one.wait_for("sleep 1001", "guardian_process.py")
        other.wait_for("sleep 1001", "guardian_process.py")
        try:
            one.kill()
            one.wait_until_gone()
            assert len(other.members()) == 3, "itself, its child, its guardian"
            assert own.poll() is None
        finally:
            own.kill()


def test_every_process_that_the_package_starts_has_the_mark():
    sources = [p for name in PACKAGE for p in sorted((ROOT / name).rglob("*.py"))]
    found = [
        (path, call)
        for path in sources
        for call in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) in STARTS
    ]
    assert len(found) > 5
    for path, call in found:
        words = {word.arg: ast.unparse(word.value) for word in call.keywords}
        assert words.get("env", "").startswith("ended_with_us("), f"{path}:{call.lineno}"
