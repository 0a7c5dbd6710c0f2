# SPDX-License-Identifier: Apache-2.0
"""Looks at the page of ``perception serve`` in a process of its own.

    python -m perception_node.bench.page_viewer '{"url": "http://127.0.0.1:5000"}'

Started by ``live_page``. Reads every event and fetches every new picture, as the page does; or
opens the page itself in headless Chromium. Writes one byte for each event and each picture.
"""

from __future__ import annotations

import json
from http import HTTPStatus
from http.client import HTTPConnection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from perception_node.bench.levels.child_process import take_task

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Response

EVENT, PICTURE = b"e", b"p"
DATA = b"data: "
SILENT_S = 30.0  # the server sends an event every 5 s at least
CHROMIUM_OPTIONS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
)


def main() -> None:
    """Look until the parent ends us."""
    task, write = take_task()
    if task.get("chromium"):
        open_page(task["url"], task["chromium"], write)
    else:
        follow_events(task["url"], write)


def follow_events(url: str, write: Callable[[bytes], None]) -> None:
    """Read events and fetch the pictures they announce, on two connections."""
    address = urlsplit(url).netloc
    events = HTTPConnection(address, timeout=SILENT_S)
    pictures = HTTPConnection(address, timeout=SILENT_S)
    events.request("GET", "/live/events")
    seen: dict[int, int] = {}
    for line in events.getresponse():
        if line.startswith(DATA):
            write(EVENT)
            for camera, state in enumerate(json.loads(line.removeprefix(DATA))["cameras"]):
                _fetch(pictures, camera, state["picture"], seen, write)


def _fetch(
    connection: HTTPConnection,
    camera: int,
    number: int,
    seen: dict[int, int],
    write: Callable[[bytes], None],
) -> None:
    if number in {0, seen.get(camera)}:
        return
    seen[camera] = number
    connection.request("GET", f"/live/pictures/{camera}?n={number}")
    response = connection.getresponse()
    if response.read() and response.status == HTTPStatus.OK:
        write(PICTURE)


def open_page(url: str, chromium: str, write: Callable[[bytes], None]) -> None:
    """Open the page itself; only its pictures can be counted."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - installed for tests only

    def on_response(response: Response) -> None:
        if "/live/pictures/" in response.url and response.ok:
            write(PICTURE)

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=list(CHROMIUM_OPTIONS))
        page = browser.new_page()
        page.on("response", on_response)
        page.goto(url)
        while True:
            page.wait_for_timeout(1000)


if __name__ == "__main__":
    main()
