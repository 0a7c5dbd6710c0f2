# SPDX-License-Identifier: Apache-2.0
"""Whatever lies in the place of a file that a user names: one line, soon, with little memory."""

from __future__ import annotations

import shutil
import tracemalloc
from pathlib import Path

import pytest

from perception_node.cli import main
from perception_node.errors import BagError, ConfigError
from perception_node.system.files import read_regular_file, require_regular_file
from perception_node.wire.bags import open_bag
from tests.builders import SAMPLE_BAG, encode, make_bundle, solid
from tests.odd_files import ODD, put

session = pytest.importorskip("perception_node.ros.session", reason="ROS is not here")

MOST_BYTES = 100 << 20
pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def with_little_memory():
    tracemalloc.start()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < MOST_BYTES


@pytest.fixture
def refuse(capsys):
    """Run a command that must end with one line that says what is wrong with a file."""

    def run(*arguments, about):
        code = main([str(argument) for argument in arguments])
        shown = capsys.readouterr()
        assert code in {2, 3}, shown
        assert shown.err.startswith("perception: ")
        assert shown.err.count("\n") == 1, shown.err
        assert about in shown.err

    return run


@pytest.mark.parametrize("kind", ODD)
def test_only_regular_files_are_read(tmp_path, kind):
    put(kind, tmp_path / "file")
    with pytest.raises(OSError, match=r"."):
        read_regular_file(tmp_path / "file", 1 << 20)
    with pytest.raises(OSError, match=r"."):
        require_regular_file(tmp_path / "file", 1 << 20)


def test_a_file_of_the_kernel_is_as_long_as_it_says():
    assert read_regular_file(Path("/proc/self/mem"), 1 << 20) == b""


def test_a_name_with_nul_is_no_file(tmp_path):
    with pytest.raises(OSError, match="NUL"):
        read_regular_file(tmp_path / "a\0b", 10)


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", ["bundle.json", "labels.txt", "model.onnx"])
def test_a_bundle(tmp_path, refuse, kind, name):
    bundle = make_bundle(tmp_path / "colors")
    picture = tmp_path / "a.png"
    picture.write_bytes(encode(solid((1, 2, 3)), ".png"))
    put(kind, bundle / name)
    refuse("classify", picture, "--model", bundle, about=name)
    refuse("inspect", bundle, about=name)


@pytest.mark.parametrize("kind", ODD)
def test_an_image(tmp_path, refuse, color_bundle, kind):
    put(kind, tmp_path / "a.png")
    refuse("classify", tmp_path / "a.png", "--model", color_bundle, about="a.png")


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("option", ["--images", "--labels", "--bag"])
def test_what_calibrate_and_evaluate_read(tmp_path, refuse, kind, option):
    bundle = make_bundle(tmp_path / "colors")
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "a.png").write_bytes(encode(solid((1, 2, 3)), ".png"))
    put(kind, tmp_path / "odd")
    images = () if option in {"--images", "--bag"} else ("--images", photos)
    for verb in ("calibrate", "evaluate"):
        topic = ("--topic", "/image") if option == "--bag" else ()
        refuse(verb, bundle, *images, *topic, option, tmp_path / "odd", about="odd")


@pytest.mark.parametrize("kind", ODD)
def test_a_golden_file_a_scenario_and_a_report(tmp_path, refuse, color_bundle, kind):
    odd = tmp_path / "odd.yaml"
    put(kind, odd)
    refuse("replay", SAMPLE_BAG, "--golden", odd, "--model", color_bundle, about="odd")
    refuse("hil", odd, about="odd")
    refuse("bench", "report", odd, about="odd")
    refuse("bench", "compare", odd, odd, about="odd")


@pytest.mark.parametrize("kind", ODD)
def test_a_model_and_its_labels(tmp_path, refuse, kind):
    put(kind, tmp_path / "odd")
    model = make_bundle(tmp_path / "colors") / "model.onnx"
    refuse("import", tmp_path / "odd", "-o", tmp_path / "new", about="odd")
    arguments = ("-o", tmp_path / "new", "--labels", tmp_path / "odd")
    refuse("import", model, *arguments, about="odd")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("kind", ODD)
def test_a_plan(tmp_path, refuse, kind):
    store = tmp_path / "store"
    store.mkdir(mode=0o700)
    for name in ("a.fp16.plan", "a.fp16.0123456789abcdef.json"):
        put(kind, store / name)
        if kind != "folder":
            refuse("inspect", store / name, about="store")


@pytest.mark.parametrize("kind", ["FIFO", "device", "socket", "link to a FIFO", "huge"])
def test_a_plan_store(tmp_path, refuse, kind):
    put(kind, tmp_path / "store")
    for what in ("--list", "--prune"):
        refuse("build", what, "--store", tmp_path / "store", about="store")


@pytest.mark.parametrize("kind", [kind for kind in ODD if kind != "huge"])
@pytest.mark.parametrize("name", ["metadata.yaml", "photos.mcap", "other.mcap"])
def test_a_bag_that_is_or_names_something_else(tmp_path, refuse, kind, name):
    bag = tmp_path / "bag"
    shutil.copytree(SAMPLE_BAG, bag)
    (mcap,) = bag.glob("*.mcap")
    if name != "metadata.yaml":
        mcap.unlink()
        metadata = (bag / "metadata.yaml").read_text()
        (bag / "metadata.yaml").write_text(metadata.replace(mcap.name, name))
    put(kind, bag / name)
    refuse("play", bag, about="bag")
    refuse("replay", bag, about="bag")
    with pytest.raises(BagError), open_bag(bag / name):
        pass


def test_huge_metadata_are_not_parsed(tmp_path, refuse):
    bag = tmp_path / "bag"
    shutil.copytree(SAMPLE_BAG, bag)
    (bag / "metadata.yaml").write_bytes(b"a: 1\n" * (5 << 20))
    refuse("play", bag, about="allowed")


@pytest.mark.parametrize("kind", ["FIFO", "device", "folder", "loop", "terminal"])
def test_places_for_what_is_written(tmp_path, refuse, color_bundle, kind):
    golden = SAMPLE_BAG / "golden.jsonl"
    arguments = ("replay", SAMPLE_BAG, "--topic", "/camera/image_raw/compressed")
    arguments += ("--model", color_bundle)
    odd = tmp_path / "odd"
    put(kind, odd)
    inside = odd / "inside" / "x.mcap"
    refuse(*arguments, "--out", inside, about="odd")
    refuse(*arguments, "--golden", golden, "--junit", odd / "x" / "junit.xml", about="odd")
    refuse("bench", "engine", "--out", odd / "x" / "report", about="odd")
    if kind == "folder":
        (odd / "something").touch()
        refuse(*arguments, "--out", odd, about="odd")
        refuse(*arguments, "--golden", odd, "--update-golden", about="odd")
        refuse(*arguments, "--golden", golden, "--junit", odd, about="odd")


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("option", ["--params-file", "--log-config-file"])
def test_files_that_ros_reads(tmp_path, kind, option):
    odd = tmp_path / "odd.yaml"
    put(kind, odd)
    with pytest.raises(ConfigError, match=f"{option} .*odd.yaml: cannot be read"):
        session.initialise(["--ros-args", option, str(odd)])


def test_three_hundred_megabytes_of_labels(tmp_path, refuse):
    bundle = make_bundle(tmp_path / "colors")
    labels = tmp_path / "labels.csv"
    with labels.open("wb") as file:
        file.truncate(300 << 20)
    refuse("import", bundle / "model.onnx", "-o", "x", "--labels", labels, about="labels.csv")
    images = tmp_path / "photos"
    images.mkdir()
    (images / "a.png").write_bytes(encode(solid((1, 2, 3)), ".png"))
    for verb in ("calibrate", "evaluate"):
        refuse(verb, bundle, "--images", images, "--labels", labels, about="labels.csv")
