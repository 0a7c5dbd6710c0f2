# SPDX-License-Identifier: Apache-2.0
"""HTTP as bytes, for what no client library would send."""

from __future__ import annotations

import socket
from http.client import HTTPResponse

from tests.http_builders import PATIENCE_S, Answer


def connect(port, host="127.0.0.1") -> socket.socket:
    return socket.create_connection((host, port), PATIENCE_S)


def head(method="POST", path="/predict", **headers) -> bytes:
    """Return a request up to its body; ``Content_Length=`` becomes Content-Length."""
    fields = {"Host": "localhost", **headers}
    lines = (f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{''.join(lines)}\r\n".encode("latin-1")


def chunked(*parts) -> bytes:
    """Return a whole body in chunks."""
    return b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts) + b"0\r\n\r\n"


def read_answer(client, method="GET") -> Answer:
    """Read one answer to its end."""
    response = HTTPResponse(client, method=method)
    response.begin()
    headers = {name.lower(): value for name, value in response.getheaders()}
    return Answer(response.status, headers, response.read())


def is_closed(client) -> bool:
    """Wait for the server; return whether it ends the connection instead of sending more."""
    try:
        return client.recv(1) == b""
    except ConnectionError:
        return True


def exchange(port, request, method="GET") -> tuple[Answer, bool]:
    """Send bytes on a connection of their own; return the answer, and if it was the last one."""
    with connect(port) as client:
        client.sendall(request)
        answer = read_answer(client, method)
        is_last = answer.headers.get("connection", "").lower() == "close"
        return answer, is_last and is_closed(client)
