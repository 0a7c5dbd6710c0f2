# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest

from perception_node.cli import main
from perception_node.cli.classify import to_records
from perception_node.vision.postprocess import Hypothesis
from tests.builders import BLUE, GREEN, RED, ROOT, encode, make_bundle, perception, solid


@pytest.fixture
def images(tmp_path):
    """Good images in a folder and one below it."""
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    (folder / "a.jpg").write_bytes(encode(solid(RED)))
    (folder / "b.PNG").write_bytes(encode(solid(GREEN), ".png"))
    (folder / "more/c.jpeg").write_bytes(encode(solid(BLUE)))
    (folder / "notes.txt").write_text("no image")
    return folder


def classify(capsys, *arguments):
    code = main(["classify", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def records(text):
    return [json.loads(line) for line in text.splitlines()]


def test_images_and_folders_are_classified_in_order(capsys, images, color_bundle):
    code, out, err = classify(capsys, images, images / "a.jpg", "--model", color_bundle, "--json")
    assert (code, err) == (0, "")
    found = [(record["file"], record["results"][0]["label"]) for record in records(out)]
    assert found == [
        (str(images / "a.jpg"), "red"),
        (str(images / "b.PNG"), "green"),
        (str(images / "more/c.jpeg"), "blue"),
        (str(images / "a.jpg"), "red"),
    ]


def test_the_json_of_one_image(capsys, images, color_bundle):
    _, out, _ = classify(capsys, images / "a.jpg", "--model", color_bundle, "--json")
    assert out == (
        json.dumps(
            {
                "file": str(images / "a.jpg"),
                "results": [
                    {"class_id": "0", "label": "red", "score": 0.999987},
                    {"class_id": "1", "label": "green", "score": 6e-06},
                    {"class_id": "2", "label": "blue", "score": 6e-06},
                ],
            }
        )
        + "\n"
    )


def test_the_text_for_people(capsys, images, color_bundle):
    _, out, _ = classify(capsys, images / "a.jpg", "--model", color_bundle, "--top-k", 2)
    assert out == f"{images / 'a.jpg'}\n  100.00%  red (0)\n    0.00%  green (1)\n"


def test_images_of_12_bits_have_a_range(capsys, tmp_path, color_bundle):
    scores = {}
    for name, level in (("dark", 1000), ("bright", 4095)):
        samples = np.full((8, 8, 3), (0, 0, level), np.uint16)  # BGR
        (tmp_path / f"{name}.png").write_bytes(cv2.imencode(".png", samples)[1].tobytes())
    for text in ("full", "0,4095", "auto"):
        options = ("--model", color_bundle, "--json", "--mono16-range", text)
        code, out, err = classify(capsys, tmp_path, *options)
        assert code == 0
        assert err.count("set mono16_range to auto") == (text == "full")
        scores[text] = [record["results"][0]["score"] for record in records(out)]
    levels = {"full": (15, 3), "0,4095": (255, 62), "auto": (255, 255)}
    for text, pair in levels.items():
        reds = np.exp(12.0 * np.array(pair) / 255)  # what color_network makes of red
        assert scores[text] == pytest.approx(list(reds / (reds + 2)), abs=1e-5)


def test_a_range_that_is_none_is_one_line(capsys, images, color_bundle):
    options = ("--model", color_bundle, "--mono16-range", "12")
    code, out, err = classify(capsys, images, *options)
    assert (code, out) == (2, "")
    assert err.startswith("perception: parameter mono16_range must be full, auto or MIN,MAX")
    assert err.count("\n") == 1


def test_top_k_and_threshold(capsys, images, color_bundle):
    def count(*arguments):
        model = ("--model", color_bundle, "--json")
        _, out, _ = classify(capsys, images / "a.jpg", *model, *arguments)
        return len(records(out)[0]["results"])

    assert count() == 3
    assert count("--top-k", 1) == 1
    assert count("--threshold", 0.5) == 1
    assert count("--threshold", 1.0) == 0


def test_records_are_rounded_to_what_another_cpu_repeats():
    assert to_records((Hypothesis(281, "tabby", 0.12345678),)) == [
        {"class_id": "281", "label": "tabby", "score": 0.123457}
    ]


def test_larger_images_are_taken_where_that_is_asked_for(capsys, images, color_bundle):
    pixels = 48 * 64
    file, model = images / "a.jpg", ("--model", color_bundle)
    assert classify(capsys, file, *model, "--max-image-pixels", pixels)[0] == 0
    code, out, err = classify(capsys, file, *model, "--max-image-pixels", pixels - 1)
    assert (code, out) == (2, "")
    assert f"64x48 is more than {pixels - 1} pixels; raise max_image_pixels" in err


@pytest.mark.parametrize("content", [b"", b"broken", b"\xff\xd8\xff\xe0cut", bytes(1000)])
def test_a_broken_image_does_not_stop_the_others(capsys, images, color_bundle, content):
    (images / "aa.jpg").write_bytes(content)
    code, out, err = classify(capsys, images, "--model", color_bundle, "--json")
    assert code == 2
    assert [record["results"][0]["label"] for record in records(out)] == ["red", "green", "blue"]
    assert err.startswith(f"perception: {images / 'aa.jpg'}: ")
    assert err.count("\n") == 1


def test_an_image_that_is_too_large_does_not_stop_the_others(capsys, images, color_bundle):
    huge = bytearray(encode(solid(RED)))
    frame = huge.index(b"\xff\xc0")
    huge[frame + 5 : frame + 9] = b"\xff\xdc\xff\xdc"
    (images / "aa.jpg").write_bytes(huge)
    code, out, err = classify(capsys, images, "--model", color_bundle, "--json")
    assert (code, len(records(out))) == (2, 3)
    assert "65500x65500 is more than" in err


def test_a_folder_in_the_place_of_an_image_does_not_stop_the_others(capsys, images, color_bundle):
    (images / "z.jpg").mkdir()
    code, out, err = classify(capsys, images, "--model", color_bundle, "--json")
    assert (code, len(records(out))) == (2, 3)
    assert f"perception: {images / 'z.jpg'}: " in err


@pytest.mark.timeout(20)
def test_a_pipe_in_the_place_of_an_image_does_not_hang(capsys, images, color_bundle):
    os.mkfifo(images / "z.jpg")
    code, out, err = classify(capsys, images, "--model", color_bundle, "--json")
    assert (code, len(records(out))) == (2, 3)
    assert "not a regular file" in err


def test_wrong_input_is_one_line_and_nothing_is_classified(capsys, images, color_bundle, tmp_path):
    (tmp_path / "empty").mkdir()
    damaged = make_bundle(tmp_path / "damaged")
    (damaged / "labels.txt").write_text("one\n")
    good = ("--model", color_bundle)
    for arguments, words in [
        ((images / "nowhere.jpg", *good), "nowhere.jpg: no such file"),
        (
            (images, tmp_path / "empty", *good),
            "the folder holds no .jpeg, .jpg, .png, .tif, .tiff, .webp file",
        ),
        ((images, "--model", "nonsense"), "models/nonsense not found"),
        ((images, "--model", tmp_path), "bundle.json: cannot be read"),
        ((images, "--model", damaged), "labels.txt: sha256 is"),
        ((images, *good, "--top-k", "0"), "parameter top_k must be 1 to 1000, found 0"),
        ((images, *good, "--threshold", "nan"), "--threshold: 'nan' is not a finite number"),
        ((images, *good, "--threads", "65"), "parameter threads"),
    ]:
        code, out, err = classify(capsys, *arguments)
        assert (code, out) == (2, "")
        assert err.startswith("perception: ")
        assert words in err
        assert err.count("\n") == 1


def run_into_closed_pipe(*arguments):
    """Run the command where nobody reads what it prints."""
    reader, writer = os.pipe()
    os.close(reader)
    environment = {name: v for name, v in os.environ.items() if name != "PYTHONUNBUFFERED"}
    try:
        return subprocess.run(
            [sys.executable, "-m", "perception_node.cli", *map(str, arguments)],
            stdout=writer,
            stderr=subprocess.PIPE,
            cwd=ROOT,
            env=environment,
            check=False,
        )
    finally:
        os.close(writer)


@pytest.mark.parametrize("count", [1, 400])  # fits into the buffer of stdout, and does not
def test_a_reader_that_has_seen_enough_is_no_error(images, color_bundle, count):
    arguments = [images / "a.jpg"] * count
    result = run_into_closed_pipe("classify", *arguments, "--model", color_bundle, "--json")
    assert (result.returncode, result.stderr) == (0, b"")


def test_the_first_line_is_enough_for_head(images, color_bundle):
    command = f"{sys.executable} -m perception_node.cli classify {images} --json"
    result = subprocess.run(
        ["bash", "-c", f"{command} --model {color_bundle} | head -1"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(result.stdout)["file"] == str(images / "a.jpg")
    assert result.stderr == ""


def test_a_name_that_is_no_utf_8_is_printed_escaped(images, color_bundle):
    name = os.fsencode(images) + b"/caf\xe9.jpg"
    os.rename(images / "a.jpg", name)  # noqa: PTH104 - pathlib has no bytes
    for arguments in ((), ("--json",)):
        result = perception(
            "classify",
            os.fsdecode(name),
            "--model",
            color_bundle,
            *arguments,
            env={**os.environ, "PYTHONIOENCODING": "utf-8:strict"},
        )
        assert (result.returncode, result.stderr) == (0, "")
        assert "caf\\udce9.jpg" in result.stdout


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_an_interrupted_command_ends_quietly(images, color_bundle, name):
    """Its results so far are whole lines."""
    many = [str(images / "a.jpg")] * 2000
    command = [sys.executable, "-m", "perception_node.cli", "classify", *many, "--json"]
    process = subprocess.Popen(
        [*command, "--model", str(color_bundle)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=ROOT,
    )
    process.stdout.readline()
    start = time.monotonic()
    process.send_signal(getattr(signal, name))
    out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert err == b""
    assert out == b"" or out.endswith(b"}\n")
    assert time.monotonic() - start < 5
