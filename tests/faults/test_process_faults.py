# SPDX-License-Identifier: Apache-2.0
"""A process that lacks memory, a home, shared memory or UTF-8: it works or says why not."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys

import pytest

from tests.memory import memory_kib
from tests.ros.harness import Stream, make_image, wait_for

pytestmark = pytest.mark.ros
MIB = 1 << 20
NO_LIMIT = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)
NODE = [sys.executable, "-m", "perception_node.ros.main"]
WITHOUT_SHARED_MEMORY = f"""
import os, subprocess, sys
subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "none", "/dev/shm"], check=True)
os.execv(sys.executable, [*{NODE!r}, *sys.argv[1:]])
"""
UNSHARED = """
import os, sys
os.execvp("unshare", [*{prefix!r}, sys.executable, "-c", {script!r}, *sys.argv[1:]])
"""
# As an embedded system may start it: Python then reads its arguments as ASCII.
LOCALE_C = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.fixture
def bundle(color_model, tmp_path):
    """Return a function that copies the model to a folder of another name."""

    def copy(name):
        return shutil.copytree(color_model, tmp_path / name)

    return copy


# Memory


@pytest.mark.parametrize("free_mib", [2, 20, 40])
def test_a_model_that_does_not_fit_into_memory_fails_to_configure(start, peer, free_mib):
    """The limit comes when the node runs: how much Python and ROS take differs by machine."""
    with start(model="efficientnet_lite0", autostart=False) as node:
        peer.wait_until("unconfigured")
        limit = (memory_kib(node.process.pid, "VmSize") << 10) + free_mib * MIB
        soft = (limit, resource.RLIM_INFINITY)
        resource.prlimit(node.process.pid, resource.RLIMIT_AS, soft)
        assert not peer.change("configure")
        assert peer.state() == "unconfigured"
        (line,) = node.log_lines()
        assert "configure failed: " in line
        assert any(w in line for w in ("out of memory", "bad_alloc", "can't start new thread"))
        assert "Traceback" not in node.log()

        resource.prlimit(node.process.pid, resource.RLIMIT_AS, NO_LIMIT)
        assert peer.change("configure")
        assert node.end() == 0


@pytest.mark.parametrize("limit_mib", [100, 300, 600, 900])
def test_a_node_with_little_memory_from_the_start_never_hangs(start, limit_mib, unmeasured):
    limited = f"""
import os, resource, sys
resource.setrlimit(resource.RLIMIT_AS, ({limit_mib * MIB}, {limit_mib * MIB}))
os.execv(sys.executable, [*{NODE!r}, *sys.argv[1:]])
"""
    with start(program=("-c", limited)) as node:
        words = ("configure failed: ", "active: ")
        wait_for(lambda: not node.is_alive() or any(w in node.log() for w in words), node.log)
        assert len(node.log().splitlines()) < 100  # NumPy's own advice has thirty


# The environment


def require_results(peer):
    assert Stream(peer).classify(make_image("green", 1)).results[0].class_id == "1"


def test_a_home_and_a_log_folder_that_cannot_be_written_are_named(start, monkeypatch):
    monkeypatch.delenv("ROS_LOG_DIR")
    monkeypatch.setenv("HOME", "/proc/nobody")
    with start() as node:
        assert node.process.wait(30) == 2
        (line,) = node.log_lines()
        assert "Traceback" not in node.log()
    assert line.startswith("[FATAL]")
    assert "/proc/nobody/.ros/log" in line


def test_a_log_folder_is_enough_without_a_home(start, peer, monkeypatch):
    monkeypatch.delenv("HOME")
    with start() as node:
        require_results(peer)
        assert node.end() == 0


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Nowhere/Atlantis"])
def test_a_time_zone_changes_nothing(start, peer, monkeypatch, zone):
    monkeypatch.setenv("TZ", zone)
    with start(age_reference="stamp"):
        stream, clock = Stream(peer), peer.node.get_clock()
        wait_for(lambda: is_answered(stream, clock), lambda: "a result")


def is_answered(stream, clock):
    """Send an image of this moment."""
    stream.camera.publish(make_image("green", clock.now().nanoseconds))
    return stream.results


@pytest.mark.parametrize("name", ["two words", "модель 模型"])
def test_a_model_may_lie_anywhere(start, peer, bundle, name):
    with start(model=bundle(name)):
        require_results(peer)


def test_the_locale_c_is_enough_for_plain_names(start, peer, monkeypatch):
    for variable, value in LOCALE_C.items():
        monkeypatch.setenv(variable, value)
    with start():
        require_results(peer)


@pytest.mark.parametrize(
    ("name", "locale"),
    [(b"bad\xff".decode(errors="surrogateescape"), {}), ("модель", LOCALE_C)],
    ids=["not UTF-8", "locale C"],
)
def test_a_name_that_cannot_be_read_is_one_line(start, bundle, monkeypatch, name, locale):
    model = bundle(name)
    for variable, value in locale.items():
        monkeypatch.setenv(variable, value)
    with start(model=model) as node:
        assert node.process.wait(30) == 2
        lines = node.log().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("[FATAL]")
    assert "is not UTF-8" in lines[0]


@pytest.fixture
def unshare():
    """Return the words before a command that give it mounts of its own."""
    for prefix in (("unshare", "--mount"), ("unshare", "--user", "--map-root-user", "--mount")):
        if shutil.which("unshare"):
            command = [*prefix, "mount", "-t", "tmpfs", "-o", "ro", "none", "/dev/shm"]
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return prefix
    pytest.skip("this machine lets nobody mount a tmpfs: a container without that right")


def test_without_shared_memory_images_come_over_the_network(start, peer, unshare):
    program = UNSHARED.format(prefix=unshare, script=WITHOUT_SHARED_MEMORY)
    with start(program=("-c", program)) as node:
        require_results(peer)
        assert "SHM Transport is not supported" in node.log()
        assert node.end() == 0
