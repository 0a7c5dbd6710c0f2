# SPDX-License-Identifier: Apache-2.0
"""Read and write small sets of files safely: regular files only, replaced as a whole."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

from perception_node.errors import ConfigError


def read_regular_file(path: Path, limit_bytes: int) -> bytes:
    """Return the whole content of a regular file.

    Opening never blocks: a FIFO or a device in the place of a file is refused.

    Raises:
        OSError: the file is missing, unreadable, not a regular file or over ``limit_bytes``.

    """
    if "\0" in str(path):  # Python would raise ValueError
        msg = "no file has NUL in its name"
        raise OSError(msg)
    # Not os.fdopen, which leaves the descriptor of a folder open.
    with open(path, "rb", opener=_open_at_once) as file:
        status = os.fstat(file.fileno())
        _check(status, limit_bytes)
        return file.read(status.st_size)  # read() makes room for all that it is asked for


def _open_at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)


def require_regular_file(path: Path, limit_bytes: int | None = None) -> None:
    """Require what a library is about to open itself to be a file, of a bounded size.

    Of a FIFO or a device the library would read for ever.

    Raises:
        OSError: it is missing, not a regular file or over ``limit_bytes``.

    """
    _check(path.stat(), limit_bytes)


def _check(status: os.stat_result, limit_bytes: int | None) -> None:
    if not stat.S_ISREG(status.st_mode):
        msg = "not a regular file"
        raise OSError(msg)
    if limit_bytes is not None and status.st_size > limit_bytes:
        msg = f"{status.st_size} bytes are more than the {limit_bytes} allowed"
        raise OSError(msg)


def replace_file(path: Path, *parts: bytes | memoryview) -> None:
    """Write ``parts`` to ``path`` so that a crash leaves the old file or the new one.

    Raises:
        OSError: the folder cannot be written to; nothing was changed.

    """
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(descriptor)
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def write_named_file(path: Path, content: bytes) -> None:
    """Write to a file that somebody has named; see ``replace_file``.

    Raises:
        ConfigError: it cannot be written.

    """
    try:
        replace_file(path, content)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be written: {error.strerror or error}") from error


def _sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
