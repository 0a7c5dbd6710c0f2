# SPDX-License-Identifier: Apache-2.0
"""The page in a real browser: a picture is chosen, dropped, pasted, and classified."""

from __future__ import annotations

import base64
import re
from http.client import HTTPConnection

import pytest

from perception_node.serving.settings import ServerSettings
from tests.browser import Visit, picture
from tests.builders import BLUE, LABELS, RED, encode, make_bundle, smooth, solid
from tests.http_builders import serving, upload

RESULTS = "#found .bars li"
HOSTILE = "<img src=x onerror=alert(1)>"
SHARES = """(bars) => bars.map((bar) =>
  parseFloat(getComputedStyle(bar, "::before").width) / bar.clientWidth)"""
SEND = """([kind, name, data]) => {
  const bytes = Uint8Array.from(atob(data), (letter) => letter.charCodeAt(0));
  const transfer = new DataTransfer();
  transfer.items.add(new File([bytes], name));
  const options = { bubbles: true, cancelable: true };
  document.querySelector(".drop").dispatchEvent(kind === "drop"
    ? new DragEvent(kind, { ...options, dataTransfer: transfer })
    : new ClipboardEvent(kind, { ...options, clipboardData: transfer }));
}"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """A model one of whose labels is HTML, behind a small limit."""
    labels = (HOSTILE, *LABELS[1:])
    bundle = make_bundle(tmp_path_factory.mktemp("model") / "colors", labels=labels)
    with serving(bundle, ServerSettings(max_body_mib=1)) as served:
        yield served


@pytest.fixture
def visit(browser, server):
    with Visit(browser, server.url) as opened:
        yield opened


def rows_of(answer):
    return [f"{row['label']}\n{100 * row['score']:.1f} %" for row in answer["results"]]


def test_a_chosen_picture_is_shown_with_what_the_server_answers(visit, server):
    data = encode(smooth())
    with visit.page.expect_file_chooser() as chooser:
        visit.page.locator(".drop").click()
    with visit.page.expect_response("**/predict") as response:
        chooser.value.set_files(picture(data))
    visit.wait_for_text("#took", f"{response.value.json()['latency_ms']:.1f} ms · colors")
    expected = upload(server.url, data).json
    assert visit.texts(RESULTS) == rows_of(expected)
    assert visit.texts("#found .label") == [expected["label"]]
    shown = visit.page.locator("#preview")
    assert shown.get_attribute("alt") == "Your picture photo.jpg"
    assert shown.evaluate("image => image.decode().then(() => image.naturalWidth)") == 160
    shares = visit.page.locator(f"{RESULTS} i").evaluate_all(SHARES)
    assert shares == pytest.approx([row["score"] for row in expected["results"]], abs=0.01)
    visit.require_contrast()
    visit.require_names()


@pytest.mark.parametrize("kind", ["drop", "paste"])
def test_a_picture_can_be_dropped_and_pasted(visit, kind):
    data = base64.b64encode(encode(solid(BLUE))).decode()
    visit.page.evaluate(SEND, [kind, "blue.jpg", data])
    visit.wait_for_text("#found .label", "blue")
    assert visit.page.url.endswith("/"), "the browser must not leave for the picture"


def test_a_label_is_text_whatever_it_looks_like(visit):
    visit.page.set_input_files("#file", picture(encode(solid(RED))))
    visit.wait_for_text("#found .label", HOSTILE)
    assert visit.page.locator("#found img").count() == 0


def test_the_line_of_the_server_is_shown_and_the_next_picture_counts(visit, server):
    visit.page.set_input_files("#file", picture(b"no picture"))
    said = upload(server.url, b"no picture").error
    visit.wait_for_text("#message.error", said)
    assert not visit.page.locator("#preview, #found, #again").locator("visible=true").count()
    visit.require_contrast()
    visit.page.set_input_files("#file", picture(encode(solid(BLUE))))
    visit.wait_for_text("#found .label", "blue")
    assert visit.texts("#message") == [""]


def test_too_large_a_picture_is_not_sent(visit):
    visit.page.set_input_files("#file", picture(bytes(1 << 20), "large.jpg"))
    visit.wait_for_text("#message.error", "large.jpg has 1.0 MiB. Allowed: JPEG or PNG, up to 1")
    assert not any(address.endswith("/predict") for address in visit.addresses)


def test_only_the_newest_picture_is_answered(visit):
    """The first request is held back until the second was answered."""
    held = []

    def hold(route):
        held.append(route)

    visit.page.route("**/predict", hold, times=1)
    with visit.page.expect_event("requestfailed") as aborted:
        visit.page.set_input_files("#file", picture(encode(solid(RED))))
        visit.wait_for_text("#message", "Classifying")
        visit.page.set_input_files("#file", picture(encode(solid(BLUE))))
    assert "ABORTED" in aborted.value.failure
    assert len(held) == 1
    visit.wait_for_text("#found .label", "blue")


def test_a_server_that_is_gone_is_said_and_asked_again(visit):
    visit.page.route("**/predict", lambda route: route.abort("connectionrefused"), times=1)
    visit.page.set_input_files("#file", picture(encode(solid(BLUE))))
    visit.wait_for_text("#message.error", "cannot be reached. Check that it runs")
    visit.complaints.clear()  # of the browser itself
    visit.page.get_by_role("button", name="Try again").click()
    visit.wait_for_text("#found .label", "blue")


def test_the_keyboard_is_enough(visit):
    page = visit.page
    with page.expect_file_chooser() as chooser:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "file"
        outline = page.locator(".drop").evaluate("area => getComputedStyle(area).outlineStyle")
        assert outline == "solid", "the focus must be seen"
        page.keyboard.press("Enter")
    chooser.value.set_files(picture(encode(solid(BLUE))))
    visit.wait_for_text("#found .label", "blue")
    assert page.locator("#result").get_attribute("aria-live") == "polite"
    for name in ("health", "metrics"):
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == name


def test_it_fits_a_phone(browser, server):
    phone = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
    with Visit(browser, server.url, **phone) as visit:
        visit.require_width()
        visit.page.set_input_files("#file", picture(encode(solid(RED, 600, 800))))
        visit.wait_for_text("#found .label", HOSTILE)
        visit.require_width()


def test_it_is_small_and_needs_nothing_else(visit, server):
    visit.page.wait_for_load_state("networkidle")
    paths = sorted(re.sub(r"^http://[^/]+", "", address) for address in visit.addresses)
    assert {"/", "/static/page.css", "/static/page.js"} <= set(paths)
    assert not any("live" in path for path in paths)
    connection = HTTPConnection("127.0.0.1", server.port)
    total = 0
    for path in paths:
        connection.request("GET", path)
        total += len(connection.getresponse().read())
    connection.close()
    assert total < 16_000


@pytest.mark.parametrize(("motion", "is_still"), [("reduce", True), ("no-preference", False)])
def test_bars_grow_slowly_only_where_motion_is_welcome(browser, server, motion, is_still):
    with Visit(browser, server.url, reduced_motion=motion) as visit:
        visit.page.set_input_files("#file", picture(encode(solid(BLUE))))
        visit.wait_for_text("#found .label", "blue")
        time = visit.page.locator(f"{RESULTS} i").first.evaluate(
            "bar => getComputedStyle(bar, '::before').transitionDuration"
        )
        assert (time == "0s") == is_still
