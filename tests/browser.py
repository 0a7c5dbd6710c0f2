# SPDX-License-Identifier: Apache-2.0
"""A real headless Chromium, and pages that break no rule while a test looks at them."""

from __future__ import annotations

import shutil
from urllib.parse import urlsplit

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--host-resolver-rules=MAP *.example.org 127.0.0.1",
)
PATIENCE_MS = 20_000
DESKTOP = {"width": 1280, "height": 900}
REFUSED = "Failed to load resource: the server responded with a status of"
WATCH_POLICY = """
window.violations = [];
document.addEventListener("securitypolicyviolation", ({ violatedDirective, blockedURI }) =>
  window.violations.push(`${violatedDirective} ${blockedURI}`));
"""
# The lowest ratio (WCAG 2.1) of the colours of all texts to what is behind them.
WORST_CONTRAST = """() => {
  const parse = (color) => {
    const [r, g, b, a = 1] = color.match(/[\\d.]+/g).map(Number);
    return { rgb: [r, g, b], a };
  };
  const light = (rgb) => rgb.map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    if (!node) return parse(getComputedStyle(document.body).backgroundColor).rgb;
    const { rgb, a } = parse(getComputedStyle(node).backgroundColor);
    if (a === 1) return rgb;
    return behind(node.parentElement).map((below, i) => a * rgb[i] + (1 - a) * below);
  };
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const node = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !node.checkVisibility()) continue;
    const style = getComputedStyle(node);
    const ink = parse(node.closest("svg") ? style.fill : style.color).rgb;
    const [low, high] = [light(ink), light(behind(node))].sort((a, b) => a - b);
    found.push([(high + 0.05) / (low + 0.05), node.textContent]);
  }
  return { ratio: Math.min(...found.map(([ratio]) => ratio)), found };
}"""


@pytest.fixture(scope="module")
def browser():
    """Chromium, once for a file of tests; skips where there is none."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    program = next(filter(None, map(shutil.which, NAMES)), None)
    if program is None:
        pytest.skip(f"no browser here: none of {', '.join(NAMES)} is on PATH")
    with playwright.sync_playwright() as driver:
        chromium = driver.chromium.launch(executable_path=program, args=list(ARGUMENTS))
        yield chromium
        chromium.close()


def picture(data, name="photo.jpg"):
    """Return a file as ``set_input_files`` takes it."""
    return {"name": name, "mimeType": "image/jpeg", "buffer": data}


class Visit:
    """A page in a profile of its own, and what it did beside what it shows."""

    def __init__(self, browser, url, **options):
        self.host = urlsplit(url).netloc
        self._context = browser.new_context(
            **{"viewport": DESKTOP, "reduced_motion": "reduce", **options}
        )
        self._context.set_default_timeout(PATIENCE_MS)
        self.page = self._context.new_page()
        self.page.add_init_script(WATCH_POLICY)
        self.complaints, self.addresses = [], []
        self.page.on("console", self._hear)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("request", lambda request: self.addresses.append(request.url))
        self.page.goto(url)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        try:
            if kind is None:
                self.require_manners()
        finally:
            self._context.close()

    def _hear(self, message):
        # Chromium says so of each answer from 400 on; what the page makes of it is tested.
        if message.type in {"error", "warning"} and not message.text.startswith(REFUSED):
            self.complaints.append(message.text)

    def require_manners(self):
        """No error, no violation of the policy, and nothing asked of another host."""
        assert self.complaints == []
        assert self.page.evaluate("window.violations") == []
        web = [address for address in self.addresses if not address.startswith("blob:")]
        assert {urlsplit(address).netloc for address in web} == {self.host}

    def texts(self, selector):
        """Return the texts of all elements that match."""
        return [text.strip() for text in self.page.locator(selector).all_inner_texts()]

    def wait_for_text(self, selector, text):
        """Wait until an element holds a text."""
        self.page.locator(selector).filter(has_text=text).first.wait_for()

    def require_contrast(self):
        """Every text can be read (WCAG AA), in both colour schemes."""
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme)
            worst = self.page.evaluate(WORST_CONTRAST)
            assert len(worst["found"]) > 5
            assert worst["ratio"] >= 4.5, (scheme, sorted(worst["found"])[:3])

    def require_names(self):
        """A screen reader has a name for every control, and a text for every picture."""
        controls = self.page.locator("a, button:visible, input, summary").all()
        assert len(controls) >= 3
        for control in controls:
            name = control.inner_text() or '"' in control.aria_snapshot()
            assert name, control.evaluate("node => node.outerHTML")
        assert all(image.get_attribute("alt") for image in self.page.locator("img:visible").all())
        assert self.page.locator("h1").count() == self.page.get_by_role("main").count() == 1

    def require_width(self):
        """Nothing is wider than the window."""
        assert self.page.evaluate("document.documentElement.scrollWidth <= innerWidth")
