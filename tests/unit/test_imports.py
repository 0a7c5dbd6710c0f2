# SPDX-License-Identifier: Apache-2.0
"""Every module can be imported, on every Python and with every release that the tests run on."""

from __future__ import annotations

import importlib
import importlib.util
import os
from pathlib import Path

import pytest

import perception_node

PACKAGE = Path(perception_node.__file__).parent


def modules():
    """Return the name of every module; pathlib does not follow the links to engines and so on."""
    for folder, _folders, files in os.walk(PACKAGE, followlinks=True):
        for file in files:
            path = Path(folder, file).relative_to(PACKAGE.parent)
            if path.suffix == ".py" and path.stem != "__main__":  # which runs a command
                yield ".".join(path.with_suffix("").parts).removesuffix(".__init__")


MODULES = sorted(modules())


def test_the_modules_were_found():
    expected = {"", ".engines.tensorrt.api", ".calibration.charts", ".bench.hil", ".ros.node"}
    assert {f"perception_node{name}" for name in expected} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_it_can_be_imported(name):
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        package = error.name.partition(".")[0]
        # Of a package that is there no module may be missing.
        if package == "perception_node" or importlib.util.find_spec(package):
            raise
        pytest.skip(f"{package} is not installed")
