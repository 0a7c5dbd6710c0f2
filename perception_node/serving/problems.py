# SPDX-License-Identifier: Apache-2.0
"""Exceptions as answers: the client is told what it can do, the log what happened."""

from __future__ import annotations

import threading
from http import HTTPStatus
from logging import getLogger
from typing import TYPE_CHECKING

from flask import jsonify, request
from werkzeug.exceptions import HTTPException

from perception_node.errors import (
    DeadlineMissed,
    EngineError,
    EngineLost,
    ForeignPage,
    FrameError,
    FrameTooLarge,
    PerceptionError,
    RequestError,
    ServerBusy,
    UnsupportedUpload,
    UploadTooLarge,
    quote,
)
from perception_node.system.throttle import Throttle

if TYPE_CHECKING:
    from flask import Flask, Response

LOG_PERIOD_S = 5.0
RESTART_S = 10  # until a server without an engine may have been started anew
TEXTS = {
    404: "there is nothing at this address; POST /predict classifies an image",
    405: "this address does not know the method; see the header Allow",
    500: "the server failed on this request; its log says why",
}
STATUSES: dict[type[RequestError], int] = {  # 400 for the others
    ForeignPage: 403,
    UploadTooLarge: 413,
    UnsupportedUpload: 415,
    ServerBusy: 503,
    DeadlineMissed: 504,
}
logger = getLogger("perception.serve")


class Problems:
    """Turns what a view raises into ``{"error": "..."}`` with the right status."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._throttle = Throttle(LOG_PERIOD_S)

    def register(self, app: Flask) -> None:
        """Answer for everything that is raised in an application."""
        app.register_error_handler(HTTPException, self._answer_http)
        app.register_error_handler(Exception, self._answer)

    def _answer_http(self, error: HTTPException) -> Response:
        """Answer what Flask or Werkzeug refuse; their headers, such as Allow, stay."""
        status = error.code or 500
        response = problem(status, TEXTS.get(status, f"the request cannot be used: {error.name}"))
        for name, value in error.get_headers():
            if name.lower() != "content-type":
                response.headers[name] = value
        self._log(status, error)
        return response

    def _answer(self, error: Exception) -> Response:
        status, text = to_answer(error)
        response = problem(status, text)
        if isinstance(error, ServerBusy):
            response.headers["Retry-After"] = str(error.retry_after_s)
        elif isinstance(error, EngineLost):
            response.headers["Retry-After"] = str(RESTART_S)
        self._log(status, error)
        return response

    def _log(self, status: int, error: Exception) -> None:
        """Write one line per kind of problem and period: who sends nonsense cannot fill a disk."""
        kind = type(error).__name__
        with self._lock:
            if not self._throttle.is_due(f"{status} {kind}"):
                return
        is_bug = not isinstance(error, (PerceptionError, HTTPException))
        level = logger.error if status == HTTPStatus.INTERNAL_SERVER_ERROR else logger.warning
        what = error.name if isinstance(error, HTTPException) else f"{kind}: {error}"
        level(
            "%s %s: %d %s",
            quote(request.method),
            quote(request.path),
            status,
            what,
            exc_info=error if is_bug else None,
        )


def problem(status: int, text: str) -> Response:
    """Return the answer that says what is wrong."""
    response = jsonify(error=text)
    response.status_code = status
    return response


def to_answer(error: Exception) -> tuple[int, str]:
    """Return the HTTP status, and the line that a client may read."""
    if isinstance(error, RequestError):
        return STATUSES.get(type(error), 400), str(error)
    if isinstance(error, FrameTooLarge):
        return 413, f"{error.problem}; send a smaller image"  # its advice is for a robot
    if isinstance(error, FrameError):
        reason = "the image cannot be decoded" if error.__cause__ else str(error)
        return 400, f"{reason}; send a whole JPEG or PNG"
    if isinstance(error, EngineLost):
        return 503, "the server has no engine left and ends; try again once it was started anew"
    if isinstance(error, EngineError):
        return 500, "the engine failed on this image; the log of the server says why"
    return 500, TEXTS[500]
