# SPDX-License-Identifier: Apache-2.0
"""A report as one HTML file, light and dark; text from outside is shown by ``printable``.

It needs nothing else: pictures are in it, no script runs, nothing is loaded.
"""

from __future__ import annotations

from pathlib import Path

from perception_node.printable import finalize, printable_html

STYLE = Path(__file__).with_suffix(".css")
DASH = "\N{EN DASH}"  # for what is not known, and between two ends
PAGE = """\
<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style></head>
<body><main>
{body}
</main></body></html>
"""


def to_page(title: str, body: str) -> str:
    """Return a whole page; ``body`` is HTML already, with the classes of ``html_page.css``."""
    style = STYLE.read_text(encoding="utf-8")
    return PAGE.format(title=printable_html(title), style=style, body=body)


def render(template: Path, **values: object) -> str:
    """Fill in a template of Jinja; a value that it lacks is an error."""
    from jinja2 import Environment, StrictUndefined  # noqa: PLC0415 - not every page needs it

    environment = Environment(
        autoescape=True,
        finalize=finalize,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.from_string(template.read_text(encoding="utf-8")).render(values)
