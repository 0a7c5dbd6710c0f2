# SPDX-License-Identifier: Apache-2.0
"""A folder that nobody but its owner can change, and files in it that change as a whole."""

from __future__ import annotations

import fcntl
import os
import stat
from contextlib import suppress
from typing import TYPE_CHECKING

from perception_node.errors import PlanIntegrityError

if TYPE_CHECKING:
    from pathlib import Path

TEMPORARY = ".tmp"
WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
PROBE_BYTES = 4096
WRITE_BYTES = 1 << 24  # a write can be interrupted between two pieces
LOCAL_FLAGS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class PrivateFolder:
    """An open folder that belongs to this user, who alone may write to it.

    It is checked when it is opened and then kept open: all names are relative to the folder that
    was checked, whatever its path leads to meanwhile. Use it in a ``with`` statement.

    Raises:
        PlanIntegrityError: the folder is a link, belongs to somebody else, or others may write
            to it.
        OSError: it cannot be opened, or made.

    """

    def __init__(self, path: Path, *, create: bool = False) -> None:
        self.path = path
        if create:
            path.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.is_symlink():
            raise PlanIntegrityError(path, "is a symbolic link; give the folder it leads to")
        self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | LOCAL_FLAGS)
        try:
            _check_owner(path, os.fstat(self._descriptor))
        except BaseException:
            os.close(self._descriptor)
            raise

    def __enter__(self) -> PrivateFolder:
        """Return the open folder."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the folder."""
        os.close(self._descriptor)

    def names(self) -> list[str]:
        """Return the names of all files, sorted.

        Raises:
            OSError: the folder cannot be read.

        """
        with os.scandir(self._descriptor) as entries:  # a path may lead elsewhere
            return sorted(entry.name for entry in entries)

    def read(self, name: str, limit_bytes: int) -> bytes:
        """Return the content of a regular file; opening it never blocks.

        Raises:
            PlanIntegrityError: it is a link or no regular file, belongs to somebody else, others
                may write to it, or it is larger than ``limit_bytes``.
            OSError: it is missing or cannot be read.

        """
        descriptor = self._open(name, os.O_RDONLY)
        with os.fdopen(descriptor, "rb") as file:
            size = os.fstat(descriptor).st_size
            if size > limit_bytes:
                problem = f"{size} bytes are more than the {limit_bytes} allowed"
                raise PlanIntegrityError(self.path / name, problem)
            return file.read(size)  # read() makes room for all that it is asked for

    def replace(self, name: str, content: bytes) -> None:
        """Write a file so that a crash or a power cut leaves the old content or the new.

        The caller holds a lock: two writers of one name would share the temporary file.

        Raises:
            OSError: it cannot be written; no temporary file is left, and the old content is
                still there unless only the last step failed, which makes the new one durable.

        """
        temporary = name + TEMPORARY
        self.remove(temporary)
        try:
            self._write(temporary, content)
            os.replace(temporary, name, src_dir_fd=self._descriptor, dst_dir_fd=self._descriptor)
        except BaseException:
            with suppress(OSError):
                self.remove(temporary)
            raise
        os.fsync(self._descriptor)

    def check_writable(self, name: str) -> None:
        """Write and remove the temporary file of ``name``, which shows most of what can go wrong.

        Raises:
            OSError: the folder cannot be written, or the disk is full.

        """
        try:
            self._write(name + TEMPORARY, bytes(PROBE_BYTES))
        finally:
            self.remove(name + TEMPORARY)

    def remove(self, name: str) -> None:
        """Remove a file, a link or a FIFO; it may be missing.

        Raises:
            PlanIntegrityError: it is a folder.
            OSError: it cannot be removed.

        """
        try:
            os.unlink(name, dir_fd=self._descriptor)
        except FileNotFoundError:
            pass
        except OSError as error:
            with suppress(FileNotFoundError):
                found = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
                if stat.S_ISDIR(found.st_mode):
                    _check_regular(self.path / name, found, error)
            raise

    def try_lock(self, name: str) -> int | None:
        """Return a descriptor that holds the lock until ``os.close``, None if another has it.

        The system closes the descriptors of a process that dies, so no lock outlives its owner.

        Raises:
            PlanIntegrityError: the lock file is not a file of this user.
            OSError: the lock file cannot be made.

        """
        while True:
            descriptor = self._open(name, os.O_RDWR | os.O_CREAT)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if self._is_current(name, descriptor):
                    return descriptor
            except BlockingIOError:
                os.close(descriptor)
                return None
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)  # whoever had the lock removed its file: lock the next one

    def _is_current(self, name: str, descriptor: int) -> bool:
        """Tell whether ``name`` still leads to the open file."""
        try:
            found = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return os.path.samestat(found, os.fstat(descriptor))

    def _open(self, name: str, flags: int) -> int:
        path = self.path / name
        try:
            descriptor = os.open(name, flags | LOCAL_FLAGS, 0o600, dir_fd=self._descriptor)
        except OSError as error:
            with suppress(FileNotFoundError):  # a link or a socket cannot be opened
                found = os.stat(name, dir_fd=self._descriptor, follow_symlinks=False)
                _check_regular(path, found, error)
            raise
        try:
            _check_regular(path, os.fstat(descriptor))
            _check_owner(path, os.fstat(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _write(self, name: str, content: bytes) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | LOCAL_FLAGS
        descriptor = os.open(name, flags, 0o600, dir_fd=self._descriptor)
        try:
            rest = memoryview(content)
            while rest:
                rest = rest[os.write(descriptor, rest[:WRITE_BYTES]) :]
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _check_regular(path: Path, status: os.stat_result, cause: OSError | None = None) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise PlanIntegrityError(path, "is not a regular file; remove it") from cause


def _check_owner(path: Path, status: os.stat_result) -> None:
    if status.st_uid != os.geteuid():
        problem = f"belongs to user {status.st_uid}, not to {os.geteuid()} who runs this"
        raise PlanIntegrityError(path, f"{problem}; remove it or choose another plan store")
    if status.st_mode & WRITABLE_BY_OTHERS:
        mode = stat.S_IMODE(status.st_mode)
        advice = "remove it, plans are private"
        if stat.S_ISDIR(status.st_mode):
            advice = f"run: chmod go-w '{path}', or choose another plan store"
        raise PlanIntegrityError(path, f"others may write to it (mode {mode:04o}); {advice}")
