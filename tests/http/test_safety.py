# SPDX-License-Identifier: Apache-2.0
"""Requests that no browser sends: each is refused in JSON, and says nothing of the inside."""

from __future__ import annotations

import logging

import cv2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_node.serving.app import PAGE
from perception_node.serving.headers import SECURITY_HEADERS
from perception_node.serving.settings import ServerSettings
from tests.builders import RED, encode, smooth, solid
from tests.hostile_images import chunk, png, with_exif, with_scans
from tests.http_builders import ask, form, serving, upload
from tests.raw_http import chunked, exchange, head

RED_JPEG = encode(solid(RED))
INSIDES = (b"Traceback", b"perception_node", b".py", b"werkzeug", b"flask", b"waitress", b"Error")
INSIDES += (b"/usr", b"/home", b"/tmp", b"site-packages")


def require_discreet(answer):
    """An error is ours, complete, and tells nothing about the server."""
    assert answer.error
    assert not [word for word in INSIDES if word in answer.body], answer.body
    require_headers(answer)


def require_headers(answer):
    for name, value in SECURITY_HEADERS.items():
        assert answer.headers[name.lower()] == value
    assert "server" not in answer.headers
    assert "via" not in answer.headers


def post(server, body, content_type="image/jpeg"):
    return ask(server.url, "/predict", "POST", body, content_type=content_type)


def require_alive(server):
    assert upload(server.url, RED_JPEG).json["label"] == "red"


# Images


def _truncated():
    whole = {"jpeg": encode(smooth(240, 320)), "png": encode(smooth(), ".png")}
    progressive = encode(smooth(240, 320), ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1)
    for name, data in {**whole, "progressive": progressive}.items():
        for percent in (1, 25, 60, 99):
            yield pytest.param(data[: len(data) * percent // 100], id=f"{name} {percent} %")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"garbage" * 1000, id="garbage"),
        pytest.param(b"\xff\xd8\xff" * 1000, id="markers"),
        pytest.param(b"<svg xmlns='http://www.w3.org/2000/svg'/>", id="svg"),
        pytest.param(b"GIF89a" + bytes(100), id="gif"),
        pytest.param(png(chunk(b"iCCP", b"", size=(1 << 32) - 1)), id="a chunk of 4 GiB"),
        pytest.param(png(*[chunk(b"tEXt", b"")] * 20_000), id="20 000 chunks"),
        pytest.param(
            with_scans(encode(smooth(), ".jpg", cv2.IMWRITE_JPEG_PROGRESSIVE, 1), 2000), id="scans"
        ),
        pytest.param(with_exif(RED_JPEG, bytes(60_000))[:-20], id="exif, no end"),
        *_truncated(),
    ],
)
def test_an_image_that_is_none_is_refused(server, data):
    answer = post(server, data)
    assert answer.status == 400
    require_discreet(answer)
    require_alive(server)


def test_an_image_with_too_many_pixels_is_refused(server):
    place = RED_JPEG.index(b"\xff\xc0") + 5
    jpeg = RED_JPEG[:place] + (16_000).to_bytes(2, "big") * 2 + RED_JPEG[place + 4 :]
    for bomb in (png(height=5000, width=5000), jpeg):
        answer = post(server, bomb)
        assert answer.status == 413
        assert "pixels" in answer.error
        require_discreet(answer)
    require_alive(server)


# Forms

PART = b'Content-Disposition: form-data; name="file"; filename="a.jpg"'
FORM = "multipart/form-data; boundary=x"


def parts(*contents: bytes, head_lines=PART):
    bodies = (b"--x\r\n" + head_lines + b"\r\n\r\n" + content + b"\r\n" for content in contents)
    return b"".join(bodies) + b"--x--\r\n"


@pytest.mark.parametrize(
    ("body", "content_type", "status"),
    [
        pytest.param(parts(RED_JPEG), "multipart/form-data", 400, id="no boundary"),
        pytest.param(parts(RED_JPEG), "multipart/form-data; boundary=", 400, id="empty boundary"),
        pytest.param(parts(RED_JPEG), f"{FORM}y", 400, id="another boundary"),
        pytest.param(parts(RED_JPEG), f"{FORM}{'x' * 9000}", 400, id="long boundary"),
        pytest.param(parts(RED_JPEG)[:-6], FORM, 400, id="unterminated"),
        pytest.param(parts(RED_JPEG)[:40], FORM, 400, id="ends in the head of a part"),
        pytest.param(b"", FORM, 400, id="nothing"),
        pytest.param(b"--x--\r\n", FORM, 400, id="no part"),
        pytest.param(parts(b""), FORM, 400, id="empty file"),
        pytest.param(parts(*[RED_JPEG] * 2), FORM, 400, id="two files"),
        pytest.param(parts(*[b"a"] * 5000), FORM, 413, id="5000 parts"),
        pytest.param(parts(RED_JPEG, head_lines=b"X: y"), FORM, 400, id="part without a name"),
        pytest.param(parts(b"a", head_lines=PART[:44]), FORM, 400, id="text, not a file"),
        pytest.param(
            parts(RED_JPEG, head_lines=PART.replace(b"file", b"photo", 1)), FORM, 400, id="photo"
        ),
        pytest.param(
            parts(RED_JPEG, head_lines=PART + b"\r\nX: " + b"y" * (1 << 20)), FORM, None, id="long"
        ),
        pytest.param(
            parts(parts(RED_JPEG), head_lines=b"Content-Type: multipart/mixed; boundary=x"),
            FORM,
            400,
            id="nested",
        ),
        pytest.param(RED_JPEG, "text/plain", 415, id="text"),
        pytest.param(b'{"file": ""}', "application/json", 415, id="json"),
        pytest.param(b"file=a", "application/x-www-form-urlencoded", 415, id="urlencoded"),
    ],
)
def test_a_form_that_is_none_is_refused(server, body, content_type, status):
    answer = post(server, body, content_type)
    if status is None:
        assert 400 <= answer.status < 500
    else:
        assert answer.status == status
    require_discreet(answer)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "/etc/passwd", "C:\\x", "a\x00.jpg", "a" * 5000, "\u202e", '"']
)
def test_the_name_of_a_file_means_nothing(server, name):
    answer = upload(server.url, RED_JPEG, name)
    if answer.status == 200:
        assert answer.json["label"] == "red"
    else:
        assert answer.status == 400
        require_discreet(answer)
    assert b"passwd" not in answer.body


edits = st.lists(
    st.tuples(
        st.integers(0, 400),
        st.integers(0, 30),
        st.binary(max_size=8) | st.sampled_from([b"--x", b"\r\n", b"\r\n\r\n", b"--x--", PART]),
    ),
    min_size=1,
    max_size=4,
)


@settings(max_examples=150)
@given(edits, st.booleans())
def test_a_damaged_form_is_refused_or_read_rightly(server, changes, is_behind):
    """Everything but the image is damaged; so whatever is classified must be that image."""
    before, behind = parts(RED_JPEG).split(RED_JPEG)
    text = behind if is_behind else before
    for position, length, new in changes:
        begin = position % (len(text) + 1)
        text = text[:begin] + new + text[begin + length :]
    body = before + RED_JPEG + text if is_behind else text + RED_JPEG + behind
    answer = post(server, body, FORM)
    if answer.status == 200:
        assert answer.json["label"] == "red"
    else:
        assert 400 <= answer.status < 500
        require_discreet(answer)


# Addresses and methods

PUBLIC = {file.read_bytes() for file in PAGE.iterdir() if file.suffix in (".css", ".js")}


@pytest.mark.parametrize(
    "path",
    [
        "/static/../app.py",
        "/static/../../cli/serve.py",
        "/static/%2e%2e/app.py",
        "/static/..%2fapp.py",
        "/static/%2e%2e%2fapp.py",
        "/static/..%5capp.py",
        "/static/..\\app.py",
        "/static/....//app.py",
        "/static//etc/passwd",
        "/static/%2fetc%2fpasswd",
        "/static/page.css%00.py",
        "/static/%00",
        "/static/.",
        "/static/..",
        "/static/",
        "/static",
        "/static/index.html",
        "/static/INDEX.HTML",
        "/static/page.css/",
        "/static/page.css;x",
        "/static/" + "a" * 5000,
        "/static/" + "../" * 2000 + "etc/passwd",
        "/static/%ff%fe",
        "/etc/passwd",
        "/../../etc/passwd",
        "file:///etc/passwd",
        "http://elsewhere/static/../app.py",
        "/live/pictures/0",
        "/live/events",
        "/admin%0d%0aX: y",
        "*",
        "/?" + "a=b&" * 2000,
        "//static//page.css",
        "/predict/",
        "/.git/config",
    ],
)
def test_no_address_leads_to_a_file(server, path):
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    answer, _ = exchange(server.port, request.encode())
    if answer.status == 200 and not path.startswith("/?"):
        assert answer.body in PUBLIC
    elif answer.status != 200:
        assert answer.status in (400, 404)
        require_discreet(answer)
    assert "x" not in answer.headers


@pytest.mark.parametrize("method", ["BREW", "PUT", "DELETE", "PATCH", "TRACE", "PROPFIND", "get"])
@pytest.mark.parametrize("path", ["/", "/predict", "/healthz", "/static/page.css", "/nowhere"])
def test_methods_that_an_address_does_not_know(server, method, path):
    answer, _ = exchange(server.port, head(method, path, Connection="close"))
    assert answer.status == (400 if method == "get" else 404 if path == "/nowhere" else 405)
    require_discreet(answer)
    if answer.status == 405:
        known = {"POST", "OPTIONS"} if path == "/predict" else {"GET", "HEAD", "OPTIONS"}
        assert set(answer.headers["allow"].split(", ")) == known


@pytest.mark.parametrize("target", ["localhost:22", "http://localhost/", "/"])
def test_it_is_no_proxy(server, target):
    answer, _ = exchange(server.port, head("CONNECT", target, Connection="close"))
    assert answer.status in (400, 404, 405)
    require_discreet(answer)


@pytest.mark.parametrize(
    "request_bytes",
    [
        head(Content_Length=5, Transfer_Encoding="chunked") + chunked(b"abcde"),
        head(Content_Length=5)[:-2] + b"Content-Length: 6\r\n\r\nabcdef",
        head(Content_Length="+5") + b"abcde",
        head(Content_Length="0x5") + b"abcde",
        head(Content_Length="-5") + b"abcde",
        head(Content_Length="9" * 400) + b"abcde",
        head(Transfer_Encoding="identity, chunked") + chunked(b"abcde"),
        head(Transfer_Encoding="chunked") + b"-5\r\nabcde\r\n0\r\n\r\n",
        head(Transfer_Encoding="chunked") + b"5\r\nabcdefg\r\n0\r\n\r\n",
        head().replace(b"Host", b"X\nY: z\r\nHost"),
        head().replace(b"Host:", b"Host :"),
        head("GET", "/", **{f"X-{n}": "y" * 100 for n in range(500)}),
        head("GET", "/", Cookie="y" * 20_000),
    ],
)
def test_a_request_whose_end_is_in_doubt_is_the_last_of_its_connection(server, request_bytes):
    hidden = head("GET", "/healthz")
    answer, ended = exchange(server.port, request_bytes + hidden)
    assert answer.status in (400, 413, 431, 501)
    assert ended
    require_discreet(answer)


# Who asks


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:5000", 200),
        ("LOCALHOST:80", 200),
        ("127.0.0.1:1", 200),
        ("[::1]", 200),
        ("[::1]:8000", 200),
        ("robot.example", 400),
        ("localhost.robot.example", 400),
        ("localhost@robot.example", 400),
        ("localhost:5000.robot.example", 400),
        ("127.0.0.1.robot.example:5000", 400),
        ("10.0.0.1", 400),
        ("localhost, robot.example", 400),
        ("", 400),
    ],
)
def test_on_loopback_only_names_of_this_machine_are_answered(server, host, status):
    """A page elsewhere can point its own name at 127.0.0.1 (DNS rebinding)."""
    for path in ("/", "/healthz", "/metrics", "/static/page.css", "/nowhere"):
        answer, _ = exchange(server.port, head("GET", path, Host=host, Connection="close"))
        assert answer.status == (404 if status == 200 and path == "/nowhere" else status)
        if status == 400:
            require_discreet(answer)


def cross(server, origin, method="POST", **headers):
    body, content_type = form(("a.jpg", RED_JPEG))
    sent = body if method == "POST" else None
    headers = {"content_type": content_type, **headers} if sent else headers
    return ask(server.url, "/predict", method, sent, Origin=origin, **headers)


def preflight(server, origin):
    wanted = {"Access_Control_Request_Method": "POST"}
    return cross(
        server, origin, "OPTIONS", Access_Control_Request_Headers="content-type", **wanted
    )


ALLOW = "access-control-allow-origin"


def test_pages_of_other_origins_may_not_read_unless_told(server):
    for answer in (cross(server, "https://a.example"), preflight(server, "https://a.example")):
        assert not [name for name in answer.headers if name.startswith("access-control")]


def test_only_the_given_origin_may_read(color_bundle):
    settings = ServerSettings(cors_origins=("https://a.example",))
    with serving(color_bundle, settings) as server:
        assert cross(server, "https://a.example").headers[ALLOW] == "https://a.example"
        answer = preflight(server, "https://a.example")
        assert answer.headers[ALLOW] == "https://a.example"
        assert "POST" in answer.headers["access-control-allow-methods"]
        for origin in ("https://b.example", "https://a.example.b.example", "http://a.example"):
            for answer in (cross(server, origin), preflight(server, origin)):
                assert ALLOW not in answer.headers
        assert ALLOW not in cross(server, "null").headers


def test_a_star_is_for_those_who_ask_for_it(color_bundle):
    with serving(color_bundle, ServerSettings(cors_origins=("*",))) as server:
        answer = cross(server, "https://b.example")
        assert answer.headers[ALLOW] == "*"
        assert "access-control-allow-credentials" not in answer.headers
        assert preflight(server, "https://b.example").headers[ALLOW] == "*"


# What every answer says


def test_every_answer_has_the_security_headers(server, monkeypatch, caplog):
    found = {path: ask(server.url, path) for path in ("/", "/healthz", "/metrics", "/nowhere")}
    found["right"] = upload(server.url, RED_JPEG)
    found["method"] = ask(server.url, "/predict")
    found["large"], _ = exchange(server.port, head(Content_Length=1 << 30))
    with caplog.at_level(logging.CRITICAL), monkeypatch.context() as patch:
        patch.setattr(server.queue, "classify", lambda *_: 1 / 0)  # a bug of ours
        found["bug"] = upload(server.url, RED_JPEG)
    statuses = {name: answer.status for name, answer in found.items()}
    assert statuses == {
        "/": 200,
        "/healthz": 200,
        "/metrics": 200,
        "/nowhere": 404,
        "right": 200,
        "method": 405,
        "large": 413,
        "bug": 500,
    }
    for answer in found.values():
        require_headers(answer)
    require_discreet(found["bug"])
    assert "script-src 'self'" in SECURITY_HEADERS["Content-Security-Policy"]
    assert found["right"].headers["cache-control"] == "no-store"
