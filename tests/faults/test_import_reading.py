# SPDX-License-Identifier: Apache-2.0
"""Which files a model can read while it is imported, however the import is called."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from perception_node.engines.importing.sandbox.landlock import landlock_version
from tests.builders import ROOT

pytestmark = pytest.mark.skipif(not landlock_version(), reason="this kernel has no Landlock")
PACKAGE = str(ROOT / "perception_node/__init__.py")
WAYS = {
    "PYTHONPATH": [
        "{root}:",
        ":{root}",
        "{root}:.",
        "{root}:{here}",
        "{root}:{link}",
        "{root}:..",
    ],
    "LD_LIBRARY_PATH": ["", ":", ".", "{here}", "{link}", "{home}", "/", "{home}:/usr/lib"],
}
CALLS = [(name, value) for name, values in WAYS.items() for value in values]
CALLS += [("PYTHONPATH", "{root}:{home}"), ("PYTHONPATH", "{root}:/"), ("PYTHONHOME", "")]


@pytest.fixture
def folders(tmp_path):
    """A current folder and a home, each with a private file."""
    made = {name: tmp_path / name for name in ("here", "home")}
    for folder in made.values():
        folder.mkdir()
        (folder / "secret").write_text("secret")
        (folder / "secret.so").symlink_to(folder / "secret")
    (tmp_path / "link").symlink_to(tmp_path / "here")
    return {**made, "link": tmp_path / "link", "root": ROOT}


def look(folders, paths, arguments=("-m", "tests.faults.calling_look"), **variables):
    """Import in the current folder ``here``; return what a model can read."""
    kept = {key: os.environ[key] for key in ("PATH", "LANG") if key in os.environ}
    called = subprocess.run(
        [sys.executable, *arguments, *map(str, paths)],
        cwd=folders["here"],
        env={**kept, "PYTHONPATH": str(ROOT), "HOME": str(folders["home"]), **variables},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert called.returncode == 0, called.stderr
    assert called.stderr == ""  # what the model prints is not shown
    return json.loads(called.stdout)


def private(folders):
    """Return paths that no model may read."""
    mine = [folders[name] / file for name in ("here", "home") for file in ("secret", "secret.so")]
    return [
        *map(str, mine),
        f"{folders['here']}/",
        f"{folders['home']}/",
        "/",
        f"{ROOT}/README.md",
        "/usr/bin/",
    ]


@pytest.mark.parametrize(("variable", "value"), CALLS)
def test_folders_of_the_user_are_not_read(folders, variable, value):
    paths = private(folders)
    found = look(folders, [*paths, PACKAGE], **{variable: value.format(**folders)})
    assert {path: found["read"][path] for path in paths} == dict.fromkeys(paths, "PermissionError")
    assert int(found["read"][PACKAGE]) > 100
    assert not {str(folders["here"]), str(folders["link"]), "", "."} & {*found["path"]}


@pytest.mark.parametrize(
    "arguments", [(str(ROOT / "tests/faults/calling_look.py"),), ("-c", "{code}")]
)
def test_other_calls_of_python_do_not_open_the_current_folder(folders, arguments):
    code = (ROOT / "tests/faults/calling_look.py").read_text()
    paths = private(folders)
    found = look(folders, paths, [part.replace("{code}", code) for part in arguments])
    assert set(found["read"].values()) == {"PermissionError"}


def test_a_current_folder_that_is_the_packages_own_is_not_read_but_for_packages(folders):
    paths = private(folders)
    found = look({**folders, "here": ROOT}, [*paths, f"{ROOT}/", PACKAGE])
    assert int(found["read"].pop(PACKAGE)) > 100
    assert set(found["read"].values()) == {"PermissionError"}


def test_packages_and_libraries_that_are_used_are_read(folders):
    """A package beside private files is readable once it was imported, and so is a library."""
    home = folders["home"]
    (home / "sitecustomize").mkdir()
    (home / "sitecustomize/__init__.py").write_text("")
    (home / "libown.so.1").write_text("code")
    paths = [f"{home}/sitecustomize/__init__.py", f"{home}/libown.so.1"]
    variables = {"PYTHONPATH": f"{ROOT}:{home}", "LD_LIBRARY_PATH": str(home)}
    found = look(folders, [*paths, f"{home}/secret"], **variables)
    assert list(found["read"].values()) == ["0", "4", "PermissionError"]
