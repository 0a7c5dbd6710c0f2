# SPDX-License-Identifier: Apache-2.0
"""A process that uses the plan store, for tests that kill it, starve it or start eight of it.

It prints one line of JSON. Run it with the folder of the checkout as the working folder::

    python -m tests.faults.plan_store_process VERB FOLDER [ARGUMENT]
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from perception_node.engines import plans
from perception_node.engines.plans import PlanStore, private_folder
from perception_node.errors import EngineBuildError, PlanMissing
from tests.plan_builders import NAME, ORIN, builder, never_built, plan

SOURCES = str(Path(plans.__file__).parent)
OLD, NEW, NEXT = b"old plan " * 8, b"new plan " * 9, b"next plan " * 7
PIECE_BYTES = 20  # so that a plan is written in several pieces
LARGE = bytes(200_000)


def build(folder: Path, log: str) -> dict[str, object]:
    """Wait for a line of input, then get the plan; a build writes its process id to ``log``."""

    def slow_build():
        with Path(log).open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")
        time.sleep(1.0)
        return plan(os.urandom(64), builder=os.getpid())

    print("ready", flush=True)
    sys.stdin.readline()
    stored = PlanStore(folder).build_once(NAME, ORIN, slow_build, timeout_s=60)
    return {
        "sha256": hashlib.sha256(stored.read()).hexdigest(),
        "manifest": hashlib.sha256(stored.path.read_bytes()).hexdigest(),
    }


def die_at_every_step(folder: Path, scenario: str) -> dict[str, object]:
    """Kill a builder before its n-th line of code, for all n, and use the store after each."""
    private_folder.WRITE_BYTES, private_folder.PROBE_BYTES = PIECE_BYTES, 2 * PIECE_BYTES
    prepared = folder / "prepared"
    if scenario == "replace":
        PlanStore(prepared).build_once(NAME, ORIN, builder(OLD))
    steps, state = 0, None
    seen = {"nothing": 0, "old": 0, "new": 0, "leftovers": 0, "states": 0}
    while True:
        steps += 1
        store = PlanStore(folder / "plans")
        shutil.rmtree(store.folder, ignore_errors=True)
        if prepared.exists():
            shutil.copytree(prepared, store.folder)
        if not _dies(steps, store):
            return {"steps": steps, **seen}
        seen["leftovers"] += any(file.suffix == ".tmp" for file in _files(store))
        seen[_content(store)] += 1
        before, state = state, {file.name: file.read_bytes() for file in _files(store)}
        if state != before:  # else the step before left the same, and was checked
            seen["states"] += 1
            _check_usable(store)


def _dies(step: int, store: PlanStore) -> bool:
    """Build in a child that is killed before its line number ``step``; False if it had fewer."""
    child = os.fork()
    if child == 0:
        left = step

        def count(frame, event, _argument):
            nonlocal left
            if event == "line":
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
            return count if frame.f_code.co_filename.startswith(SOURCES) else None

        sys.settrace(count)
        store.build_once(NAME, ORIN, builder(NEW), force=True)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        assert os.WTERMSIG(status) == signal.SIGKILL
        return True
    assert os.waitstatus_to_exitcode(status) == 0
    return False


def _content(store: PlanStore) -> str:
    try:
        content = store.find(NAME, ORIN).read()
    except PlanMissing:
        return "nothing"
    return {OLD: "old", NEW: "new"}[content]


def _check_usable(store: PlanStore) -> None:
    stored = store.build_once(NAME, ORIN, builder(NEXT), force=True, timeout_s=0)
    assert stored.read() == NEXT
    assert store.build_once(NAME, ORIN, never_built) == stored
    assert sorted(file.suffix for file in _files(store)) == [".json", ".lock", ".plan"]
    assert {file.stat().st_mode & 0o777 for file in _files(store)} == {0o600}


def _files(store: PlanStore) -> list[Path]:
    return list(store.folder.iterdir()) if store.folder.exists() else []


def fail_to_write(folder: Path, how: str) -> dict[str, object]:
    """Replace a plan on a disk that cannot take it, and say what is left."""
    if how in {"full disk", "read-only disk"}:
        folder.mkdir(mode=0o700)
        _run("mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "none", folder)
    store = PlanStore(folder)
    store.build_once(NAME, ORIN, builder(OLD))
    before = sorted(file.name for file in _files(store))
    if how == "file size limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    elif how == "read-only disk":
        _run("mount", "-o", "remount,ro", folder)
    elif how == "no permission":
        _give_up_permissions(folder)
    try:
        store.build_once(NAME, ORIN, builder(LARGE), force=True)
        error = "none"
    except EngineBuildError as failure:
        error = str(failure)
    return {
        "error": error,
        "content": _content(store),
        "loaded without building": store.build_once(NAME, ORIN, never_built).read() == OLD,
        "files unchanged": sorted(file.name for file in _files(store)) == before,
    }


def _run(*command: object) -> None:
    subprocess.run([str(word) for word in command], check=True)


def _give_up_permissions(folder: Path) -> None:
    if os.geteuid() == 0:  # root may write anywhere
        for file in (*folder.iterdir(), folder, folder.parent):
            os.chown(file, 65534, -1)
        folder.chmod(0o500)
        os.seteuid(65534)
    else:
        folder.chmod(0o500)
    for lock in folder.glob("*.lock"):
        lock.chmod(0o400)


if __name__ == "__main__":
    verbs = {"build": build, "die": die_at_every_step, "fail": fail_to_write}
    result = verbs[sys.argv[1]](Path(sys.argv[2]), *sys.argv[3:])
    print(json.dumps(result))
