# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from perception_node.errors import ConfigError
from perception_node.system.resources import find_model, find_resource, share_folders
from tests.builders import ROOT


def test_the_checkout_comes_first(monkeypatch):
    monkeypatch.setenv("AMENT_PREFIX_PATH", os.pathsep.join(["/one", "", "/two"]))
    assert share_folders() == [
        ROOT,
        Path("/one/share/perception_node"),
        Path("/two/share/perception_node"),
        Path(sys.prefix, "share/perception_node"),
    ]


def test_no_prefixes_are_needed(monkeypatch):
    monkeypatch.delenv("AMENT_PREFIX_PATH", raising=False)
    assert len(share_folders()) == 2


def test_files_of_the_checkout_are_found():
    assert find_resource("samples/photos/metadata.yaml").is_file()
    assert find_model("") == ROOT / "models/efficientnet_lite0"
    assert find_model("efficientnet_lite0") == ROOT / "models/efficientnet_lite0"


def test_files_of_an_installed_package_are_found(tmp_path, monkeypatch):
    installed = tmp_path / "share/perception_node/models/birds"
    installed.mkdir(parents=True)
    monkeypatch.setenv("AMENT_PREFIX_PATH", str(tmp_path))
    assert find_model("birds") == installed


def test_a_path_is_taken_as_it_is(tmp_path, monkeypatch):
    (tmp_path / "my models").mkdir()
    assert find_model(str(tmp_path / "my models")) == tmp_path / "my models"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_model("~/my models") == tmp_path / "my models"
    monkeypatch.chdir(tmp_path)
    assert find_model("my models") == Path("my models")


def test_what_is_nowhere_is_named_with_the_places(monkeypatch):
    monkeypatch.setenv("AMENT_PREFIX_PATH", "/one")
    with pytest.raises(ConfigError) as caught:
        find_model("no_such_model")
    text = str(caught.value)
    assert "models/no_such_model not found" in text
    assert str(ROOT) in text
    assert "/one/share/perception_node" in text


@pytest.mark.parametrize(
    "model",
    [
        "/no/such/folder",
        "./nowhere",
        __file__,
        "~nobody-of-this-name/model",
        "a\0b",
        "x" * 5000,
        "/x" * 3000,
        "..\n/up",
    ],
)
def test_any_text_that_is_no_model_is_a_config_error(model):
    with pytest.raises(ConfigError):
        find_model(model)
