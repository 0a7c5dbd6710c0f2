# SPDX-License-Identifier: Apache-2.0
"""The application without a socket: routes, headers, who may ask, and what the log says."""

from __future__ import annotations

import logging
from urllib.parse import unquote

import pytest
from flask.testing import FlaskClient

from perception_node.config.node_config import NodeConfig
from perception_node.config.sections import ModelConfig
from perception_node.engines.selection import load_pipeline
from perception_node.live.live_view import LiveView
from perception_node.serving.app import PAGE, create_app
from perception_node.serving.classification import ClassificationQueue
from perception_node.serving.headers import SECURITY_HEADERS
from perception_node.serving.settings import ServerSettings
from tests.builders import RED, encode, solid

IMAGE = {"data": encode(solid(RED)), "content_type": "image/jpeg"}
SHOP = "https://shop.example"


class Client(FlaskClient):
    """Reads answers to their end, as a server does, so that files are closed."""

    def open(self, *arguments, buffered=True, **options):
        return super().open(*arguments, buffered=buffered, **options)


@pytest.fixture(scope="module")
def classifier(color_bundle):
    model = ModelConfig(model=str(color_bundle), engine="onnxruntime", threads=1)
    with (
        load_pipeline(model) as pipeline,
        ClassificationQueue(pipeline, NodeConfig(model=model), ServerSettings()) as queue,
    ):
        yield queue


@pytest.fixture
def make_client(classifier):
    def make(live=None, **settings):
        app = create_app(classifier, ServerSettings(**settings), live)
        app.test_client_class = Client
        return app.test_client()

    return make


@pytest.fixture
def client(make_client):
    return make_client()


# Routes


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "text/html"),
        (None, "text/html"),
        ("text/html,application/xhtml+xml,*/*;q=0.8", "text/html"),
        ("application/json", "text/html"),
        ("text/plain", "text/plain"),
        ("text/plain, */*;q=0.1", "text/plain"),
        ("text/plain;q=0.5, text/html", "text/html"),
        ("nonsense;;;q=x", "text/html"),
    ],
)
def test_the_root_is_the_page_or_the_greeting_of_the_reference(client, accept, kind):
    answer = client.get("/", headers={} if accept is None else {"Accept": accept})
    assert (answer.status_code, answer.mimetype) == (200, kind)
    assert (answer.text == "Hello") == (kind == "text/plain")
    assert "Accept" in answer.headers["Vary"]


def test_the_page_names_the_model(client):
    assert "colors" in client.get("/").text


def test_every_file_of_the_page_is_served_but_the_template(client):
    files = sorted(file for file in PAGE.iterdir() if file.is_file())
    assert {file.suffix for file in files} == {".html", ".css", ".js", ".svg"}
    for file in files:
        answer = client.get(f"/static/{file.name}")
        if file.suffix == ".html":
            assert answer.status_code == 404
        else:
            assert answer.data == file.read_bytes()
            assert answer.mimetype in {"text/css", "text/javascript", "image/svg+xml"}


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/predict/",
        "/predict//",
        "/static/",
        "/static/nothing.css",
        "/static/../app.py",
        "/static/..%2f..%2fsettings.py",
        "/static/%2e%2e/headers.py",
        "/static//etc/passwd",
        "/static/page.css%00.html",
        "/static/" + "a" * 5000 + ".css",
        "/live/events",
        "/live/pictures/0",
    ],
)
def test_other_addresses_are_not_there(client, path):
    answer = client.get("/", environ_overrides={"PATH_INFO": unquote(path)})
    assert answer.status_code == 404
    assert list(answer.json) == ["error"]


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("GET", "/predict", {"POST", "OPTIONS"}),
        ("PUT", "/predict", {"POST", "OPTIONS"}),
        ("BREW", "/predict", {"POST", "OPTIONS"}),
        ("TRACE", "/", {"GET", "HEAD", "OPTIONS"}),
        ("POST", "/healthz", {"GET", "HEAD", "OPTIONS"}),
        ("DELETE", "/static/page.css", {"GET", "HEAD", "OPTIONS"}),
    ],
)
def test_other_methods_are_refused_with_those_that_are_allowed(client, method, path, allowed):
    answer = client.open(path, method=method)
    assert answer.status_code == 405
    assert set(answer.headers["Allow"].split(", ")) == allowed
    assert "Allow" in answer.json["error"]


def test_options_and_head_are_answered(client):
    options = client.options("/predict")
    assert (options.status_code, options.data) == (200, b"")
    assert set(options.headers["Allow"].split(", ")) == {"POST", "OPTIONS"}
    for path in ("/", "/healthz", "/metrics", "/static/page.css"):
        assert (client.head(path).status_code, client.head(path).data) == (200, b"")


def test_healthz_names_model_and_engine(client):
    answer = client.get("/healthz")
    assert answer.status_code == 200
    record = answer.json
    assert list(record) == ["status", "model", "engine", "reason"]
    assert (record["status"], record["model"]) == ("ok", "colors")
    assert record["engine"].startswith("ONNX Runtime")


def test_the_live_view_has_addresses_only_where_a_node_is_watched(make_client):
    live = LiveView("/perception", 0, 1)
    watching = make_client(live)
    assert watching.get("/live/pictures/0").status_code == 404  # no picture yet
    with watching.get("/live/events", buffered=False) as events:
        assert events.status_code == 200
        assert events.mimetype == "text/event-stream"
        live.close()


# Headers


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/static/page.js"),
        ("GET", "/healthz"),
        ("GET", "/metrics"),
        ("GET", "/nothing"),
        ("BREW", "/predict"),
        ("POST", "/predict"),
        ("OPTIONS", "/predict"),
    ],
)
def test_every_answer_has_the_security_headers(client, method, path):
    answer = client.open(path, method=method)
    for name, value in SECURITY_HEADERS.items():
        assert answer.headers.getlist(name) == [value]
    assert answer.headers["Cache-Control"] in {"no-store", "no-cache"}
    assert "Set-Cookie" not in answer.headers


def test_results_and_errors_are_not_stored(client):
    for answer in (client.post("/predict", **IMAGE), client.get("/healthz"), client.get("/x")):
        assert answer.headers["Cache-Control"] == "no-store"


# Who may ask


@pytest.mark.parametrize(
    "host", ["localhost", "LOCALHOST:5000", "127.0.0.1:1", "[::1]", "[::1]:5000", "robot.local:80"]
)
def test_a_server_of_this_machine_answers_to_its_names(make_client, host):
    client = make_client(trusted_hosts=("Robot.local",))
    assert client.get("/healthz", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:5000",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "localhost:5000@evil.example",
        "[::2]:5000",
        "[",
        ":5000",
        "",
        "localhost:x",
    ],
)
@pytest.mark.parametrize("path", ["/", "/healthz", "/static/page.js", "/nothing", "/predict"])
def test_a_server_of_this_machine_answers_to_no_other_name(client, host, path):
    answer = client.open(path, headers={"Host": host})
    assert answer.status_code == 400
    assert "--trusted-host" in answer.json["error"]


def test_a_server_for_others_answers_to_any_name_unless_some_are_given(make_client):
    evil = {"Host": "evil.example"}
    assert make_client(host="0.0.0.0").get("/healthz", headers=evil).status_code == 200
    client = make_client(host="0.0.0.0", trusted_hosts=("robot.local",))
    assert client.get("/healthz", headers=evil).status_code == 400
    assert client.get("/healthz", headers={"Host": "robot.local"}).status_code == 200


def preflight(client, origin):
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "content-type",
    }
    return client.options("/predict", headers=headers).headers


def test_no_page_elsewhere_may_read_answers_by_default(client):
    assert "Access-Control-Allow-Origin" not in preflight(client, SHOP)
    answer = client.post("/predict", headers={"Origin": SHOP}, **IMAGE)
    assert answer.status_code == 403
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize("origin", [SHOP, "http://[::1]:8000", "http://localhost:3000"])
def test_pages_of_the_origins_that_were_given_may(make_client, origin):
    client = make_client(cors_origins=(origin, "https://other.example"))
    found = preflight(client, origin)
    assert found["Access-Control-Allow-Origin"] == origin
    assert "POST" in found["Access-Control-Allow-Methods"]
    assert found["Access-Control-Allow-Headers"].lower() == "content-type"
    assert "Access-Control-Allow-Credentials" not in found
    refused = client.post("/predict", headers={"Origin": origin})
    assert refused.status_code == 400
    assert refused.headers["Access-Control-Allow-Origin"] == origin, "errors can be read too"
    assert "Origin" in refused.headers["Vary"]


@pytest.mark.parametrize(
    "origin", ["https://shopxexample", f"{SHOP}.evil.example", "http://shop.example", "null"]
)
def test_pages_of_similar_origins_may_not(make_client, origin):
    client = make_client(cors_origins=(SHOP,))
    assert "Access-Control-Allow-Origin" not in preflight(client, origin)


def test_a_star_lets_all_pages(make_client):
    assert preflight(make_client(cors_origins=("*",)), SHOP)["Access-Control-Allow-Origin"] == "*"


# The log


def test_a_flood_of_bad_requests_does_not_flood_the_log(client, caplog):
    for _ in range(50):
        client.get("/nothing")
        client.post("/predict", data=b"x", content_type="image/png")
    assert sorted(record.message.split(": ")[1][:3] for record in caplog.records) == ["400", "404"]


def test_what_clients_send_cannot_forge_lines_of_the_log(client, caplog):
    client.open("/a%0a%1b[31mb" + "c" * 5000, method="GE\x1bT\n")
    client.post("/predict", data=b"\n\x1b[31mcat", content_type="image/png")
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == 2
    for line in lines:
        assert line.isprintable()
        assert len(line) < 200


def test_a_bug_is_answered_without_its_inside_and_logged_with_it(classifier, caplog):
    app = create_app(classifier, ServerSettings())

    @app.get("/bug")
    def bug():
        raise ZeroDivisionError("secret")

    answer = app.test_client().get("/bug")
    assert (answer.status_code, list(answer.json)) == (500, ["error"])
    assert "secret" not in answer.text
    (record,) = caplog.records
    assert (record.levelno, record.name) == (logging.ERROR, "perception.serve")
    assert "secret" in logging.Formatter().format(record)
