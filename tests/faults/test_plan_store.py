# SPDX-License-Identifier: Apache-2.0
"""The plan store when processes are killed, disks are full and eight nodes start at once."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from perception_node.engines.plans import PlanStore
from perception_node.errors import EngineBuildError
from tests.builders import ROOT
from tests.plan_builders import NAME, ORIN, builder, never_built

PROGRAM = (sys.executable, "-m", "tests.faults.plan_store_process")


def run(*arguments, prefix=()):
    """Run the program to its end and return what it printed."""
    result = subprocess.run(
        [*prefix, *PROGRAM, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


# Killed


@pytest.fixture
def memory_folder(tmp_path):
    """Return a folder in memory, where fsync costs nothing: killing a process loses no page."""
    memory = Path("/dev/shm")
    if not os.access(memory, os.W_OK):
        yield tmp_path
        return
    with tempfile.TemporaryDirectory(dir=memory) as name:
        yield Path(name)


@pytest.mark.parametrize(("scenario", "before"), [("new", "nothing"), ("replace", "old")])
def test_kill_9_at_every_step_leaves_a_usable_store(memory_folder, scenario, before):
    found = run("die", memory_folder, scenario)
    other = {"nothing": "old", "old": "nothing"}[before]
    assert found[other] == 0
    assert found[before] > 100  # killed before the manifest was renamed
    assert found["new"] > 20  # and after that
    assert found[before] + found["new"] == found["steps"] - 1
    assert found["leftovers"] > 5
    assert found["states"] > 10


# Many at once


def start(folder, log):
    return subprocess.Popen(
        [*PROGRAM, "build", str(folder), str(log)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.fixture
def eight(tmp_path):
    """Eight processes that wait for the word to get the same plan."""
    processes = [start(tmp_path / "plans", tmp_path / "log") for _ in range(8)]
    try:
        for process in processes:
            assert process.stdout.readline() == "ready\n"
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.communicate()


def let_go(processes):
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()


def test_eight_processes_at_once_build_one_plan(eight, tmp_path):
    let_go(eight)
    results = [process.communicate(timeout=60)[0] for process in eight]
    assert [process.returncode for process in eight] == [0] * 8
    assert len(set(results)) == 1
    assert len((tmp_path / "log").read_text().split()) == 1
    assert len(PlanStore(tmp_path / "plans").entries()) == 1
    assert len(list((tmp_path / "plans").glob("*.plan"))) == 1


def test_when_the_builder_is_killed_the_next_one_builds(eight, tmp_path):
    log = tmp_path / "log"
    let_go(eight)
    deadline = time.monotonic() + 60
    while not (log.exists() and log.read_text().endswith("\n")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    victim = next(each for each in eight if str(each.pid) in log.read_text().split())
    victim.kill()
    others = [process for process in eight if process is not victim]
    results = [process.communicate(timeout=60)[0] for process in others]
    assert len(set(results)) == 1
    assert json.loads(results[0])
    assert len(log.read_text().split()) == 2


# Disks that cannot be written


@pytest.fixture
def mounting():
    """Return the words before a command that let it mount: in a namespace of its own."""
    for prefix in (("unshare", "--mount"), ("unshare", "--user", "--map-root-user", "--mount")):
        if shutil.which("unshare"):
            command = [*prefix, "mount", "-t", "tmpfs", "-o", "size=64k", "none", "/mnt"]
            if subprocess.run(command, capture_output=True, check=False).returncode == 0:
                return prefix
    pytest.skip("this machine lets nobody mount a tmpfs: a container without that right")


def check_refused(found, folder, number):
    assert found["error"] == (
        f"{folder}: the plan store cannot be written: {os.strerror(number)}; "
        "older plans are kept, free space or choose another folder"
    )
    assert found["content"] == "old"
    assert found["loaded without building"]
    assert found["files unchanged"]


@pytest.mark.parametrize(
    ("how", "number"), [("file size limit", errno.EFBIG), ("no permission", errno.EACCES)]
)
def test_what_cannot_be_written_leaves_the_old_plan(how, number):
    with tempfile.TemporaryDirectory() as name:  # pytest's own folder is closed to other users
        folder = Path(name, "plans")
        check_refused(run("fail", folder, how), folder, number)


@pytest.mark.parametrize(
    ("how", "number"), [("full disk", errno.ENOSPC), ("read-only disk", errno.EROFS)]
)
def test_a_disk_that_takes_nothing_leaves_the_old_plan(tmp_path, mounting, how, number):
    folder = tmp_path / "plans"
    check_refused(run("fail", folder, how, prefix=mounting), folder, number)


def test_a_disk_that_is_full_already_is_noticed_before_the_build(tmp_path, monkeypatch):
    """A build takes minutes, and its result would be lost."""

    def fail(*_arguments):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(EngineBuildError, match="cannot be written: No space left on device"):
        PlanStore(tmp_path / "plans").build_once(NAME, ORIN, never_built)
    assert [file.suffix for file in (tmp_path / "plans").iterdir()] == [".lock"]


@pytest.mark.parametrize("call", ["open", "write", "fsync", "replace", "unlink"])
@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_the_disk_fails_at_every_call(tmp_path, monkeypatch, call, number):
    """At the first call, then at the second, and so on until a build needs fewer calls."""
    real, refused = getattr(os, call), []
    for nth in range(1, 100):
        store = PlanStore(tmp_path / f"{call}-{nth}")
        store.build_once(NAME, ORIN, builder(b"old"))
        calls = 0

        def fail_once(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls == nth:
                raise OSError(number, os.strerror(number))
            return real(*arguments, **options)

        allowed = {b"new"}
        with monkeypatch.context() as patch:
            patch.setattr(os, call, fail_once)
            try:
                store.build_once(NAME, ORIN, builder(b"new"), force=True)
            except EngineBuildError as error:
                refused.append(str(error))
                allowed.add(b"old")
        assert store.find(NAME, ORIN).read() in allowed
        if call == "unlink":  # what cannot be removed now is removed by the next build
            store.build_once(NAME, ORIN, builder(b"next"), force=True)
        assert not list(store.folder.glob("*.tmp"))
        if calls < nth:
            break
    assert calls < nth  # the last build got through
    assert refused
    for message in refused:
        assert f"cannot be written: {os.strerror(number)}" in message
        assert "\n" not in message
