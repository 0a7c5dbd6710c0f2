# SPDX-License-Identifier: Apache-2.0
"""Links, FIFOs and folders in the place of the store's files stop neither prune nor a build."""

from __future__ import annotations

import os

import pytest

from perception_node.cli import main
from perception_node.engines.plans import PlanStore
from perception_node.errors import PlanIntegrityError
from tests.odd_files import ODD, put
from tests.plan_builders import NAME, ORIN, builder, never_built, with_other


@pytest.fixture
def store(tmp_path):
    return PlanStore(tmp_path / "plans")


@pytest.fixture
def stored(store):
    return store.build_once(NAME, ORIN, builder())


def describe_skipped(store):
    """Prune; return the names of the files that were skipped, and those that were removed."""
    skipped = []
    removed = store.prune(on_skip=skipped.append)
    names = [line.partition(": ")[0].rpartition("/")[2] for line in skipped]
    assert all(line.count("\n") == 0 and "remove it" in line for line in skipped), skipped
    return sorted(names), sorted(path.name for path in removed)


@pytest.mark.timeout(30)
@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("end", [".lock", ".json", ".plan", ".json.tmp", ".plan.tmp", ".cache"])
def test_prune_goes_on_whatever_lies_there_and_says_what_it_skips(store, stored, kind, end):
    orphan = store.build_once(NAME, with_other("cuda"), builder(b"orphan"))
    orphan.path.unlink()
    stem = f"a.fp16.{'0' * 16}"
    middle = f".{'1' * 16}" if ".plan" in end else ""
    odd = store.folder / f"{stem}{middle}{end}"
    put(kind, odd)
    skipped, removed = describe_skipped(store)
    assert orphan.plan_file in removed
    assert stored in store.entries()
    is_kept = kind == "folder" or (end == ".lock" and kind != "huge")
    assert skipped == ([odd.name] if is_kept else [])
    assert os.path.lexists(odd) == is_kept
    assert store.build_once(NAME, with_other("gpu"), builder()), "who builds is not disturbed"


@pytest.mark.parametrize("kind", ["FIFO", "folder", "device", "loop"])
@pytest.mark.parametrize("end", [".lock", ".json.tmp"])
def test_what_is_in_the_way_of_a_build_is_named(store, stored, kind, end):
    odd = store.folder / f"{stored.path.stem}{end}"
    put(kind, odd)
    if end == ".lock" or kind == "folder":
        with pytest.raises(PlanIntegrityError, match=rf"{odd.name}: is not a regular file"):
            store.build_once(NAME, ORIN, never_built, force=True)
    else:
        assert store.build_once(NAME, ORIN, builder(b"again"), force=True)
    assert store.entries()


def test_the_command_says_what_it_skipped(store, stored, capsys):
    folder = store.folder / f"{stored.path.name}.tmp"
    folder.mkdir()
    lock = store.folder / f"b.fp16.{'0' * 16}.lock"
    lock.symlink_to("/etc/passwd")
    arguments = ["build", "--prune", "--store", str(store.folder)]
    assert main(arguments) == 1
    shown = capsys.readouterr()
    lines = shown.err.splitlines()
    assert len(lines) == 2
    for path, line in zip((lock, folder), sorted(lines), strict=True):
        assert line == f"perception: skipped: {path}: is not a regular file; remove it"
    assert shown.out.endswith("files removed\n")
    folder.rmdir()
    lock.unlink()
    assert main(arguments) == 0
