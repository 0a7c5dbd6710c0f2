# SPDX-License-Identifier: Apache-2.0
"""A model is found in a file, a folder or an archive, and nothing is read from elsewhere."""

from __future__ import annotations

import io
import os
import stat
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.engines.importing.files.source import open_source
from perception_node.errors import ConversionError
from tests.builders import color_network

LABELS = {"labels.txt": b"red\ngreen"}


def lay(folder, files):
    """Write files, given as a list of names or a map of names to bytes."""
    files = files if isinstance(files, dict) else dict.fromkeys(files, b"\x08\x07")
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def archive(files, **options):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content in files.items():
            file.writestr(name, content, **options)
    return buffer.getvalue()


def bomb(*names):
    """Return an archive whose entries each state 4 GB in the place of 3 MB."""
    content = archive(dict.fromkeys(names, bytes(3 << 20)))
    return content.replace(b"\0\0\x30\0", b"\0\0\x30\xf0")


def found(path):
    """Return the model's place in its folder, and the names of what lies beside."""
    with open_source(path) as source:
        assert source.model.is_file()
        return source.model.name, sorted(source.sidecars)


def problem(path):
    with pytest.raises(ConversionError) as caught:
        found(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("names", "model"),
    [
        (["any.onnx", "notes.md"], "any.onnx"),
        (["model.onnx", "model_fp16.onnx", "model_quantized.onnx"], "model.onnx"),
        (["onnx/model.onnx", "onnx/model_q4f16.onnx", "model.safetensors"], "model.onnx"),
        (["weights/best.onnx", "weights/best.pt", "args.yaml"], "best.onnx"),
        (["export/inner/model.onnx"], "model.onnx"),
        (["model.torchscript", "labels.txt"], "model.torchscript"),
        (["model.ONNX"], "model.ONNX"),
        (["model.onnx", "model.onnx.data"], "model.onnx"),
    ],
)
def test_a_folder_holds_one_model(tmp_path, names, model):
    assert found(lay(tmp_path, names))[0] == model


@pytest.mark.parametrize("names", [["a.onnx", "b.onnx"], ["best.onnx", "last.onnx"]])
def test_among_several_models_the_user_chooses(tmp_path, names):
    text = problem(lay(tmp_path, names))
    assert f"holds 2 models: {names[0]}, {names[1]}; give" in text
    assert str(tmp_path / names[0]) in text


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ([], "holds no ONNX file"),
        (["notes.md", "config.json"], "holds no ONNX file"),
        (
            ["saved_model.pb", "variables/x"],
            "a SavedModel of TensorFlow; export it: python -m tf2",
        ),
        (["config.json", "model.safetensors"], "optimum-cli export onnx"),
        (["Manifest.json"], "a Core ML package"),
    ],
)
def test_a_folder_without_a_model_is_said(tmp_path, names, words):
    folder = lay(tmp_path / "my folder", [f"x/{name}" for name in names] or ["x/.hidden"])
    assert words in problem(folder)


def test_what_cannot_be_imported_is_named_by_its_own_line(tmp_path):
    assert found(lay(tmp_path, ["keras_model.h5", "labels.txt"])) == ("keras_model.h5", [])


def test_small_files_lie_beside_the_model_or_above_its_place(tmp_path):
    files = {"onnx/model.onnx": b"\x08", "config.json": b"{}", "onnx/labels.txt": b"a\nb"}
    lay(tmp_path, files)
    expected = ("model.onnx", ["config.json", "labels.txt"])
    assert found(tmp_path) == expected
    assert found(tmp_path / "onnx" / "model.onnx") == expected


def test_the_place_of_a_model_is_seen_from_inside_it_too(tmp_path, monkeypatch):
    monkeypatch.chdir(lay(tmp_path, {"onnx/model.onnx": b"\x08", "config.json": b"{}"}) / "onnx")
    assert found(Path("model.onnx")) == ("model.onnx", ["config.json"])


def test_beside_several_models_small_files_may_belong_to_another(tmp_path):
    lay(tmp_path, {"a.onnx": b"\x08", "b.onnx": b"\x08", **LABELS})
    assert found(tmp_path / "a.onnx") == ("a.onnx", [])
    (tmp_path / "b.onnx").rename(tmp_path / "a_fp16.onnx")
    assert found(tmp_path / "a.onnx") == ("a.onnx", ["labels.txt"])


def test_no_link_leads_out_of_a_folder(tmp_path):
    secret = lay(tmp_path / "elsewhere", ["secret.txt", "real.onnx"])
    folder = lay(tmp_path / "folder", ["model.onnx"])
    (folder / "labels.txt").symlink_to(secret / "secret.txt")
    (folder / "config.json").symlink_to(folder / "config.json")
    assert found(folder) == ("model.onnx", [])
    (folder / "model.onnx").unlink()
    (folder / "model.onnx").symlink_to(secret / "real.onnx")
    assert "holds no ONNX file" in problem(folder)


def test_the_cache_of_the_hub_is_links_into_its_blobs(tmp_path):
    blobs = lay(tmp_path / "models--x" / "blobs", ["1", "2"])
    snapshot = tmp_path / "models--x" / "snapshots" / "abc"
    (snapshot / "onnx").mkdir(parents=True)
    (snapshot / "onnx" / "model.onnx").symlink_to(blobs / "1")
    (snapshot / "config.json").symlink_to(blobs / "2")
    assert found(snapshot) == ("model.onnx", ["config.json"])


def test_a_fifo_is_no_file(tmp_path):
    lay(tmp_path, ["model.onnx"])
    os.mkfifo(tmp_path / "labels.txt")
    assert found(tmp_path) == ("model.onnx", [])
    os.mkfifo(tmp_path / "other.onnx")
    with open_source(tmp_path / "other.onnx") as source:
        assert source.model == tmp_path / "other.onnx"  # its reader refuses it


def test_a_large_file_of_names_is_refused(tmp_path):
    lay(tmp_path, {"model.onnx": b"\x08", "labels.txt": bytes(5 << 20)})
    assert "labels.txt: cannot be read: 5242880 bytes" in problem(tmp_path)


def test_an_archive_of_a_folder_is_unpacked_for_a_while(tmp_path):
    path = tmp_path / "model.zip"
    path.write_bytes(archive({"export/model.onnx": color_network(), "export/labels.txt": b"a\nb"}))
    with open_source(path) as source:
        assert source.model.read_bytes() == color_network()
        assert source.sidecars == {"labels.txt": b"a\nb"}
    assert not source.model.exists()


@pytest.mark.parametrize("inner", ["m/data.pkl", "serialized_exported_program.json"])
def test_a_model_that_is_an_archive_is_no_folder(tmp_path, inner):
    path = tmp_path / "best.pt"
    path.write_bytes(archive({inner: b"", "m/state_dict.pt": b""}))
    with open_source(path) as source:
        assert source.model == path


def test_errors_name_the_archive_and_not_where_it_was_unpacked(tmp_path):
    path = tmp_path / "two.zip"
    path.write_bytes(archive({"a.onnx": b"1", "b.onnx": b"2"}))
    text = problem(path)
    assert text.startswith(f"{path}: the folder holds 2 models: a.onnx, b.onnx")
    assert "unpacked" not in text


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (archive({"../m.onnx": b"x"}), "leads elsewhere"),
        (archive({"/etc/m.onnx": b"x"}), "leads elsewhere"),
        (archive({"a\\b.onnx": b"x"}), "leads elsewhere"),
        (bomb("m.onnx"), "m.onnx unpacks to more than 1032 times its size"),
        (bomb("m.onnx", "n.onnx"), "would unpack to more than 4294967296 bytes"),
        (archive({f"{n}.onnx": b"" for n in range(1001)}), "1001 files, more than 1000"),
    ],
    ids=[
        "above",
        "absolute",
        "backslash",
        "bomb",
        "two bombs",
        "many files",
    ],
)
def test_what_no_folder_of_a_model_holds_is_refused(tmp_path, content, words):
    (tmp_path / "x.zip").write_bytes(content)
    assert words in problem(tmp_path / "x.zip")
    assert not list(tmp_path.parent.glob("perception-unpacked-*"))


def test_a_link_in_an_archive_is_refused(tmp_path):
    info = zipfile.ZipInfo("labels.txt")
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as file:
        file.writestr(info, "/etc/passwd")
        file.writestr("m.onnx", b"x")
    assert "is a link or a device" in problem(tmp_path / "x.zip")


WHOLE = archive({"f/model.onnx": bytes(200), "f/labels.txt": b"a\nb\n" * 30})


@given(
    changes=st.lists(st.tuples(st.integers(0, len(WHOLE) - 1), st.integers(0, 255)), max_size=4)
)
def test_a_damaged_archive_is_a_file_or_an_error(tmp_path_factory, changes):
    content = bytearray(WHOLE)
    for place, value in changes:
        content[place] = value
    path = tmp_path_factory.mktemp("damaged") / "x.zip"
    path.write_bytes(content)
    try:
        with open_source(path) as source:
            assert source.model.is_file()
    except ConversionError as error:
        assert "\n" not in str(error)
