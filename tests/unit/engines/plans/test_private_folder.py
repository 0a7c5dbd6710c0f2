# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import socket
from contextlib import closing
from pathlib import Path

import pytest

from perception_node.engines.plans import private_folder
from perception_node.engines.plans.private_folder import PrivateFolder
from perception_node.errors import PlanIntegrityError


def count_open_files():
    return len(list(Path("/proc/self/fd").iterdir()))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "made/of/parts"


@pytest.fixture
def folder(path):
    before = count_open_files()
    with PrivateFolder(path, create=True) as opened:
        yield opened
    assert count_open_files() == before


def test_what_is_written_is_read(folder, path, monkeypatch):
    monkeypatch.setattr(private_folder, "WRITE_BYTES", 3)
    for content in (b"old", b"", b"longer than before", bytes(range(256))):
        folder.replace("file", content)
        assert folder.read("file", 256) == content
        assert folder.names() == [file.name for file in path.iterdir()] == ["file"]


def test_only_the_owner_gets_permissions(folder, path):
    folder.replace("file", b"content")
    os.close(folder.try_lock("lock"))
    assert path.stat().st_mode & 0o7777 == 0o700
    for file in path.iterdir():
        assert file.stat().st_mode & 0o7777 == 0o600


def test_an_existing_folder_is_used_as_it_is(path):
    path.mkdir(parents=True)
    path.chmod(0o755)  # others may look
    with PrivateFolder(path, create=True) as folder:
        folder.replace("file", b"content")
    assert path.stat().st_mode & 0o7777 == 0o755


def test_a_missing_folder_is_only_made_when_asked_for(path):
    with pytest.raises(FileNotFoundError):
        PrivateFolder(path)
    assert not path.exists()


@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777, 0o1777])
@pytest.mark.parametrize("create", [False, True])
def test_a_folder_that_others_may_write_to_is_refused(path, mode, create):
    path.mkdir(parents=True)
    path.chmod(mode)
    before = count_open_files()
    with pytest.raises(
        PlanIntegrityError,
        match=rf"parts: others may write to it \(mode {mode:04o}\); run: chmod go-w '{path}'",
    ):
        PrivateFolder(path, create=create)
    assert count_open_files() == before


@pytest.mark.parametrize("create", [False, True])
def test_somebody_elses_folder_is_refused(path, monkeypatch, create):
    path.mkdir(parents=True, mode=0o700)
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(PlanIntegrityError, match=f"parts: belongs to user {me}, not to {me + 1}"):
        PrivateFolder(path, create=create)


@pytest.mark.parametrize("create", [False, True])
def test_a_link_to_a_folder_is_refused(path, tmp_path, create):
    path.parent.mkdir(parents=True)
    (tmp_path / "real").mkdir(mode=0o700)
    path.symlink_to(tmp_path / "real")
    with pytest.raises(PlanIntegrityError, match="parts: is a symbolic link"):
        PrivateFolder(path, create=create)


def test_a_folder_that_is_swapped_for_another_stays_the_one_that_was_checked(folder, path):
    folder.replace("file", b"checked")
    path.rename(path.with_name("moved"))
    path.mkdir(mode=0o777)
    (path / "file").write_bytes(b"forged")
    assert folder.read("file", 100) == b"checked"
    folder.replace("file", b"new")
    assert (path.with_name("moved") / "file").read_bytes() == b"new"


def put_link(file):
    file.with_name("target").write_bytes(b"content")
    file.with_name("target").chmod(0o600)
    file.symlink_to("target")


def put_socket(file):
    here = Path.cwd()
    os.chdir(file.parent)  # a socket's path may have 108 characters only
    try:
        with closing(socket.socket(socket.AF_UNIX)) as server:
            server.bind(file.name)
    finally:
        os.chdir(here)


NO_FILES = {
    "link": put_link,
    "link to nothing": lambda file: file.symlink_to("nothing"),
    "link to itself": lambda file: file.symlink_to(file.name),
    "link to a device": lambda file: file.symlink_to("/dev/zero"),
    "link to memory": lambda file: file.symlink_to("/proc/self/mem"),
    "pipe": os.mkfifo,
    "socket": put_socket,
    "folder": Path.mkdir,
}


@pytest.mark.timeout(10)
@pytest.mark.parametrize("put", NO_FILES.values(), ids=NO_FILES)
def test_what_is_no_regular_file_is_neither_read_nor_locked(folder, path, put):
    put(path / "file")
    with pytest.raises(PlanIntegrityError, match="file: is not a regular file"):
        folder.read("file", 100)
    with pytest.raises(PlanIntegrityError, match="file: is not a regular file"):
        folder.try_lock("file")


@pytest.mark.parametrize("mode", [0o620, 0o602, 0o666])
def test_a_file_that_others_may_write_to_is_refused(folder, path, mode):
    folder.replace("file", b"content")
    (path / "file").chmod(mode)
    with pytest.raises(
        PlanIntegrityError, match=rf"file: others may write to it \(mode {mode:04o}"
    ):
        folder.read("file", 100)
    with pytest.raises(PlanIntegrityError, match="file: others may write"):
        folder.try_lock("file")


def test_somebody_elses_file_is_refused(folder, monkeypatch):
    folder.replace("file", b"content")
    me = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: me + 1)
    with pytest.raises(PlanIntegrityError, match=f"file: belongs to user {me}, not to {me + 1}"):
        folder.read("file", 100)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_that_was_given_away_is_refused(folder, path):
    folder.replace("file", b"content")
    os.chown(path / "file", 65534, -1)
    with pytest.raises(PlanIntegrityError, match="file: belongs to user 65534, not to 0"):
        folder.read("file", 100)


def test_a_file_is_read_up_to_the_limit(folder):
    folder.replace("file", b"12345")
    assert folder.read("file", 5) == b"12345"
    with pytest.raises(PlanIntegrityError, match="5 bytes are more than the 4 allowed"):
        folder.read("file", 4)


def test_a_link_in_the_place_of_a_file_is_replaced_not_followed(folder, path):
    put_link(path / "file")
    folder.replace("file", b"new")
    assert folder.read("file", 100) == b"new"
    assert (path / "target").read_bytes() == b"content"


def test_a_link_in_the_place_of_the_temporary_file_is_not_followed(folder, path, tmp_path):
    (tmp_path / "precious").write_bytes(b"content")
    (path / "file.tmp").symlink_to(tmp_path / "precious")
    folder.replace("file", b"new")
    assert (tmp_path / "precious").read_bytes() == b"content"
    assert folder.names() == ["file"]


def test_readers_keep_the_old_content(folder, path):
    folder.replace("file", b"old")
    with (path / "file").open("rb") as reader:
        folder.replace("file", b"new!")
        assert reader.read() == b"old"


def test_removing_a_missing_file_is_allowed(folder):
    folder.replace("file", b"content")
    folder.remove("file")
    folder.remove("file")
    assert folder.names() == []


def test_a_lock_has_one_owner(folder, path):
    with PrivateFolder(path) as other:
        lock = folder.try_lock("lock")
        assert other.try_lock("lock") is None
        other_lock = other.try_lock("other lock")
        assert other_lock is not None
        os.close(other_lock)
        os.close(lock)
        lock = other.try_lock("lock")
        assert lock is not None
        os.close(lock)


def test_a_lock_whose_file_was_removed_locks_nobody_out(folder):
    lock = folder.try_lock("lock")
    folder.remove("lock")  # as ``prune`` does, while it holds the lock
    next_lock = folder.try_lock("lock")
    assert next_lock is not None
    assert folder.try_lock("lock") is None
    os.close(lock)
    assert folder.try_lock("lock") is None
    os.close(next_lock)


def test_a_lock_file_that_is_removed_just_before_it_is_locked_is_not_taken(folder, monkeypatch):
    flock, removed = private_folder.fcntl.flock, []

    def remove_once(descriptor, operation):
        if not removed:
            removed.append("lock")
            folder.remove("lock")
        return flock(descriptor, operation)

    monkeypatch.setattr(private_folder.fcntl, "flock", remove_once)
    lock = folder.try_lock("lock")
    assert removed
    assert folder.try_lock("lock") is None
    os.close(lock)


def test_a_power_cut_cannot_tear_a_file(folder, monkeypatch):
    """Content reaches the disk before the name does, and the name before anything else."""
    steps = []

    def spy(name, real):
        def call(*arguments, **options):
            steps.append((name, where(arguments[0])))
            return real(*arguments, **options)

        monkeypatch.setattr(os, name, call)

    def where(argument):
        if isinstance(argument, int):
            return Path(f"/proc/self/fd/{argument}").readlink().name
        return argument

    for name in ("write", "fsync", "replace"):
        spy(name, getattr(os, name))
    folder.replace("file", b"content")
    assert steps == [
        ("write", "file.tmp"),
        ("fsync", "file.tmp"),
        ("replace", "file.tmp"),
        ("fsync", "parts"),
    ]
