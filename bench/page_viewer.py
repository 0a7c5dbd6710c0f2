# SPDX-License-Identifier: Apache-2.0
"""Looks at the page of ``perception serve`` in a process of its own.

    python -m perception_node.bench.page_viewer '{"url": "http://127.0.0.1:5000"}'

Started by ``live_page``. Reads every event and fetches every new picture, as the page does; or
opens the page itself in headless Chromium. Writes one byte for each event and each picture.
"""

from __future__ import annotations

import json
import re
import sys
import time
from http import HTTPStatus
from http.client import HTTPConnection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from perception_node.bench.levels.child_process import take_task
from perception_node.errors import EnvironmentLacks
from perception_node.rehearsal.node_process import Program

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Response


START_TIMEOUT_S = 30.0
POLL_S = 0.05
ADDRESS = re.compile(r"http://[^\s)]+:\d+")


class PageServer(Program):
    """``perception serve --ros`` on a port that is free; what it says goes to its log."""

    name = "perception serve"
    stop_timeout_s = 10.0  # of which requests at work may take 5

    def __init__(self, *arguments: str) -> None:
        """Prepare to start it; ``arguments`` follow ``--ros``."""
        command = (sys.executable, "-m", "perception_node.cli", "serve", "--port", "0", "--ros")
        super().__init__([*command, *arguments])

    def wait_for_address(self) -> str:
        """Wait until it serves; return its address, such as http://127.0.0.1:40123.

        Raises:
            EnvironmentLacks: it does not start.

        """
        end_s = time.monotonic() + START_TIMEOUT_S
        while True:
            lines = self.log()
            if found := ADDRESS.search("\n".join(lines)):
                return found[0]
            if self.exit_code is not None or time.monotonic() > end_s:
                last = (lines or ["it said nothing"])[-1]
                raise EnvironmentLacks(f"perception serve did not start: {last}")
            time.sleep(POLL_S)


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
