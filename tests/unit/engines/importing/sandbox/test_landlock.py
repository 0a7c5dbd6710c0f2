# SPDX-License-Identifier: Apache-2.0
"""Landlock's numbers and structures, against the kernel's own names for both machines."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from perception_node.engines.importing.sandbox import landlock
from tests.kernel_names import CALLS, CONSTANTS

# Each version knows the rights up to this one; the third added one, the fourth was about networks.
NEWEST_RIGHT = {1: "MAKE_SYM", 2: "REFER", 3: "TRUNCATE", 4: "TRUNCATE", 5: "IOCTL_DEV"}


@pytest.fixture(params=CALLS)
def names(request):
    return {**CALLS[request.param], **CONSTANTS[request.param]}


def test_the_numbers_are_the_kernels(names):
    assert names["landlock_create_ruleset"] == landlock.CREATE_RULESET
    assert names["landlock_add_rule"] == landlock.ADD_RULE
    assert names["landlock_restrict_self"] == landlock.RESTRICT_SELF
    assert names["LANDLOCK_CREATE_RULESET_VERSION"] == landlock.VERSION_FLAG
    assert names["LANDLOCK_RULE_PATH_BENEATH"] == landlock.RULE_PATH_BENEATH


def test_the_rights_are_the_kernels(names):
    assert names["LANDLOCK_ACCESS_FS_READ_FILE"] == landlock.READ_FILE
    assert names["LANDLOCK_ACCESS_FS_READ_DIR"] == landlock.READ_FOLDER
    network = ("LANDLOCK_ACCESS_NET_BIND_TCP", "LANDLOCK_ACCESS_NET_CONNECT_TCP")
    assert sum(names[name] for name in network) == landlock.TCP_BIND_AND_CONNECT
    scopes = ("LANDLOCK_SCOPE_ABSTRACT_UNIX_SOCKET", "LANDLOCK_SCOPE_SIGNAL")
    assert sum(names[name] for name in scopes) == landlock.ABSTRACT_SOCKETS_AND_SIGNALS
    newest = {v: names[f"LANDLOCK_ACCESS_FS_{right}"] for v, right in NEWEST_RIGHT.items()}
    assert {v: 1 << count - 1 for v, count in landlock.RIGHTS_BY_VERSION.items()} == newest


def test_the_structures_are_the_kernels(names):
    ruleset, rule = landlock._Ruleset, landlock._PathRule
    assert ctypes.sizeof(ruleset) == names["sizeof landlock_ruleset_attr"]
    assert ctypes.sizeof(rule) == names["sizeof landlock_path_beneath_attr"]
    places = {
        "landlock_ruleset_attr.handled_access_fs": ruleset.files,
        "landlock_ruleset_attr.handled_access_net": ruleset.network,
        "landlock_ruleset_attr.scoped": ruleset.scoped,
        "landlock_path_beneath_attr.allowed_access": rule.allowed,
        "landlock_path_beneath_attr.parent_fd": rule.parent,
    }
    assert {name: field.offset for name, field in places.items()} == {
        name: names[name] for name in places
    }


@pytest.mark.skipif(not landlock.landlock_version(), reason="this kernel has no Landlock")
def test_only_the_named_folders_can_be_read(tmp_path):
    for name in ("given", "withheld"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    program = f"""
import ctypes
from pathlib import Path
from perception_node.engines.importing.sandbox.landlock import allow_only_reading
folder = Path({str(tmp_path)!r})
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
print(allow_only_reading([folder / "given"]))
print((folder / "given/file").read_text())
for action in ((folder / "withheld/file").read_text, (folder / "given/new").touch):
    try:
        action()
    except PermissionError:
        print("refused")
"""
    child = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert child.stdout.split() == ["True", "given", "refused", "refused"]
