# SPDX-License-Identifier: Apache-2.0
"""One connection of the HTTP server, patient only for so long.

waitress bounds a client's silence, but not its slowness: one byte a minute would hold a connection
for ever. It also judges by the clock of the day, which a robot sets while it runs. Here every wait
for a client has an end, on the steady clock.
"""

from __future__ import annotations

import json
import math
import socket
import time
from typing import TYPE_CHECKING, Any

from waitress.channel import HTTPChannel
from waitress.task import ErrorTask
from waitress.utilities import Error

from perception_node.serving.headers import NO_STORE, SECURITY_HEADERS
from perception_node.serving.request_parser import RequestParser

if TYPE_CHECKING:
    from perception_node.serving.http_server import BoundAddress
    from perception_node.untyped import Passed

MAX_HEADER_BYTES = 16 << 10
LINGER_S = 2.0  # for a client that still sends while it is refused
DISCARDED_BYTES = 1 << 16  # at a time
MESSAGES = {
    400: "this is not a valid HTTP request; its first line, a header or its length is malformed",
    408: "the request did not arrive whole within {timeout_s} s; send it faster, or less of it",
    413: "the body is larger than {body_mib} MiB; send a smaller image",
    431: "the headers are larger than {header_kib} KiB; send fewer or shorter ones",
    500: "the server failed; its log says more",
    501: "of the transfer codings, only chunked is understood",
}


class RequestTimeout(Error):
    """A request that did not arrive whole in time."""

    code = 408
    reason = "Request Timeout"


class ErrorAnswer(ErrorTask):
    """What the HTTP server itself answers, in the form of the application's errors."""

    channel: Channel

    def execute(self) -> None:
        """Write the answer; the connection ends with it."""
        error: Any = self.request.error  # type: ignore[attr-defined]
        server = self.channel.server.owner
        message = MESSAGES[error.code].format(
            timeout_s=server.settings.request_timeout_s,
            body_mib=server.settings.max_body_mib,
            header_kib=MAX_HEADER_BYTES >> 10,
        )
        body = json.dumps({"error": message}).encode() + b"\n"
        self.status = f"{error.code} {error.reason}"
        self.response_headers = [
            ("Content-Type", "application/json"),
            ("Cache-Control", NO_STORE),
            *SECURITY_HEADERS.items(),
        ]
        self.set_close_on_finish()
        self.content_length = len(body)
        self.channel.lingers = True
        server.on_refusal(error.code)
        self.write(body)


class Channel(HTTPChannel):
    """One connection.

    Attributes:
        lingers: read on for a moment before closing, so that a client that is still sending gets
            the answer and not a reset connection.

    """

    error_task_class = ErrorAnswer
    parser_class = RequestParser
    server: BoundAddress

    def __init__(self, *arguments: Passed, **options: Passed) -> None:
        """Wait for the first request from now on."""
        self.lingers = False
        self._is_lingering = False
        self._is_arriving = False  # some bytes of a request are here
        self._since_s = time.monotonic()  # this wait for the client; inf: the client waits for us
        self._emptied_s = self._since_s  # when nothing was left to send
        super().__init__(*arguments, **options)

    @property
    def is_busy(self) -> bool:
        """Whether a request is at work or an answer on its way."""
        return bool(self.requests or self.total_outbufs_len)

    def sweep(self, now_s: float, timeout_s: float) -> None:
        """Close the connection if its client has gone or is too slow.

        Called about once a second, in the thread that receives and sends.
        """
        if not self.total_outbufs_len:
            self._emptied_s = now_s
        if now_s - self._emptied_s > timeout_s:  # it does not read
            self.abort()
        elif self._is_lingering:
            if now_s - self._since_s > LINGER_S:
                self.abort()
        elif self.requests:
            if self._has_client_gone():
                self.abort()
        elif now_s - self._since_s > timeout_s:
            self._refuse_slow_request()

    def abort(self) -> None:
        """Close the connection now, whatever there is to send or receive."""
        super().handle_close()

    def readable(self) -> bool:
        """Return whether bytes from the client are wanted."""
        return not self.server.owner.is_stopping and super().readable()

    def received(self, data: bytes) -> bool:
        """Take bytes of a request; with the first one its time begins."""
        if not self._is_arriving:
            self._is_arriving = True
            self._since_s = time.monotonic()
        return super().received(data)

    def service(self) -> None:
        """Answer one request, in a worker's thread."""
        self._since_s = math.inf
        super().service()
        self._is_arriving = self.request is not None  # the next one, sent before the answer
        self._since_s = time.monotonic()

    def handle_read(self) -> None:
        """Receive, or throw away what is sent after a refusal."""
        if not self._is_lingering:
            super().handle_read()
            return
        try:
            self.recv(DISCARDED_BYTES)  # closes if the client has
        except OSError:
            self.abort()

    def handle_close(self) -> None:
        """Close, after a moment if the client may still be sending."""
        if not self.lingers or self._is_lingering or self.socket is None:
            self.abort()
            return
        self.will_close = False
        self._is_lingering = True
        self._since_s = time.monotonic()
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:  # there is nobody any more
            self.abort()

    def _has_client_gone(self) -> bool:
        """Return whether the client has closed while it is answered, such as a page's stream.

        To have closed only its sending side counts too: nobody can tell the two apart.
        """
        if self.socket is None:
            return True
        try:
            return not self.socket.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True

    def _refuse_slow_request(self) -> None:
        """Answer 408, in this thread: no worker is spent on those who are slow."""
        if not self._is_arriving or self.total_outbufs_len:  # idle, or not reading either
            self.abort()
            return
        request = self.request or self.parser_class(self.adj)
        request.error = RequestTimeout("")
        ErrorAnswer(self, request).service()  # type: ignore[arg-type]
        request.close()
        self.request = None
        self.close_when_flushed = True
