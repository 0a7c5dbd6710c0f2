# SPDX-License-Identifier: Apache-2.0
"""The live view over HTTP: events as they come, and the newest picture of each camera."""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import TYPE_CHECKING

from flask import Blueprint, Response
from werkzeug.exceptions import NotFound

if TYPE_CHECKING:
    from collections.abc import Iterator

    from perception_node.live.live_view import LiveView
    from perception_node.serving.settings import ServerSettings

QUIET_S = 5.0  # without a change; only writing finds out that a client is gone, or the server


def live_routes(live: LiveView, settings: ServerSettings) -> Blueprint:
    """Return ``/live/events`` and ``/live/pictures/<camera>``."""
    routes = Blueprint("live", __name__, url_prefix="/live")

    @routes.get("/events")
    def events() -> Response:
        place = ExitStack()
        place.enter_context(live.viewing())
        stream = stream_events(live, settings.event_period_s, QUIET_S)
        response = Response(stream, mimetype="text/event-stream")
        # A generator that was never asked for its first event has no finally to run.
        response.call_on_close(place.close)
        response.headers["Cache-Control"] = "no-store"
        response.headers["X-Accel-Buffering"] = "no"
        return response

    @routes.get("/pictures/<int:camera>")
    def pictures(camera: int) -> Response:
        picture = live.picture(camera)
        if picture is None:
            raise NotFound("this camera has no picture; open /live/events to get one")
        response = Response(picture, mimetype="image/jpeg")
        response.headers["Cache-Control"] = "no-store"
        return response

    return routes


def stream_events(live: LiveView, event_period_s: float, quiet_s: float) -> Iterator[bytes]:
    """Yield the state after every change, at most once a period, until the view is closed.

    Without a change it is sent once more after ``quiet_s``: the page sees no other sign of life.
    """
    seen = -1
    while True:
        seen = live.wait(seen, quiet_s)
        if live.is_closed:
            return
        text = json.dumps(live.snapshot(), allow_nan=False, separators=(",", ":"))
        yield f"data: {text}\n\n".encode()
        live.pause(event_period_s)
