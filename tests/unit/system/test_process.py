# SPDX-License-Identifier: Apache-2.0
"""These settings belong to a whole process: each test uses one of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from perception_node.system.process import CAP_IPC_LOCK, has_capability
from tests.builders import ROOT

HAS_CAPABILITY = (
    "import os; from perception_node.system.process import CAP_IPC_LOCK, has_capability\n"
    "print(has_capability(CAP_IPC_LOCK))\n"
)


def run(script, *prefix):
    command = [*prefix, sys.executable, "-c", script]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()


def test_opencv_starts_no_thread_pool():
    script = (
        "import cv2; from perception_node.system import process\n"
        "cv2.setNumThreads(4); process.use_one_opencv_thread(); print(cv2.getNumThreads())"
    )
    assert run(script) == ["1"]


def test_large_blocks_stay_in_the_process():
    """Fresh pages cost a fault each; kept ones do not."""
    script = (
        "import resource; from perception_node.system import process\n"
        "kept = process.keep_large_blocks()\n"
        "def faults():\n"
        "    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "    for _ in range(20): bytearray(6 << 20)\n"
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before\n"
        "faults(); print(kept, faults())"
    )
    kept, faults = run(script)
    assert kept == "True"
    assert int(faults) < 1000  # 20 blocks of 1536 pages


def test_what_one_thread_has_freed_serves_the_next():
    """If each had a heap of its own, five would keep five times as much."""
    script = (
        "import threading; from pathlib import Path; from perception_node.system import process\n"
        "process.share_one_heap(), process.keep_large_blocks()\n"
        "def kib():\n"
        "    lines = Path('/proc/self/status').read_text().splitlines()\n"
        "    return next(int(l.split()[1]) for l in lines if l.startswith('RssAnon'))\n"
        "def work(done): [bytearray(60_000) for _ in range(500)]; done.set(); end.wait()\n"
        "end, kept = threading.Event(), [kib()]\n"
        "for _ in range(5):\n"
        "    done = threading.Event()\n"
        "    threading.Thread(target=work, args=(done,)).start()\n"
        "    done.wait(); kept.append(kib() - kept[0])\n"
        "end.set(); print(*kept[1:])"
    )
    kept_kib = [int(word) for word in run(script)]
    assert kept_kib[0] > 20_000  # 500 blocks of 60 kB
    assert kept_kib[-1] < 2 * kept_kib[0]


def test_a_c_library_without_mallopt_is_no_error():
    script = (
        "import ctypes; from perception_node.system import process\n"
        "ctypes.CDLL = lambda _name: object()\n"
        "print(process.keep_large_blocks(), process.share_one_heap())"
    )
    assert run(script) == ["False", "False"]


def test_what_exists_is_out_of_the_collectors_sight():
    script = (
        "import gc; from perception_node.system import process\n"
        "process.freeze_garbage(); print(gc.get_freeze_count() > 1000)"
    )
    assert run(script) == ["True"]


def test_loading_the_settings_does_not_load_opencv():
    script = "import sys; from perception_node.system import process; print('cv2' in sys.modules)"
    assert run(script) == ["False"]


def test_a_capability_of_the_process_is_seen():
    effective = Path("/proc/self/status").read_text().partition("CapEff:")[2].split()[0]
    is_initial = Path("/proc/self/uid_map").read_text().split() == ["0", "0", "4294967295"]
    assert has_capability(CAP_IPC_LOCK) == (is_initial and bool(int(effective, 16) >> 14 & 1))


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become somebody else")
def test_who_gives_up_root_has_no_capabilities():
    become_nobody = "os.setresuid(65534, 65534, 65534)\n"
    assert run(HAS_CAPABILITY + become_nobody + HAS_CAPABILITY)[-1] == "False"


def test_the_root_of_a_user_namespace_does_not_count():
    """It holds every capability there, but the kernel asks for the machine's own."""
    command = ["unshare", "--user", "--map-root-user"]
    try:
        subprocess.run([*command, "true"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no user namespaces here")
    show = "print(open('/proc/self/status').read().partition('CapEff:')[2].split()[0])"
    answer, effective = run(HAS_CAPABILITY + show, *command)
    assert int(effective, 16) >> 14 & 1
    assert answer == "False"
