# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import pytest

from perception_node.system.files import read_regular_file, replace_file


def count_open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_file_is_read_up_to_the_limit(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"12345")
    assert read_regular_file(file, 5) == b"12345"
    with pytest.raises(OSError, match="5 bytes are more than the 4 allowed"):
        read_regular_file(file, 4)


@pytest.mark.timeout(10)
def test_a_pipe_is_refused_without_waiting_for_its_other_end(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        read_regular_file(tmp_path / "pipe", 100)


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/"])
def test_only_regular_files_are_read(path):
    with pytest.raises(OSError, match=r"not a regular file|Is a directory"):
        read_regular_file(path, 100)


def test_reading_leaves_no_descriptor_open(tmp_path):
    (tmp_path / "file").write_bytes(b"12345")
    before = count_open_files()
    for limit in (5, 4):
        for _ in range(20):
            try:
                read_regular_file(tmp_path / "file", limit)
            except OSError:
                assert limit == 4
    assert count_open_files() == before


@pytest.mark.parametrize("put", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_leaves_no_descriptor_open(tmp_path, put):
    put(tmp_path / "file")
    before = count_open_files()
    for _ in range(20):
        with pytest.raises(OSError, match=r"not a regular file|Is a directory"):
            read_regular_file(tmp_path / "file", 100)
    assert count_open_files() == before


def test_a_file_is_made_and_replaced(tmp_path):
    for content in (b"old", b"", b"new"):
        replace_file(tmp_path / "file", content)
        assert (tmp_path / "file").read_bytes() == content
    assert [file.name for file in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o644


def test_readers_keep_the_old_content(tmp_path):
    replace_file(tmp_path / "file", b"old")
    with (tmp_path / "file").open("rb") as reader:
        replace_file(tmp_path / "file", b"new!")
        assert reader.read() == b"old"


def test_a_failure_changes_nothing(tmp_path):
    (tmp_path / "taken").mkdir()
    before = count_open_files()
    with pytest.raises(OSError, match="taken"):
        replace_file(tmp_path / "taken", b"content")
    with pytest.raises(FileNotFoundError):
        replace_file(tmp_path / "nowhere/file", b"content")
    assert [file.name for file in tmp_path.iterdir()] == ["taken"]
    assert count_open_files() == before
