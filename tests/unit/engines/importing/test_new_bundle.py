# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import os
from pathlib import Path

import pytest

from perception_node.engines.importing.new_bundle import check_target, write_new_bundle
from perception_node.errors import ConfigError
from perception_node.model.bundle import load_bundle
from tests.builders import LABELS, MANIFEST, color_network, make_bundle


def write(folder, gain=12.0, *, force=False):
    write_new_bundle(folder, MANIFEST, LABELS, {"model.onnx": [color_network(gain)]}, force=force)


def test_a_bundle_is_written_as_a_whole(tmp_path):
    write(tmp_path / "new")
    assert load_bundle(tmp_path / "new").read() == color_network()
    assert [path.name for path in tmp_path.iterdir()] == ["new"]
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o755


def test_another_bundle_is_replaced_only_by_force(tmp_path):
    write(tmp_path / "new")
    with pytest.raises(ConfigError, match=r"is there already; .* or give --force"):
        write(tmp_path / "new", 3.0)
    assert load_bundle(tmp_path / "new").read() == color_network()
    write(tmp_path / "new", 3.0, force=True)
    assert load_bundle(tmp_path / "new").read() == color_network(3.0)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]


def test_what_is_no_bundle_is_never_replaced(tmp_path):
    bundle = make_bundle(tmp_path / "real")
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/cat.jpg").touch()
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(bundle)
    (tmp_path / "nowhere").symlink_to(tmp_path / "none")
    before = sorted(tmp_path.rglob("*"))
    for name in ("photos", "file", "link", "nowhere"):
        with pytest.raises(ConfigError, match="is no bundle and will not be replaced"):
            write(tmp_path / name, force=True)
    assert sorted(tmp_path.rglob("*")) == before


def test_the_folder_above_must_be_there(tmp_path):
    with pytest.raises(ConfigError, match="does not exist; make it first"):
        check_target(tmp_path / "no/where", force=True)


@pytest.mark.parametrize("step", ["rename", "fsync", "write"])
def test_a_failure_at_any_step_leaves_what_was_there(tmp_path, monkeypatch, step):
    """Each call of the step fails in turn, until none does."""
    write(tmp_path / "new")
    real = {"rename": Path.rename, "fsync": os.fsync, "write": Path.chmod}[step]
    places = {"rename": "pathlib.Path.rename", "fsync": "os.fsync", "write": "pathlib.Path.chmod"}
    failures = 0
    while True:
        calls = iter(range(failures + 1))

        def fail(*arguments, calls=calls, last=failures, **options):
            if next(calls, None) == last:
                raise OSError(28, "No space left on device")
            return real(*arguments, **options)

        with monkeypatch.context() as patch:
            patch.setattr(places[step], fail)
            try:
                write(tmp_path / "new", 3.0, force=True)
            except ConfigError as error:
                assert "cannot be written: No space left on device" in str(error)
            else:
                break
        assert load_bundle(tmp_path / "new").read() == color_network()
        assert [path.name for path in tmp_path.iterdir()] == ["new"]
        failures += 1
    assert failures >= 2
    assert load_bundle(tmp_path / "new").read() == color_network(3.0)
