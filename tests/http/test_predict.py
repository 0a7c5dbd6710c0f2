# SPDX-License-Identifier: Apache-2.0
"""``POST /predict`` over a real socket: what it answers, and what it says to those it refuses."""

from __future__ import annotations

import logging
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from perception_node.config.sections import CameraConfig, ModelConfig
from perception_node.engines.selection import load_pipeline
from perception_node.errors import EngineError
from perception_node.model.bundle import load_bundle
from perception_node.serving.settings import ServerSettings
from perception_node.vision.decode import Decoder
from perception_node.vision.frame import Frame
from tests.builders import BLUE, GREEN, RED, encode, quadrants, smooth, solid
from tests.engine_builders import PATIENCE_S, Rig, raising, wait_for
from tests.gate_builders import multi_label_bundle
from tests.http_builders import ask, form, serving, upload

COLORS = {"red": RED, "green": GREEN, "blue": BLUE}
FORM = "multipart/form-data; boundary=border"
JPEG = encode(solid(RED))


def with_size(width, height):
    """Return the beginning of a PNG that claims to have this size."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    crc = struct.pack(">I", zlib.crc32(header))
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + header + crc


def post(url, body, content_type):
    return ask(url, "/predict", "POST", body, content_type=content_type)


@pytest.fixture
def rig(color_bundle):
    """Engines that can be told to hang or to fail."""
    rig = Rig(load_bundle(color_bundle))
    yield rig
    rig.close()


# What is answered


@pytest.mark.parametrize("extension", [".jpg", ".png"])
@pytest.mark.parametrize("way", ["form", "body"])
def test_the_answer_is_the_pipelines(server, color_bundle, extension, way):
    data = encode(smooth(seed=3), extension)
    if way == "form":
        answer = upload(server.url, data)
    else:
        answer = post(server.url, data, f"image/{extension[1:]}")
    config = ModelConfig(model=str(color_bundle), engine="onnxruntime", threads=1)
    with load_pipeline(config) as pipeline:
        pixels = Decoder(CameraConfig().max_image_pixels, pipeline.smallest_side).decode(data)
        expected = pipeline.run(Frame.from_bgr(pixels), top_k=5, threshold=0.0).hypotheses
    assert answer.status == 200
    assert answer.headers["content-type"] == "application/json"
    record = answer.json
    assert record["results"] == [
        {"class_id": str(h.class_id), "label": h.label, "score": h.score} for h in expected
    ]
    assert (record["label"], record["score"]) == (expected[0].label, expected[0].score)
    assert record["latency_ms"] > 0
    assert record["model"] == "colors"


def test_the_answer_begins_as_that_of_the_reference_application(server):
    assert list(upload(server.url, JPEG).json)[:2] == ["label", "score"]


def test_a_multi_label_model_answers_with_all_labels_that_reach_their_threshold(tmp_path):
    bundle = multi_label_bundle(tmp_path / "labels", thresholds=(0.5, 0.5, 0.5))
    with serving(bundle.path) as server:
        yellow = upload(server.url, encode(solid((255, 255, 0)), ".png")).json
        black = upload(server.url, encode(solid((0, 0, 0)), ".png")).json
    scores = {one["label"]: one["score"] for one in yellow["results"]}
    assert scores == pytest.approx({"red": 0.997527, "green": 0.997527}, abs=1e-5)  # sigmoid of 6
    assert (black["label"], black["score"], black["results"]) == (None, None, [])


def test_bytes_without_a_known_type_are_an_image_too(server):
    assert post(server.url, JPEG, "application/octet-stream").json["label"] == "red"
    assert post(server.url, JPEG, "IMAGE/JPEG; charset=x").json["label"] == "red"


@pytest.mark.parametrize(
    "name",
    ["../../etc/passwd", "/etc/passwd", "C:\\boot.ini", "..%2f..%2fx", "a" * 4000, "", "ä \x01"],
    ids=ascii,
)
def test_the_name_of_a_file_means_nothing(server, name):
    body, content_type = form((name, JPEG))
    answer = post(server.url, body, content_type)
    assert (answer.status, answer.json["label"]) == (200, "red")


def test_other_fields_of_a_form_are_ignored(server):
    extra = b'--border\r\nContent-Disposition: form-data; name="note"\r\n\r\nhello\r\n'
    assert post(server.url, extra + form(("x", JPEG))[0], FORM).json["label"] == "red"


def test_the_answer_is_as_long_as_asked_for(color_bundle):
    with serving(color_bundle, top_k=2) as server:
        assert len(upload(server.url, JPEG).json["results"]) == 2


def test_where_nothing_reaches_the_threshold_there_is_no_label(color_bundle):
    with serving(color_bundle, threshold=0.9) as server:
        record = upload(server.url, encode(quadrants())).json
        assert (record["label"], record["score"], record["results"]) == (None, None, [])
        assert upload(server.url, JPEG).json["label"] == "red"


def test_each_of_many_clients_gets_the_answer_to_its_own_image(server):
    images = {name: encode(solid(color)) for name, color in COLORS.items()}
    names = [name for _ in range(20) for name in images]
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(lambda name: upload(server.url, images[name]), names))
    assert [answer.json["label"] for answer in answers] == names


# What is refused

TEXT_FIELD = (
    b'--border\r\nContent-Disposition: form-data; name="file"\r\n\r\ncat.jpg\r\n--border--\r\n'
)
MANY_FIELDS = b'--border\r\nContent-Disposition: form-data; name="a"\r\n\r\n\r\n' * 20
LONG_FIELD = (
    b'--border\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + bytes(100_000) + b"\r\n"
)
NAMELESS = b"--border\r\nX: y\r\n\r\nz\r\n--border--\r\n"
REFUSED = {
    "no body": (None, "", 400, "no image in the request"),
    "an empty body": (b"", "image/jpeg", 400, "the image is empty"),
    "an empty file": (form(("x.jpg", b""))[0], FORM, 400, "the image is empty"),
    "no file": (b"--border--\r\n", FORM, 400, "no files in its field 'file'"),
    "another field": (form(("x", JPEG), field="image")[0], FORM, 400, "no files in its field"),
    "two files": (form(("a", JPEG), ("b", JPEG))[0], FORM, 400, "2 files in its field 'file'"),
    "a text field": (TEXT_FIELD, FORM, 400, "curl -F file=@cat.jpg"),
    "a form cut short": (form(("x", JPEG))[0][:300], FORM, 400, "damaged or was cut short"),
    "no boundary": (form(("x", JPEG))[0], "multipart/form-data", 400, "damaged"),
    "another boundary": (form(("x", JPEG))[0], FORM + "s", 400, "damaged"),
    "a part without a name": (NAMELESS, FORM, 400, "damaged"),
    "many fields": (MANY_FIELDS + form(("x", JPEG))[0], FORM, 413, "too many or too large"),
    "a long field": (LONG_FIELD + form(("x", JPEG))[0], FORM, 413, "too many or too large"),
    "what curl sends without -H": (
        JPEG,
        "application/x-www-form-urlencoded",
        415,
        "as the body with Content-Type image/jpeg",
    ),
    "a body without a type": (JPEG, "", 415, "not that of an image"),
    "JSON": (b"{}", "application/json", 415, "not that of an image"),
    "no image": (b"hello", "image/jpeg", 400, "no JPEG, PNG, WebP or TIFF"),
    "a JPEG cut short": (JPEG[:-40], "image/jpeg", 400, "cut short"),
    "too many pixels": (with_size(9000, 9000), "image/png", 413, "send a smaller image"),
    "a strip": (with_size(100_000, 2), "image/png", 400, "no camera has"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_cannot_be_classified_is_refused_with_advice(server, kind):
    body, content_type, status, words = REFUSED[kind]
    headers = {"content_type": content_type} if content_type else {}
    answer = ask(server.url, "/predict", "POST", body, **headers)
    assert (answer.status, words in answer.error) == (status, True), answer.error
    assert "max_image_pixels" not in answer.error
    assert upload(server.url, JPEG).status == 200


def test_a_body_that_is_too_large_is_refused(color_bundle):
    with serving(color_bundle, ServerSettings(max_body_mib=1)) as server:
        largest = JPEG + bytes((1 << 20) - len(JPEG))
        assert post(server.url, largest, "image/jpeg").json["label"] == "red"
        answer = post(server.url, largest + b"x", "image/jpeg")
        assert (answer.status, "larger than 1 MiB" in answer.error) == (413, True)


# When the engine is busy, hangs or fails


def test_a_full_queue_and_a_deadline_are_said_so(color_bundle, rig):
    pipeline = rig.open()
    rig.first.fault = hang = rig.hang()
    settings = ServerSettings(queue=2, deadline_ms=1000)
    with serving(color_bundle, settings, pipeline=pipeline) as server:
        with ThreadPoolExecutor(2) as clients:
            waiting = [clients.submit(upload, server.url, JPEG) for _ in range(2)]
            wait_for(lambda: server.queue.depth == 2)
            full = upload(server.url, JPEG)
            late = [job.result(PATIENCE_S) for job in waiting]
        still_full = upload(server.url, JPEG)
        hang.release()
        wait_for(lambda: server.queue.depth == 0)
        assert upload(server.url, JPEG).status == 200
    assert (full.status, "2 images are waiting" in full.error) == (503, True)
    assert int(full.headers["retry-after"]) >= 1
    assert [answer.status for answer in late] == [504, 504]
    assert "not classified within 1000 ms" in late[0].error
    assert still_full.status == 503, "those that were given up keep their places"


def test_an_engine_that_takes_over_is_seen_in_healthz(color_bundle, rig):
    with serving(color_bundle, pipeline=rig.open()) as server:
        assert ask(server.url, "/healthz").json["status"] == "ok"
        rig.first.fault = raising(EngineError("out of memory in /secret/path"))
        assert upload(server.url, JPEG).json["label"] == "red"
        health = ask(server.url, "/healthz")
    assert (health.status, health.json["status"]) == (200, "degraded")
    assert health.json["engine"] == "the second"
    assert b"secret" not in health.body


@pytest.mark.parametrize(
    ("error", "what"),
    [
        (EngineError("cudaError at /secret/path"), "the engine"),
        (ZeroDivisionError(), "the server"),
    ],
    ids=["an error", "a bug"],
)
def test_an_engine_that_fails_costs_one_image(color_bundle, rig, caplog, error, what):
    pipeline = rig.open(first_survives=True)
    with serving(color_bundle, pipeline=pipeline) as server:
        rig.first.fault = raising(error)
        answer = upload(server.url, JPEG)
        rig.first.fault = lambda: None
        assert upload(server.url, JPEG).status == 200
    assert (answer.status, answer.error.startswith(f"{what} failed on this")) == (500, True)
    assert b"secret" not in answer.body
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert (record.exc_info is not None) == isinstance(error, ZeroDivisionError)


def test_without_an_engine_everybody_is_told_so_at_once(color_bundle, rig):
    pipeline = rig.open()
    with serving(color_bundle, pipeline=pipeline) as server:
        pipeline.interrupt()
        answers = [upload(server.url, JPEG) for _ in range(3)]
        health = ask(server.url, "/healthz")
    assert {answer.status for answer in answers} == {503}
    assert "no engine left" in answers[0].error
    assert int(answers[0].headers["retry-after"]) >= 1
    assert (health.status, health.json["status"]) == (503, "failed")
