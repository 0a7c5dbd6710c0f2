# SPDX-License-Identifier: Apache-2.0
"""Models that attack: whatever they do, the import ends with one line and nothing was changed."""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import pytest

from perception_node.engines.importing.files.archive import check_archive
from perception_node.engines.importing.importer import Order, import_model
from perception_node.engines.importing.sandbox import sandbox
from perception_node.engines.importing.sandbox.confinement import Limits
from perception_node.engines.importing.sandbox.landlock import landlock_version
from perception_node.errors import ConversionError, EnvironmentLacks
from tests.builders import ROOT, perception
from tests.hostile_builders import COSTLY, REFUSED, endless, external
from tests.import_builders import (
    SAID,
    SCRIPT_SAID,
    rezip,
    scores_network,
    script,
    small_module,
    torch,
)

if TYPE_CHECKING:
    from perception_node.engines.importing.settings import Wishes

LIMITS = Limits(wall_s=60.0, cpu_s=30, memory_bytes=1 << 30, file_bytes=64 << 20)
SMALL = replace(SCRIPT_SAID, size=(16, 16))
needs_landlock = pytest.mark.skipif(not landlock_version(), reason="this kernel has no Landlock")


@pytest.fixture
def refuse(tmp_path):
    """Import a file that must be refused; return the line that says why."""
    (tmp_path / "work").mkdir()

    def run(content: bytes, *, limits: Limits = LIMITS, wishes: Wishes = SAID) -> str:
        model = tmp_path / "model"
        model.write_bytes(content)
        order = Order(model, tmp_path / "work/bundle", wishes, limits=limits)
        with pytest.raises(ConversionError) as caught:
            import_model(order)
        assert not list((tmp_path / "work").iterdir())
        message = str(caught.value)
        assert message.startswith(f"{model}: ")
        assert "\n" not in message
        return message

    return run


# The confinement itself

UNIX_ERRORS = {"EPERM", "EACCES"}


@pytest.fixture(scope="module", params=["new", "old"])
def confined(tmp_path_factory, request):
    """What a confined process could do that tried everything, on a new and an old kernel."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "victim").write_bytes(b"untouched")
    here = tmp_path_factory.mktemp("inside")
    arguments = [str(folder), str(os.getpid()), request.param]
    result = subprocess.run(
        [sys.executable, "-m", "tests.faults.confined", *arguments],
        cwd=here,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (folder / "victim").read_bytes() == b"untouched"
    assert [file.name for file in folder.iterdir()] == ["victim"]
    assert not list(here.iterdir())
    return json.loads(result.stdout)


READING = {
    "read elsewhere",
    "read the victim",
    "read the parent's environment",
    "list elsewhere",
}


def test_a_confined_process_can_do_nothing_to_others(confined):
    found = {name: why for name, why in confined["found"].items() if name not in READING}
    assert found.pop("much memory") == "MemoryError"
    assert found.pop("more time") == "ValueError"
    assert len(found) > 45
    assert {name: why for name, why in found.items() if why not in UNIX_ERRORS} == {}


@needs_landlock
def test_a_confined_process_reads_no_files_of_others(confined):
    assert confined["missing"] == []
    assert {confined["found"][name] for name in READING} == {"EACCES"}


def test_a_confined_process_may_start_threads(confined):
    assert confined["threads"] == 1


SIGNALS = "no signals to other processes (seccomp)"
PRIORITIES = "no changes of other processes' priorities (seccomp)"
LOOKING = "no looking into other processes (seccomp)"
OTHER_WAYS = "no other ways into the kernel (seccomp)"
PROMISES = {
    "no network (seccomp)": "socket",
    "no other programs (seccomp)": "execve",
    SIGNALS: "kill tkill pidfd_open timer_create mq_notify "
    "F_SETOWN F_SETSIG F_SETOWN_EX SIOCSPGRP",
    PRIORITIES: "setpriority sched_setaffinity sched_setscheduler sched_setparam sched_setattr "
    "ioprio_set setpgid PR_SET_PDEATHSIG",
    LOOKING: "process_vm_readv process_vm_writev msgrcv",
    OTHER_WAYS: "keyctl flock",
}


@needs_landlock
def test_each_promise_that_does_not_hold_is_found_at_start(tmp_path):
    """For each rule there is a process whose filter lacks it, and which must say so."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.faults.probing"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(result.stdout)
    assert found.pop("") == []
    expected = {rule: [promise] for promise, rules in PROMISES.items() for rule in rules.split()}
    assert found == expected


@pytest.fixture
def without_landlock(monkeypatch):
    monkeypatch.setattr(sandbox, "CHILD", "tests.faults.child_without_landlock")


@pytest.mark.slow
@pytest.mark.usefixtures("without_landlock")
def test_code_is_not_run_where_the_kernel_cannot_confine_it(tmp_path):
    model = tmp_path / "model.zip"
    model.write_bytes(script(small_module()))
    with pytest.raises(EnvironmentLacks, match=r"missing no reading.*Landlock.*--trust-model"):
        import_model(Order(model, tmp_path / "bundle", SMALL))
    assert not (tmp_path / "bundle").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("without_landlock")
def test_code_of_a_trusted_file_is_run_there(tmp_path):
    model = tmp_path / "model.zip"
    model.write_bytes(script(small_module()))
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    order = Order(model, tmp_path / "bundle", SMALL, trust=digest)
    assert import_model(order).labels == ("red", "green", "blue")


# TorchScript


ATTACKS = {
    "write": "PyTorch cannot run it: .*(not permitted|denied)",
    "fill": "PyTorch cannot run it: .*memory",
    "raise": r"PyTorch cannot run it: .*broken\\x1b",
    "remember": "differs by .* the conversion cannot be trusted",
}


def hostile(attack: str, path="") -> bytes:
    """Return a scripted module that does something else before it answers."""
    pytorch = torch()
    nn = pytorch.nn

    class Hostile(nn.Module):
        def __init__(self):
            super().__init__()
            self.labels = ["a", "b", "c"]
            self.attack = attack
            self.path = str(path)
            self.count = 0

        def forward(self, x):
            if self.attack == "write":
                x = x + pytorch.from_file(self.path, True, 64)[0]
            if self.attack == "fill":
                x = x + pytorch.ones([1 << 40]).sum()
            if self.attack == "raise":
                raise RuntimeError("broken\x1b[31m")
            while self.attack == "hang":
                x = x.abs()
            if self.attack == "remember":
                self.count += 1
            return x.mean([2, 3]) * (1.0 + self.count)

    return script(Hostile())


@pytest.fixture
def outside(tmp_path):
    folder = tmp_path / "outside"
    folder.mkdir()
    (folder / "victim").write_bytes(b"untouched")
    yield folder
    assert [file.name for file in folder.iterdir()] == ["victim"]
    assert (folder / "victim").read_bytes() == b"untouched"


@needs_landlock
@pytest.mark.slow
@pytest.mark.parametrize("attack", ATTACKS)
def test_code_of_a_model_is_contained(refuse, outside, attack):
    message = refuse(hostile(attack, outside / "made"), wishes=SMALL)
    assert re.search(ATTACKS[attack], message), message
    assert message.isprintable()


@needs_landlock
@pytest.mark.slow
def test_a_module_that_never_ends_is_ended(refuse):
    message = refuse(hostile("hang"), limits=replace(LIMITS, cpu_s=6), wishes=SMALL)
    assert "more than 6 s of processor time" in message


@needs_landlock
def test_a_pickle_gadget_in_the_archive_is_refused(refuse, outside):
    gadget = b"cposix\nsystem\n(S'touch " + bytes(outside / "made") + b"'\ntR."

    def swap(name, data):
        return name, gadget if name.endswith("/data.pkl") else data

    message = refuse(rezip(script(small_module()), swap), wishes=SMALL)
    assert "PyTorch cannot load it: " in message


@needs_landlock
def test_changed_bytes_of_an_archive_are_refused_before_pytorch_sees_them(refuse, monkeypatch):
    content = script(small_module())
    monkeypatch.setattr(sandbox, "CHILD", "nobody.may.start")
    for place in np.random.default_rng(1).integers(0, 300, 20):
        changed = bytearray(content)
        changed[content.find(b"FB") + 80 + place] ^= 0x10  # in a weight or a pickle
        try:
            check_archive("model", bytes(changed))
        except ConversionError:
            assert "archive" in refuse(bytes(changed))


# ONNX


ONNX = {**REFUSED, **COSTLY}
CONFINED = [*COSTLY, "file above", "random bytes"]  # the others run in tests/unit


@pytest.mark.parametrize("attack", CONFINED)
def test_a_hostile_graph_is_refused_with_the_reason(refuse, attack):
    make, words = ONNX[attack]
    message = refuse(make(), limits=replace(LIMITS, memory_bytes=256 << 20))
    assert re.search(words, message), message


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (replace(LIMITS, cpu_s=3), "more than 3 s of processor time"),
        (replace(LIMITS, wall_s=3.0), "more than 3 s and was ended"),
    ],
)
def test_a_graph_that_never_ends_is_ended(refuse, limits, words):
    assert words in refuse(endless(), limits=limits)


def test_a_package_that_does_not_load_is_one_line(tmp_path, monkeypatch):
    (tmp_path / "onnx.py").write_text("raise ImportError('libbroken.so: no such file')")
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "model.onnx").write_bytes(scores_network())
    with pytest.raises(EnvironmentLacks, match=r"does not load: libbroken\.so: no such file"):
        import_model(Order(tmp_path / "model.onnx", tmp_path / "bundle", SAID))


def test_the_command_says_it_in_one_line(tmp_path):
    (tmp_path / "model.onnx").write_bytes(external("../x"))
    result = perception("import", tmp_path / "model.onnx", "-o", tmp_path / "bundle")
    assert result.returncode == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "outside of its folder; save the model in one file: onnx.save" in result.stderr
    assert not (tmp_path / "bundle").exists()
