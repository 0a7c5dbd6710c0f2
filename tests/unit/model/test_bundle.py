# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.errors import (
    ConfigError,
    LabelMismatch,
    ModelError,
    ModelFormatError,
    ModelIntegrityError,
)
from perception_node.model.bundle import MAX_MANIFEST_BYTES, add_files, load_bundle, write_bundle
from perception_node.system.files import replace_file
from tests.builders import LABELS, MANIFEST, ROOT, color_network, make_bundle, with_preprocessing

FILES = ("bundle.json", "labels.txt", "model.onnx")


def load_all(path):
    """Load a bundle the way an engine does: the model is read last."""
    bundle = load_bundle(path)
    return bundle, bundle.read()


def seal(data):
    """Return the bytes of a manifest with the digest that belongs to it."""
    data = {key: value for key, value in data.items() if key != "sha256"}
    data["sha256"] = hashlib.sha256(serialize(data)).hexdigest()
    return serialize(data)


def serialize(data):
    return (json.dumps(data, indent=2, ensure_ascii=False) + "\n").encode()


def reseal(path, change):
    """Change a manifest as somebody would who knows about the digests."""
    data = json.loads((path / "bundle.json").read_bytes())
    change(data)
    (path / "bundle.json").write_bytes(seal(data))


def put(*keys, value):
    def change(data):
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = value

    return change


def drop(*keys):
    def change(data):
        for key in keys[:-1]:
            data = data[key]
        del data[keys[-1]]

    return change


def put_labels(path, content: bytes):
    (path / "labels.txt").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    reseal(path, put("files", "labels.txt", value=digest))


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path / "colors")


def test_a_bundle_comes_back_as_it_was_written(bundle):
    loaded, model = load_all(bundle)
    assert loaded.manifest == MANIFEST
    assert loaded.labels == LABELS
    assert loaded.path == bundle
    assert model == color_network()
    assert loaded.read("labels.txt") == b"red\ngreen\nblue\n"


def test_every_field_comes_back(tmp_path):
    manifest = replace(
        with_preprocessing(
            color="BGR",
            resize="shorter-side",
            shorter_side=12,
            interpolation="bicubic",
            scale=0.25,
            mean=(1.0, 2.5, 3.0),
            std=(4.0, 5.0, 6.5),
            fill=114,
        ),
        name="a.b-c_1",
        license="MIT",
        provenance={"von": "Größe", "n": [1, 2.5, None]},
    )
    assert load_bundle(make_bundle(tmp_path / "b", manifest=manifest)).manifest == manifest


def test_the_default_model_is_intact():
    loaded, model = load_all(ROOT / "models/efficientnet_lite0")
    assert len(loaded.labels) == loaded.manifest.output.classes == 1000
    assert len(model) > 1_000_000


def test_writing_twice_gives_the_same_bytes(bundle):
    before = (bundle / "bundle.json").read_bytes()
    write_bundle(bundle, MANIFEST)
    assert (bundle / "bundle.json").read_bytes() == before


def named(name: str) -> bytes:
    """Return an ONNX file with nothing but the name of its producer."""
    return bytes([0x12, len(name)]) + name.encode()


def test_more_models_and_texts_are_listed_too(bundle):
    (bundle / "model.int8.onnx").write_bytes(named("smaller"))
    (bundle / "notes.md").write_text("not part of it")
    write_bundle(bundle, MANIFEST)
    loaded = load_bundle(bundle)
    assert set(loaded.files) == {"labels.txt", "model.onnx", "model.int8.onnx"}
    assert loaded.read("model.int8.onnx") == named("smaller")


def test_only_listed_files_are_read(bundle):
    (bundle / "other.onnx").write_bytes(b"")
    with pytest.raises(ModelFormatError, match=r"other\.onnx: not listed in bundle\.json"):
        load_bundle(bundle).read("other.onnx")


@pytest.mark.parametrize("name", ["labels.txt", "model.onnx"])
def test_writing_needs_a_model_and_labels(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(ModelFormatError, match=f"{name}: missing; a bundle needs it"):
        write_bundle(bundle, MANIFEST)


# Damage


@given(name=st.sampled_from(FILES), place=st.integers(0, 1 << 20), flip=st.integers(1, 255))
def test_no_changed_byte_is_accepted(tmp_path, name, place, flip):
    bundle = tmp_path / "colors"
    if not bundle.exists():
        make_bundle(bundle)
    file = bundle / name
    content = file.read_bytes()
    damaged = bytearray(content)
    damaged[place % len(content)] ^= flip
    file.write_bytes(damaged)
    try:
        with pytest.raises(ModelError) as caught:
            load_all(bundle)
        assert str(caught.value).startswith(f"{file}: ")
        assert "\n" not in str(caught.value)
    finally:
        file.write_bytes(content)


@pytest.mark.parametrize("name", FILES)
def test_no_file_that_was_cut_short_or_grew_is_accepted(bundle, name):
    file = bundle / name
    content = file.read_bytes()
    cuts = [content[: len(content) * tenth // 10] for tenth in range(10)]
    for changed in (*cuts, content[:-1], content + b"\n", content + b"\0"):
        file.write_bytes(changed)
        with pytest.raises(ModelError, match=name):
            load_all(bundle)


def test_a_changed_file_is_named_with_both_digests(bundle):
    (bundle / "model.onnx").write_bytes(b"other")
    with pytest.raises(ModelIntegrityError) as caught:
        load_all(bundle)
    found = hashlib.sha256(b"other").hexdigest()[:12]
    expected = hashlib.sha256(color_network()).hexdigest()[:12]
    assert f"{bundle / 'model.onnx'}: sha256 is {found}" in str(caught.value)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        put("preprocessing", "scale", value=1.0),
        put("input", "width", value=9),
        put("sha256", value="0" * 64),
        put("provenance", "made", value="elsewhere"),
    ],
)
def test_an_edited_manifest_is_noticed(bundle, change):
    data = json.loads((bundle / "bundle.json").read_bytes())
    change(data)
    (bundle / "bundle.json").write_bytes(serialize(data))
    with pytest.raises(ModelIntegrityError, match=r"bundle\.json"):
        load_bundle(bundle)


def test_an_edited_manifest_with_a_new_digest_is_a_new_bundle(bundle):
    """The digest finds accidents; it is no signature."""
    reseal(bundle, put("preprocessing", "scale", value=0.5))
    assert load_bundle(bundle).manifest.preprocessing.scale == 0.5


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"fill": 0', b'"fill": 0, "fill": 0'),
        (b'"fill": 0', b'"fill":  0'),
        (b'"fill": 0', b'"fill": 0E0'),
        (b"Apache", b"\\u0041pache"),
    ],
)
def test_the_same_values_in_other_bytes_are_noticed(bundle, old, new):
    content = (bundle / "bundle.json").read_bytes()
    assert content.count(old) >= 1
    (bundle / "bundle.json").write_bytes(content.replace(old, new, 1))
    with pytest.raises(ModelError, match=r"bundle\.json"):
        load_bundle(bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_named(bundle, name):
    (bundle / name).unlink()
    with pytest.raises(ModelFormatError, match=f"{name}: cannot be read: No such file"):
        load_all(bundle)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ModelFormatError, match="nowhere"):
        load_bundle(tmp_path / "nowhere")


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "replacement", ["folder", "pipe", "device", "link to nothing", "link to itself"]
)
@pytest.mark.timeout(10)
def test_only_regular_files_are_opened(bundle, name, replacement):
    file = bundle / name
    file.unlink()
    if replacement == "folder":
        file.mkdir()
    elif replacement == "pipe":
        os.mkfifo(file)
    else:
        file.symlink_to(
            {"device": "/dev/zero", "link to nothing": "nothing", "link to itself": name}[
                replacement
            ]
        )
    with pytest.raises(ModelFormatError, match=f"{name}: cannot be read"):
        load_all(bundle)


@pytest.mark.parametrize("name", FILES)
def test_a_link_to_the_right_content_is_fine(bundle, tmp_path, name):
    (bundle / name).rename(tmp_path / "stored")
    (bundle / name).symlink_to(tmp_path / "stored")
    load_all(bundle)


def test_a_link_to_other_content_is_not(bundle):
    (bundle / "model.onnx").unlink()
    (bundle / "model.onnx").symlink_to(ROOT / "models/efficientnet_lite0/model.onnx")
    with pytest.raises(ModelIntegrityError):
        load_all(bundle)


@pytest.mark.parametrize("name", ["bundle.json", "labels.txt"])
def test_a_file_that_is_too_large_is_refused(bundle, name):
    with (bundle / name).open("ab") as file:
        file.truncate(MAX_MANIFEST_BYTES + 1)
    with pytest.raises(ModelFormatError, match="1048577 bytes are more than the 1048576 allowed"):
        load_bundle(bundle)


def test_a_model_beyond_two_gigabytes_is_refused_without_reading_it(bundle):
    with (bundle / "model.onnx").open("ab") as file:
        file.truncate(2 << 30)  # takes no space on the disk
    with pytest.raises(ModelFormatError, match="are more than"):
        load_all(bundle)


# Labels


@pytest.mark.parametrize("kind", ["sigmoid", "sigmoid-logits"])
def test_thresholds_come_back(tmp_path, kind):
    output = replace(MANIFEST.output, kind=kind, thresholds=(0.5, 0.25, 1.0))
    path = make_bundle(tmp_path / "m", manifest=replace(MANIFEST, output=output))
    assert load_bundle(path).manifest.output == output


def test_without_thresholds_the_manifest_is_as_it_always_was(bundle):
    data = json.loads((bundle / "bundle.json").read_bytes())
    assert data["output"] == {"name": "logits", "kind": "logits", "classes": 3}


@pytest.mark.parametrize(
    ("kind", "thresholds", "problem"),
    [
        ("sigmoid", [0.5, 0.5], "output.thresholds has 2 values for 3 classes"),
        ("logits", [0.5, 0.5, 0.5], "is for sigmoid and sigmoid-logits, not logits"),
        ("sigmoid", [0.5, 0.5, 1.5], "output.thresholds.2"),
        ("sigmoid", 0.5, "output.thresholds"),
    ],
)
def test_thresholds_that_do_not_fit_are_refused(bundle, kind, thresholds, problem):
    reseal(bundle, put("output", "kind", value=kind))
    reseal(bundle, put("output", "thresholds", value=thresholds))
    with pytest.raises(ModelFormatError, match=problem):
        load_bundle(bundle)


@pytest.mark.parametrize("count", [0, 1, 2, 4, 1000])
def test_there_is_one_label_per_class(bundle, count):
    put_labels(bundle, b"".join(b"label %d\n" % number for number in range(count)))
    with pytest.raises(LabelMismatch, match=f"{count} labels for a model with 3 classes"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    "content",
    [
        b"red\r\ngreen\r\nblue\r\n",
        b"\xef\xbb\xbfred\ngreen\nblue\n",
        b"red\ngreen\nblue",
        b"  red\t\n green \nblue\n\n\n",
    ],
)
def test_line_ends_and_byte_order_marks_are_no_part_of_a_label(bundle, content):
    put_labels(bundle, content)
    assert load_bundle(bundle).labels == LABELS


def test_labels_may_repeat_and_hold_any_script(bundle):
    put_labels(bundle, "crane\ncrane\nGrün, 緑\n".encode())
    assert load_bundle(bundle).labels == ("crane", "crane", "Grün, 緑")


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"\nred\ngreen\n", 1),
        (b"red\n\nblue\n", 2),
        (b"red\ngr\0een\nblue\n", 2),
        (b"red\ngreen\nbl\x1b[31mue\n", 3),
    ],
)
def test_a_line_that_is_no_name_is_refused(bundle, content, line):
    put_labels(bundle, content)
    with pytest.raises(ModelFormatError, match=f"line {line} is not a class name") as caught:
        load_bundle(bundle)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", bytes(range(256)), color_network()])
def test_binary_labels_are_refused(bundle, content):
    put_labels(bundle, content)
    with pytest.raises(ModelFormatError, match=r"labels\.txt: not UTF-8 text"):
        load_bundle(bundle)


# What the manifest may say


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (put("schema_version", value=2), "schema_version"),
        (put("schema_version", value=True), "schema_version"),
        (put("name", value=""), "name"),
        (put("name", value="../up"), "name"),
        (put("name", value="line\n"), "name"),
        (put("name", value="x" * 65), "name"),
        (put("license", value=""), "license"),
        (put("license", value="x" * 101), "license"),
        (drop("license"), "license"),
        (put("surprise", value=1), "surprise"),
        (put("input", value=[]), "input"),
        (drop("input", "name"), "name"),
        (put("input", "name", value=3), r"input\.name"),
        (put("input", "name", value=""), r"input\.name"),
        (put("input", "name", value="two\nlines"), r"input\.name"),
        (put("output", "name", value="colour\x1b[31m"), r"output\.name"),
        (put("license", value="MIT\n"), "license"),
        (put("input", "height", value=0), r"input\.height"),
        (put("input", "height", value=4097), r"input\.height"),
        (put("input", "width", value="224"), r"input\.width"),
        (put("input", "width", value=22.5), r"input\.width"),
        (put("input", "width", value=True), r"input\.width"),
        (put("input", "depth", value=3), "depth"),
        (put("preprocessing", "color", value="rgb"), r"preprocessing\.color"),
        (put("preprocessing", "resize", value="crop"), r"preprocessing\.resize"),
        (put("preprocessing", "shorter_side", value=-1), r"preprocessing\.shorter_side"),
        (put("preprocessing", "scale", value=0), r"preprocessing\.scale"),
        (put("preprocessing", "scale", value=None), r"preprocessing\.scale"),
        (put("preprocessing", "scale", value=1e7), r"preprocessing\.scale"),
        (put("preprocessing", "scale", value=10**400), r"preprocessing\.scale"),
        (put("preprocessing", "mean", value=[0, -1e7, 0]), r"preprocessing\.mean.1"),
        (put("preprocessing", "std", value=[1e-320, 1, 1]), r"preprocessing\.std.0"),
        (put("preprocessing", "mean", value=[0, 0]), r"preprocessing\.mean"),
        (put("preprocessing", "mean", value=[0, 0, 0, 0]), r"preprocessing\.mean"),
        (put("preprocessing", "mean", value=[0, 0, "0"]), r"preprocessing\.mean.2"),
        (put("preprocessing", "std", value=[1, 0, 1]), r"preprocessing\.std.1"),
        (put("preprocessing", "std", value=[1, 1, -1]), r"preprocessing\.std.2"),
        (put("preprocessing", "fill", value=256), r"preprocessing\.fill"),
        (put("preprocessing", "fill", value=-1), r"preprocessing\.fill"),
        (put("preprocessing", "fill", value=[1, 2]), r"preprocessing\.fill"),
        (put("preprocessing", "fill", value=[1, 2, 256]), r"preprocessing\.fill"),
        (put("preprocessing", "fill", value="mirror"), r"preprocessing\.fill"),
        (put("preprocessing", "interpolation", value="lanczos"), r"preprocessing\.interpolation"),
        (drop("preprocessing", "fill"), "fill"),
        (put("output", "kind", value="scores"), r"output\.kind"),
        (put("output", "classes", value=0), r"output\.classes"),
        (put("output", "classes", value=65536), r"output\.classes"),
        (put("provenance", value="somewhere"), "provenance"),
        (drop("files", "model.onnx"), r"model\.onnx"),
        (put("files", "../../etc/passwd", value="0" * 64), "files"),
        (put("files", "/etc/passwd", value="0" * 64), "files"),
        (put("files", ".hidden", value="0" * 64), "files"),
        (put("files", "model.onnx", value="0" * 63), "files"),
        (put("files", "model.onnx", value="A" * 64), "files"),
        (put("files", "model.onnx", value="0" * 64 + "\n"), "files"),
        (put("files", "two\nlines", value="0" * 63), "files"),
    ],
)
def test_a_field_that_makes_no_sense_is_named(bundle, change, field):
    reseal(bundle, change)
    with pytest.raises(ModelFormatError, match=field) as caught:
        load_bundle(bundle)
    text = str(caught.value)
    assert text.startswith(f"{bundle / 'bundle.json'}: ")
    assert "\n" not in text
    assert len(text) < len(str(bundle)) + 400


@pytest.mark.parametrize(
    ("section", "field", "value"), [("input", "height", 8.0), ("output", "classes", 3.0)]
)
def test_a_whole_number_may_have_a_point(bundle, section, field, value):
    """To JSON, 8.0 and 8 are the same."""
    reseal(bundle, put(section, field, value=value))
    found = getattr(getattr(load_bundle(bundle).manifest, section), field)
    assert (found, type(found)) == (value, int)


def test_the_crop_cannot_be_larger_than_the_resized_image(bundle):
    reseal(bundle, put("preprocessing", "resize", value="shorter-side"))
    with pytest.raises(ModelFormatError, match="shorter_side must be at least the input size, 8"):
        load_bundle(bundle)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"\x00\x01",
        b"\xff\xfe{}",
        b"[" * 100_000,
        b'{"a": ' * 100_000,
        b'{"schema_version": NaN}',
        b'{"schema_version": Infinity}',
        b'{"schema_version": ' + b"9" * 10_000 + b"}",
        b"null",
        b"[]",
        b'"bundle"',
    ],
)
def test_what_is_no_manifest_is_refused_in_one_line(bundle, content):
    (bundle / "bundle.json").write_bytes(content)
    with pytest.raises(ModelFormatError, match=r"bundle\.json: ") as caught:
        load_bundle(bundle)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_only_finite_numbers_are_read(bundle, number):
    content = (bundle / "bundle.json").read_text()
    assert '"fill": 0' in content
    text = content.replace('"mean": [\n      0.0', f'"mean": [\n      {number}')
    assert text != content
    (bundle / "bundle.json").write_text(text)
    with pytest.raises(ModelError, match=r"bundle\.json"):
        load_bundle(bundle)


def test_half_a_unicode_character_is_refused(bundle):
    content = (bundle / "bundle.json").read_bytes()
    (bundle / "bundle.json").write_bytes(content.replace(b"by a test", rb"by \ud800"))
    with pytest.raises(ModelError, match=r"bundle\.json"):
        load_bundle(bundle)


# Writing


class PowerCut(Exception):
    pass


def test_a_crash_at_any_step_leaves_the_old_manifest_or_the_new_one(bundle, monkeypatch):
    """Let the first, second, ... step fail until none does (the loop of rcutils)."""
    newer = replace(MANIFEST, license="MIT")
    old = (bundle / "bundle.json").read_bytes()
    make_bundle(bundle.parent / "copy", manifest=newer)
    new = (bundle.parent / "copy/bundle.json").read_bytes()
    steps = ("open", "write", "fsync", "chmod", "rename", "replace", "close")
    failures = 0
    for fatal in range(1, 100):
        (bundle / "bundle.json").write_bytes(old)
        calls = iter(range(1, 1000))
        with monkeypatch.context() as patch:
            for step in steps:
                patch.setattr(os, step, _failing(getattr(os, step), calls, fatal))
            try:
                write_bundle(bundle, newer)
                done = True
            except PowerCut:
                done = False
                failures += 1
        assert (bundle / "bundle.json").read_bytes() in ({new} if done else {old, new})
        assert sorted(file.name for file in bundle.iterdir()) == sorted(FILES)
        load_all(bundle)
        if done:
            break
    assert done
    assert failures >= 5


def _failing(function, calls, fatal):
    def call(*arguments, **options):
        if next(calls) == fatal:
            raise PowerCut
        return function(*arguments, **options)

    return call


def test_a_full_disk_keeps_the_old_manifest(bundle, monkeypatch):
    old = (bundle / "bundle.json").read_bytes()

    def no_space(_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", no_space)
    with pytest.raises(OSError, match="No space left"):
        write_bundle(bundle, replace(MANIFEST, license="MIT"))
    assert (bundle / "bundle.json").read_bytes() == old
    assert len(list(bundle.iterdir())) == len(FILES)


def test_a_copied_bundle_is_the_same_bundle(bundle, tmp_path):
    shutil.copytree(bundle, tmp_path / "elsewhere")
    copy, _ = load_all(tmp_path / "elsewhere")
    assert replace(copy, path=bundle) == load_bundle(bundle)


# Add files


def test_files_are_added_and_replaced_under_the_same_manifest(bundle):
    before = load_bundle(bundle)
    added = add_files(before, {"model.int8.onnx": named("one"), "calibration.json": b"{}"})
    assert added == load_bundle(bundle)
    assert added.manifest == before.manifest
    assert added.read("model.int8.onnx") == named("one")
    replaced = add_files(added, {"model.int8.onnx": named("two")})
    assert replaced.read("model.int8.onnx") == named("two")
    assert replaced.read("calibration.json") == b"{}"


def test_a_crash_while_files_are_replaced_leaves_a_valid_bundle(bundle, monkeypatch):
    before = add_files(load_bundle(bundle), {"a.onnx": named("old"), "b.onnx": named("old")})
    steps = []

    def crashing(path, content):
        if not steps:
            raise KeyboardInterrupt
        steps.pop()
        replace_file(path, content)

    monkeypatch.setattr("perception_node.model.bundle.replace_file", crashing)
    for number in range(4):
        steps[:] = range(number)
        with pytest.raises(KeyboardInterrupt):
            add_files(before, {"a.onnx": named("new"), "b.onnx": named("new")})
        found = load_bundle(bundle)
        assert found.read() == before.read()
        for name in found.files:
            found.read(name)
    steps[:] = range(4)
    added = add_files(before, {"a.onnx": named("new"), "b.onnx": named("new")})
    assert added.read("a.onnx") == named("new")


def test_a_bundle_that_cannot_be_written_says_what_to_do(bundle, monkeypatch):
    def fail(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr("perception_node.model.bundle.replace_file", fail)
    with pytest.raises(ConfigError, match="Read-only file system; copy the bundle to a folder"):
        add_files(load_bundle(bundle), {"a.onnx": b""})
