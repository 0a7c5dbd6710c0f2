# SPDX-License-Identifier: Apache-2.0
"""Unwanted clients: malformed, slow, many, greedy."""

from __future__ import annotations

import socket
from collections import deque
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from perception_node.bench.siege.attack import Attack, happens
from perception_node.bench.siege.images import damage

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

    from perception_node.bench.siege.attack import Until
    from perception_node.bench.siege.scene import Scene, ServerTarget

TIMEOUT_S = 1.0
OPEN, SLOW_CLIENTS, FLOOD, PLACE_TAKERS = 20, 60, 150, 20
MIB = 1 << 20
LONG = 20_000
PERIOD_S = 0.02


def head(method: str = "POST", path: str = "/predict", **headers: object) -> bytes:
    """Return a request up to its body; ``Content_Length=`` becomes Content-Length."""
    fields = {"Host": "localhost", **headers}
    lines = (f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{''.join(lines)}\r\n".encode("latin-1")


def malformed(source: random.Random) -> bytes:
    """Return a request that should not be."""
    known = (
        source.randbytes(source.randint(1, 2000)) + b"\r\n\r\n",
        head(source.choice(("GET", "PUT", "DELETE", "TRACE", "CONNECT", "X" * 100))),
        head("GET", "/static/..%2f..%2fetc/passwd"),
        head("GET", "/" + "a" * LONG),
        head("GET", "/", Host="example.org"),
        head("GET", "/", X="y" * LONG),
        head("GET", "/") * 50,
        head("GET", f"/live/pictures/{source.randrange(-9, 1 << 40)}"),
        head(Content_Length=-1),
        head(Content_Length="1" * 400),
        head(Content_Length=1 << 40, Content_Type="image/jpeg"),
        head(Content_Length=5, Transfer_Encoding="chunked") + b"0\r\n\r\n",
        head(Transfer_Encoding="gzip") + b"x",
        head(Transfer_Encoding="chunked") + b"ffffffffffffffff\r\nx",
        head(Transfer_Encoding="chunked") + b"-5\r\nx\r\n0\r\n\r\n",
        head(Content_Length=4, Content_Type="image/jpeg", Content_Encoding="gzip") + b"abcd",
        head(Content_Length=9, Content_Type="multipart/form-data; boundary=x") + b"--x\r\n\r\n--",
        head(Content_Length=9, Content_Type="multipart/form-data") + b"--x\r\n\r\n--",
        b"POST /predict HTTP/9.9\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    )
    request = bytearray(source.choice(known))
    if happens(source, 0.3):  # and some of these changed
        request[source.randrange(len(request))] = source.randrange(256)
    return bytes(request)


def send_malformed(scene: Scene, source: random.Random, until: Until) -> Iterator[None]:
    """Send malformed requests, bombs and damaged pictures, each on a connection of its own."""
    with ExitStack() as stack:
        clients = deque[socket.socket]()
        while not until.wait(PERIOD_S):
            request = malformed(source) if happens(source, 0.7) else _picture(scene, source)
            for client in _open(stack, scene.server, 1):
                _send(client, request)
                clients.append(client)
                yield
            if len(clients) > OPEN:
                clients.popleft().close()


def be_slow(scene: Scene, source: random.Random, until: Until) -> Iterator[None]:
    """Begin many requests and go on by one byte at a time; ask and do not read."""
    begins = (
        head()[:-2] + b"X: ",
        head(Content_Length=MIB),
        head(Transfer_Encoding="chunked") + b"f0000\r\n",
        head("GET", "/") * 100,
    )
    with ExitStack() as stack:
        clients = _open(stack, scene.server, SLOW_CLIENTS)
        for number, client in enumerate(clients):
            _send(client, begins[number % len(begins)])
            yield
        while not until.wait(0.2):
            for client in clients:
                _send(client, source.randbytes(1))


def flood(scene: Scene, source: random.Random, until: Until) -> Iterator[None]:
    """Open more connections than there are places, post as large as is allowed, go away."""
    body = bytes(2 * MIB - 1000)
    request = head(Content_Length=len(body), Content_Type="image/jpeg") + body
    while not until.is_over:
        with ExitStack() as stack:
            clients = _open(stack, scene.server, source.randint(1, FLOOD))
            for client in clients:
                _send(client, request)
                yield
            until.wait(source.uniform(0.0, 1.0))


def take_places(scene: Scene, source: random.Random, until: Until) -> Iterator[None]:
    """Take all places of viewers, as often as they are free, and read nothing."""
    while not until.is_over:
        with ExitStack() as stack:
            for client in _open(stack, scene.server, PLACE_TAKERS):
                _send(client, head("GET", "/live/events"))
                yield
            until.wait(source.uniform(0.5, 3.0))


def _picture(scene: Scene, source: random.Random) -> bytes:
    picture = source.choice(scene.pictures)
    if happens(source, 0.2):
        data = scene.bombs[source.choice(sorted(scene.bombs))]
    else:
        _, data = damage(source.choice((picture.jpeg, picture.png)), source)
    return head(Content_Length=len(data), Content_Type="image/jpeg") + data


def _open(stack: ExitStack, server: ServerTarget, number: int) -> list[socket.socket]:
    clients = []
    for _ in range(number):
        with suppress(OSError):  # the server takes no more
            client = socket.create_connection((server.host, server.port), TIMEOUT_S)
            clients.append(stack.enter_context(client))
    return clients


def _send(client: socket.socket, data: bytes) -> None:
    """Send what goes out at once, if the other side still listens."""
    client.settimeout(0.0)
    with suppress(OSError):
        client.send(data)


MALFORMED = Attack("requests", "malformed requests, bombs and damaged pictures", send_malformed)
SLOW = Attack("slow clients", "requests that never end, answers that are not read", be_slow)
FLOODS = Attack("floods", "more connections and bodies than there are places", flood)
VIEWERS = Attack("viewers", "all places of the live view taken", take_places)
