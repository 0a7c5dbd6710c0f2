# SPDX-License-Identifier: Apache-2.0
"""What may lie in the place of a file, and must neither be waited for nor read for ever."""

from __future__ import annotations

import os
import shutil
import socket


def _make_socket(path):
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.open(path.parent, os.O_RDONLY)  # the whole path may be too long for a socket
        before = os.open(".", os.O_RDONLY)
        try:
            os.fchdir(here)
            listener.bind(path.name)
        finally:
            os.fchdir(before)
            os.close(here)
            os.close(before)


ODD = {
    "FIFO": os.mkfifo,
    "folder": lambda path: path.mkdir(),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "terminal": lambda path: path.symlink_to("/dev/ptmx"),
    "socket": _make_socket,
    "loop": lambda path: path.symlink_to(path.name),
    "link to a FIFO": lambda path: (
        os.mkfifo(path.with_name(f"{path.name}.fifo")),
        path.symlink_to(f"{path.name}.fifo"),
    ),
    "link to nothing": lambda path: path.symlink_to("nothing"),
    "huge": lambda path: (path.touch(), os.truncate(path, 3 << 40)),
}


def put(kind, path):
    """Put something odd in the place of ``path``."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    path.unlink(missing_ok=True)
    ODD[kind](path)
