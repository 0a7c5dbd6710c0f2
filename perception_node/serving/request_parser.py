# SPDX-License-Identifier: Apache-2.0
"""Requests as bytes: waitress's parser, stricter about where a request ends."""

from __future__ import annotations

from waitress.parser import HTTPRequestParser, ParsingError
from waitress.receiver import ChunkedReceiver
from waitress.utilities import BadRequest

MAX_CHUNK_LINE_BYTES = 1 << 10  # of a chunk's size, or of what follows the last chunk


class RequestParser(HTTPRequestParser):
    """Reads a request, and refuses what another server could read differently."""

    path: str  # once the first line was read

    def received(self, data: bytes) -> int:
        """Take bytes from the connection; return how many belong to this request."""
        consumed = super().received(data)
        body = self.body_rcv
        if (
            isinstance(body, ChunkedReceiver)
            and len(body.control_line) + len(body.trailer) > MAX_CHUNK_LINE_BYTES
        ):  # waitress copies such a line again with every packet
            self.error = BadRequest("")
            self.completed = True
        if self.completed:  # else waitress asks a client to send what it has refused
            self.expect_continue = False
        return consumed

    def parse_header(self, header_plus: bytes) -> None:
        """Read first line and headers.

        Raises:
            ParsingError: they are malformed, state the length of the body in two ways, or name a
                path that does not begin with a slash, which Flask would add or redirect to.

        """
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # of int() and urlsplit(), which waitress does not expect
            raise ParsingError(str(error)) from error
        if not self.path.startswith("/"):
            raise ParsingError("no path")
        has_length = "CONTENT_LENGTH" in self.headers
        if "TRANSFER_ENCODING" in self.headers or (self.chunked and has_length):
            raise ParsingError("two lengths, or a transfer coding in HTTP/1.0")
