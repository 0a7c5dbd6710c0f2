# SPDX-License-Identifier: Apache-2.0
"""Let this process read some folders and nothing else: Landlock, Linux 5.13 and newer."""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same on every machine
VERSION_FLAG = 1
RULE_PATH_BENEATH = 1
READ_FILE, READ_FOLDER = 1 << 2, 1 << 3
# How many rights to the file system each version knows (linux/landlock.h).
RIGHTS_BY_VERSION = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
NETWORK_SINCE, TCP_BIND_AND_CONNECT = 4, 0b11
SCOPE_SINCE, ABSTRACT_SOCKETS_AND_SIGNALS = 6, 0b11


class _Ruleset(ctypes.Structure):
    """``struct landlock_ruleset_attr``: what is forbidden unless a rule allows it."""

    _fields_ = (
        ("files", ctypes.c_uint64),
        ("network", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


class _PathRule(ctypes.Structure):
    """``struct landlock_path_beneath_attr``."""

    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def landlock_version() -> int:
    """Return the kernel's version of Landlock, 0 where it has none or it is switched off."""
    return max(0, _call(CREATE_RULESET, None, 0, VERSION_FLAG))


def allow_only_reading(folders: Iterable[Path]) -> bool:
    """Forbid this thread, and those it starts, all access to files but reading these folders.

    Files that are open stay open. ``PR_SET_NO_NEW_PRIVS`` must have been set. A folder that does
    not exist is passed over. Returns False where the kernel cannot do it.
    """
    version = landlock_version()
    if version == 0:
        return False
    ruleset = _Ruleset(
        files=(1 << RIGHTS_BY_VERSION.get(version, max(RIGHTS_BY_VERSION.values()))) - 1,
        network=TCP_BIND_AND_CONNECT if version >= NETWORK_SINCE else 0,
        scoped=ABSTRACT_SOCKETS_AND_SIGNALS if version >= SCOPE_SINCE else 0,
    )
    # An older kernel accepts the longer structure as long as the rest of it is zero.
    descriptor = _call(CREATE_RULESET, ctypes.byref(ruleset), ctypes.sizeof(ruleset), 0)
    if descriptor < 0:
        return False
    try:
        added = [_allow(descriptor, folder) for folder in folders]
        return all(added) and _call(RESTRICT_SELF, descriptor, 0) == 0
    finally:
        os.close(descriptor)


def _allow(ruleset: int, path: Path) -> bool:
    try:
        parent = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return True
    try:
        rights = READ_FILE | READ_FOLDER if path.is_dir() else READ_FILE
        rule = _PathRule(rights, parent)
        return _call(ADD_RULE, ruleset, RULE_PATH_BENEATH, ctypes.byref(rule), 0) == 0
    finally:
        os.close(parent)


def _call(number: int, *arguments: object) -> int:
    """Make a system call; plain numbers are passed as long."""
    converted = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    return int(ctypes.CDLL(None, use_errno=True).syscall(ctypes.c_long(number), *converted))
