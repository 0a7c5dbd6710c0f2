# SPDX-License-Identifier: Apache-2.0
"""Which web pages may ask: our own, and those of ``--cors-origin``; programs are no pages.

A browser sends requests of any page to any address: ``<img src=http://robot:5000/live/events>``
in an advertisement would take a viewer's place, and a form would make the server classify. Who
has asked stands in what browsers add and pages cannot change:

- ``Sec-Fetch-Site``, from current browsers, to https and to this machine;
- ``Origin``, from all browsers, but not with an ``<img>``;
- the cookie that our page sets, where neither is there: with SameSite=Strict, requests of
  foreign pages come without it.

curl and other programs send none of them, and are served.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from perception_node.errors import ForeignPage

if TYPE_CHECKING:
    from flask import Request, Response

SITE, MODE, DEST = "Sec-Fetch-Site", "Sec-Fetch-Mode", "Sec-Fetch-Dest"
OURS = frozenset(("same-origin", "none"))  # none: typed in, or from a bookmark
COOKIE = "perception_page"
LIVE = "/live/"
BROWSER = "Mozilla/"  # how the User-Agent of every browser begins


def require_known_page(request: Request, allowed: tuple[str, ...]) -> None:
    """Refuse what a foreign page has sent.

    Args:
        request: headers and path are looked at.
        allowed: origins whose pages may ask, as ``--cors-origin`` takes them.

    Raises:
        ForeignPage: the page is neither ours nor among ``allowed``.

    """
    site, origin = request.headers.get(SITE), request.headers.get("Origin")
    if "*" in allowed or (origin is not None and _is_among(origin, allowed)):
        return
    if site is not None:
        is_ours = site in OURS or _is_link(request)
    elif origin is not None:
        is_ours = _is_own(origin, request.headers.get("Host", ""))
    else:
        is_ours = not _needs_cookie(request) or COOKIE in request.cookies
    if not is_ours:
        raise ForeignPage


def mark_page(response: Response) -> None:
    """Let the browser show, with all that our page asks for, that it is our page.

    The value is no secret: no foreign page can set a cookie of our host, and all ports share it.
    """
    response.set_cookie(COOKIE, "1", httponly=True, samesite="Strict")


def _is_link(request: Request) -> bool:
    """Return whether somebody follows a link: it shows one page and asks for nothing else."""
    headers = request.headers
    return (
        request.method in {"GET", "HEAD"}
        and headers.get(MODE) == "navigate"
        and headers.get(DEST) == "document"
        and not request.path.startswith(LIVE)
    )


def _needs_cookie(request: Request) -> bool:
    is_browser = request.headers.get("User-Agent", "").startswith(BROWSER)
    return is_browser and request.path.startswith(LIVE)


def _is_among(origin: str, allowed: tuple[str, ...]) -> bool:
    return origin.lower() in map(str.lower, allowed)


def _is_own(origin: str, host: str) -> bool:
    """Return whether an origin is the address at which the server is called.

    The scheme is not compared, since a proxy may add TLS; nor is the port, where a proxy has
    taken it out of the Host header.
    """
    try:
        ours, page = urlsplit(f"//{host}"), urlsplit(origin)
        page_port = page.port or {"http": 80, "https": 443}.get(page.scheme)
        is_own_port = ours.port in {None, page_port}
    except ValueError:  # a port that is none, or half an address of IPv6
        return False
    return is_own_port and page.hostname is not None and page.hostname == ours.hostname
