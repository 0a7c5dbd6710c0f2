# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from contextlib import contextmanager

import pytest

from perception_node.doctor import segment_findings
from perception_node.doctor.findings import OK, OPTIONAL
from perception_node.doctor.segment_findings import check_segments, find_segments

LIVING, DEAD = "fastrtps_00000000000000aa", "fastrtps_00000000000000dd"
MIB = 1 << 20


def put(folder, name, size_bytes=MIB):
    """Make a segment with its lock file, which it returns."""
    (folder / name).write_bytes(b"\1" * size_bytes)
    lock = folder / f"{name}_el"
    lock.touch()
    return lock


@contextmanager
def locked(lock):
    """Own a segment as Fast DDS does."""
    with lock.open("rb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Shared memory with a segment that is in use and one that is not, and no tool for it."""
    monkeypatch.setattr(sys, "executable", str(tmp_path / "no-tools" / "python"))
    place = tmp_path / "shm"
    place.mkdir()
    put(place, DEAD, 3 * MIB)
    with locked(put(place, LIVING)):
        yield place


def states(folder):
    return {segment.path.name: segment.is_in_use for segment in find_segments(folder)}


def test_a_segment_is_in_use_as_long_as_its_lock_is_held(folder):
    assert states(folder) == {LIVING: True, DEAD: False}
    finding = check_segments(folder)
    assert finding.state == OPTIONAL
    assert finding.found == "1 in use, 1 left behind by killed processes (3 MiB)"
    with locked(folder / f"{DEAD}_el"):  # we did not keep it
        finding = check_segments(folder)
        assert (finding.state, finding.advice) == (OK, "")


def test_the_advice_removes_what_is_left_behind_and_nothing_else(folder):
    (folder / "fastrtps_port7411_el").touch()  # left behind as well
    (folder / "fastrtps_port7411").touch()
    (folder / "sem.fastrtps_port7411_mutex").touch()
    put(folder, "fastdds_00000000000000ee")  # of Fast DDS 3
    put(folder, "another_0123456789abcdef")
    subprocess.run(["/bin/bash", "-c", check_segments(folder).advice], check=True)
    assert sorted(file.name for file in folder.iterdir()) == [
        "another_0123456789abcdef",
        "another_0123456789abcdef_el",
        LIVING,
        f"{LIVING}_el",
    ]
    assert check_segments(folder).state == OK


def test_the_tool_of_fast_dds_where_it_is_installed(folder, tmp_path, monkeypatch):
    tool = tmp_path / "tools" / "fastdds"
    tool.parent.mkdir()
    tool.touch(mode=0o755)
    monkeypatch.setattr(segment_findings, "SHARED_MEMORY", folder)  # it looks nowhere else
    monkeypatch.setattr(sys, "executable", str(tool.with_name("python")))
    assert check_segments(folder).advice == f"{tool} shm clean"
    monkeypatch.setenv("PATH", f"{tool.parent}{os.pathsep}{os.environ['PATH']}")
    assert check_segments(folder).advice == "fastdds shm clean"
    put(folder, "fastdds_00000000000000ee")  # which the tool of Fast DDS 2 does not know
    assert "flock -n" in check_segments(folder).advice


def test_no_segments_and_no_shared_memory(tmp_path):
    assert check_segments(tmp_path).found == "0 in use, 0 left behind by killed processes"
    assert check_segments(tmp_path / "none").state == OK


@pytest.mark.skipif(os.geteuid() == 0, reason="root may open everything")
def test_what_may_not_be_opened_is_not_called_stale(folder):
    (folder / f"{DEAD}_el").chmod(0)
    assert states(folder) == {LIVING: True, DEAD: True}


def test_a_link_is_not_followed(folder):
    lock = folder / f"{DEAD}_el"
    lock.unlink()
    lock.symlink_to(folder / "target")
    assert states(folder) == {LIVING: True, DEAD: True}
    assert not (folder / "target").exists()
