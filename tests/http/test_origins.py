# SPDX-License-Identifier: Apache-2.0
"""Which web pages may ask a server; programs that are no browsers always may."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from http.client import HTTPConnection
from urllib.parse import urlsplit

import pytest

from perception_node.live.live_view import LiveView
from perception_node.serving.settings import ServerSettings
from tests.builders import RED, encode, solid
from tests.http_builders import serving

VIEWERS = 2
EVIL = "https://evil.example"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
IMAGE = encode(solid(RED))
GETS = ("/", "/static/page.js", "/healthz", "/metrics", "/live/pictures/0", "/live/events")
# What a browser sends with an <img>, a script, a frame, fetch() or a form of a page elsewhere.
CROSS = {"Sec-Fetch-Site": "cross-site", "User-Agent": FIREFOX}
IMG = {**CROSS, "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
FRAME = {**CROSS, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
FETCH = {**CROSS, "Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty", "Origin": EVIL}
LINK = {**CROSS, "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
SIBLING = {**IMG, "Sec-Fetch-Site": "same-site"}
NEVER_SEEN = {**IMG, "Sec-Fetch-Site": "some-new-word"}
FOREIGN = [IMG, FRAME, FETCH, SIBLING, NEVER_SEEN, {"Origin": EVIL}, {"Origin": "null"}]
OUR_PAGE = {**IMG, "Sec-Fetch-Site": "same-origin"}


@contextmanager
def watched(bundle, **settings):
    live = LiveView("/perception", 0, VIEWERS)
    with serving(bundle, ServerSettings(viewers=VIEWERS, **settings), live) as served:
        served.live = live
        yield served


@pytest.fixture(autouse=True, scope="module")
def _clients_that_are_gone_are_soon_found():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("perception_node.serving.live_routes.QUIET_S", 0.1)
        yield


@pytest.fixture(scope="module")
def served(color_bundle):
    with watched(color_bundle) as served:
        yield served


def ask(served, method, path, headers, body=None):
    """Return status and, unless it is a stream, body and headers of an answer."""
    connection = HTTPConnection(urlsplit(served.url).netloc, timeout=20)
    try:
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        is_stream = answer.headers.get_content_type() == "text/event-stream"
        return answer.status, b"" if is_stream else answer.read(), answer.headers
    finally:
        connection.close()


def wait_until_all_places_are_free(served):
    end_s = time.monotonic() + 20
    while served.live.viewers_now:
        assert time.monotonic() < end_s
        time.sleep(0.01)


@pytest.mark.parametrize("headers", FOREIGN)
@pytest.mark.parametrize("path", GETS)
def test_pages_elsewhere_get_nothing(served, path, headers):
    status, body, answered = ask(served, "GET", path, headers)
    assert status == 403
    assert "--cors-origin" in json.loads(body)["error"]
    assert "Access-Control-Allow-Origin" not in answered
    assert served.live.viewers_now == 0


@pytest.mark.parametrize("headers", [*FOREIGN, LINK])
def test_pages_elsewhere_cannot_make_it_classify(served, headers):
    depth = served.queue.depth
    kind = {"Content-Type": "image/jpeg"}  # of a form, or of fetch() without a question before
    assert ask(served, "POST", "/predict", {**headers, **kind}, IMAGE)[0] == 403
    assert served.queue.depth == depth


def test_a_page_elsewhere_takes_no_viewer_place(served):
    for _ in range(3 * VIEWERS):
        assert ask(served, "GET", "/live/events", IMG)[0] == 403
    for _ in range(VIEWERS):
        assert ask(served, "GET", "/live/events", {})[0] == 200
        wait_until_all_places_are_free(served)


@pytest.mark.parametrize("path", [path for path in GETS if not path.startswith("/live/")])
def test_links_from_elsewhere_can_be_followed(served, path):
    assert ask(served, "GET", path, LINK)[0] == 200


@pytest.mark.parametrize("path", ["/live/pictures/0", "/live/events"])
def test_a_window_that_a_page_elsewhere_opens_is_no_viewer(served, path):
    assert ask(served, "GET", path, LINK)[0] == 403


@pytest.mark.parametrize(
    "headers", [{}, {"User-Agent": "curl/8.5.0", "Accept": "*/*"}, {"Sec-Fetch-Site": "none"}]
)
def test_programs_and_typed_addresses_are_served(served, headers):
    expected = {"/live/pictures/0": 404}
    for path in GETS:
        assert ask(served, "GET", path, headers)[0] == expected.get(path, 200)
    wait_until_all_places_are_free(served)
    sent = {**headers, "Content-Type": "image/jpeg"}
    assert ask(served, "POST", "/predict", sent, IMAGE)[0] == 200


def test_our_own_page_is_served(served):
    for path in GETS:
        assert ask(served, "GET", path, OUR_PAGE)[0] in {200, 404}
    wait_until_all_places_are_free(served)
    sent = {**OUR_PAGE, "Origin": "https://robot.example", "Content-Type": "image/jpeg"}
    assert ask(served, "POST", "/predict", sent, IMAGE)[0] == 200, "behind a proxy"


def test_without_sec_fetch_the_cookie_of_our_page_tells_who_watches(served):
    """Browsers send Sec-Fetch-Site only by https and to their own machine."""
    browser = {"User-Agent": FIREFOX}
    assert ask(served, "GET", "/live/events", browser)[0] == 403
    assert ask(served, "GET", "/live/pictures/0", browser)[0] == 403
    status, _, headers = ask(served, "GET", "/", {**browser, "Accept": "text/html"})
    assert status == 200
    cookie, *attributes = headers["Set-Cookie"].split("; ")
    assert {"SameSite=Strict", "HttpOnly", "Path=/"} <= set(attributes)
    assert ask(served, "GET", "/live/events", {**browser, "Cookie": cookie})[0] == 200
    wait_until_all_places_are_free(served)


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        ("http://localhost:5000", "localhost:5000", 200),
        ("https://localhost", "localhost:443", 200),
        ("http://localhost", "localhost:80", 200),
        ("http://LOCALHOST:5000", "localhost:5000", 200),
        ("http://[::1]:5000", "[::1]:5000", 200),
        ("https://localhost:8443", "localhost", 200),  # nginx: proxy_set_header Host $host
        ("http://localhost:3000", "localhost:5000", 403),
        ("http://127.0.0.1:5000", "localhost:5000", 403),
        ("http://localhost.evil.example:5000", "localhost:5000", 403),
        ("http://localhost:5000@evil.example", "localhost:5000", 403),
        ("http://localhost:port", "localhost:5000", 403),
        ("http://[::1", "[::1]:5000", 403),
        ("", "localhost:5000", 403),
        ("null", "localhost:5000", 403),
    ],
)
def test_an_origin_is_ours_where_it_is_the_address_that_is_called(served, origin, host, status):
    headers = {"Origin": origin, "Host": host, "Content-Type": "image/jpeg"}
    assert ask(served, "POST", "/predict", headers, IMAGE)[0] == status


def test_origins_that_the_operator_allows(color_bundle):
    with watched(color_bundle, cors_origins=(EVIL,)) as served:
        sent = {**FETCH, "Content-Type": "image/jpeg"}
        status, _, headers = ask(served, "POST", "/predict", sent, IMAGE)
        assert (status, headers["Access-Control-Allow-Origin"]) == (200, EVIL)
        assert ask(served, "GET", "/live/events", FETCH)[0] == 200
        wait_until_all_places_are_free(served)
        other = {**FETCH, "Origin": "https://other.example"}
        assert ask(served, "GET", "/live/events", other)[0] == 403
        assert ask(served, "GET", "/live/events", IMG)[0] == 403, "it does not say whose it is"
    with watched(color_bundle, cors_origins=("*",)) as served:
        for headers in FOREIGN:
            assert ask(served, "GET", "/healthz", headers)[0] == 200


def test_a_name_that_is_not_the_servers_is_refused_first(served):
    headers = {**OUR_PAGE, "Host": "evil.example", "Origin": "http://evil.example"}
    assert ask(served, "GET", "/healthz", headers)[0] == 400


def test_refusals_are_counted(served):
    ask(served, "GET", "/live/events", IMG)
    text = ask(served, "GET", "/metrics", {})[1].decode()
    line = 'perception_http_requests_total{endpoint="/live/events",status="403"}'
    assert line in text
