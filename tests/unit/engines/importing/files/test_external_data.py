# SPDX-License-Identifier: Apache-2.0
"""Which files beside a model are read, and what is said of those that are not."""

from __future__ import annotations

import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from perception_node.engines.importing.files.external_data import read_external_data
from perception_node.errors import ConversionError

DATA = bytes(range(48))


def model_with(*places: dict[str, str]) -> bytes:
    """Return a model with weights of 4 float32 in each of these places."""
    tensors = []
    for number, place in enumerate(places):
        tensor = numpy_helper.from_array(np.zeros(4, np.float32), f"w{number}")
        tensor.ClearField("raw_data")
        tensor.data_location = TensorProto.EXTERNAL
        for key, value in place.items():
            tensor.external_data.add(key=key, value=value)
        tensors.append(tensor)
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])] for name in "xy"]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", *ends, tensors)
    return helper.make_model(graph).SerializeToString()


@pytest.fixture
def read(tmp_path):
    """Read the files of a model that lies in a folder, and return them."""

    def run(*places: dict[str, str], limit_bytes: int = 1000):
        return read_external_data(tmp_path / "m.onnx", model_with(*places), limit_bytes)

    return run


def at(location: str, offset: int = 0) -> dict[str, str]:
    return {"location": location, "offset": str(offset)}


def test_every_file_is_read_once_whatever_its_name(read, tmp_path):
    (tmp_path / "deep").mkdir()
    for name in ("m.onnx.data", "deep/weights of ß.bin", "..data"):
        (tmp_path / name).write_bytes(DATA)
    names = ("m.onnx.data", "m.onnx.data", "./deep/weights of ß.bin", "..data")
    assert read(*map(at, names)) == dict.fromkeys(names, DATA)
    assert read() == {}


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../m.data", "'../m.data', outside of its folder; save the model in one file"),
        ("a/../../b", "outside of its folder"),
        ("/etc/passwd", "outside of its folder"),
        ("a\x1bb", r"no name of a file"),
        ("a\\b", r"no name of a file"),
        ("C:b", r"no name of a file"),
        ("a\0b", r"no name of a file"),
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(read, name, words):
    with pytest.raises(ConversionError, match=words) as caught:
        read(at(name))
    assert str(caught.value).isprintable()


def test_all_missing_files_are_named_at_once(read, tmp_path):
    with pytest.raises(ConversionError, match=rf"a, b, not found in the folder {tmp_path}; copy"):
        read(at("a"), at("b"))
    with pytest.raises(ConversionError, match="f0, f1, f2, f3, f4 and 3 more, not found"):
        read(*(at(f"f{number}") for number in range(8)))


def test_a_file_that_was_cut_off_is_named(read, tmp_path):
    (tmp_path / "m.data").write_bytes(DATA)
    read(at("m.data", 32))
    with pytest.raises(
        ConversionError, match=r"m.data end at byte 49, the file has 48: .*copy it"
    ):
        read(at("m.data"), at("m.data", 33))


def test_links_out_of_the_folder_are_refused(read, tmp_path, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    (other / "data").write_bytes(DATA)
    (tmp_path / "data").symlink_to(other / "data")
    (tmp_path / "folder").symlink_to(other)
    (tmp_path / "lost").symlink_to(tmp_path / "nothing")
    for name in ("data", "folder/data", "lost"):
        with pytest.raises(ConversionError, match=f"{name}, a link out of its folder; put the"):
            read(at(name))


def test_the_hubs_cache_is_made_of_links(tmp_path):
    (tmp_path / "blobs").mkdir()
    folder = tmp_path / "snapshots" / "0f1e" / "onnx"
    folder.mkdir(parents=True)
    (tmp_path / "blobs" / "ab12").write_bytes(DATA)
    (folder / "data").symlink_to("../../../blobs/ab12")
    found = read_external_data(folder / "m.onnx", model_with(at("data")), 1000)
    assert found == {"data": DATA}


def test_a_model_in_a_linked_folder_is_read(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "data").write_bytes(DATA)
    (tmp_path / "folder").symlink_to(tmp_path / "real")
    path = tmp_path / "folder" / "m.onnx"
    assert read_external_data(path, model_with(at("data")), 1000) == {"data": DATA}


def test_only_files_of_a_bounded_size_are_read(read, tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for name in ("fifo", "folder"):
        with pytest.raises(
            ConversionError, match=f"{name}, which cannot be read: (not a r|Is a d)"
        ):
            read(at(name))
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(DATA)
    assert len(read(at("a"), at("b"), limit_bytes=96)) == 2
    with pytest.raises(ConversionError, match="b, which cannot be read: 48 bytes are more than"):
        read(at("a"), at("b"), limit_bytes=95)


def test_weights_beyond_the_limit_are_refused_before_they_are_read(read):
    with pytest.raises(ConversionError, match=r"take 3\d{9} bytes, more than .*half precision"):
        read(at("a", 3_000_000_000), limit_bytes=(2 << 30) - 1)


def test_what_onnx_saves_beside_a_model_is_found(tmp_path):
    values = np.arange(600, dtype=np.float32)
    tensors = [numpy_helper.from_array(values + n, f"w{n}") for n in range(2)]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])] for name in "xy"]
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    model = helper.make_model(helper.make_graph(nodes, "g", *ends, tensors))
    path = tmp_path / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, location="m.onnx.data")
    found = read_external_data(path, path.read_bytes(), 10_000)
    assert np.frombuffer(found["m.onnx.data"], np.float32)[:600].tolist() == values.tolist()
