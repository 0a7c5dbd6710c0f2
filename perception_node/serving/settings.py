# SPDX-License-Identifier: Apache-2.0
"""What ``perception serve`` was asked for, beside the model: address and limits."""

from __future__ import annotations

import errno
import ipaddress
import os
import re
import socket
from dataclasses import dataclass
from typing import Any

from perception_node.errors import ConfigError, quote

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "[::1]")
ORIGIN = re.compile(r"https?://[^/?#\s]+|\*")  # as browsers send it: without a path
HOST_NAME = re.compile(r"[^*/:\s]+|\[[0-9A-Fa-f:.]+\]")
SPARE_THREADS = 4  # for /healthz, /metrics and refusals, while all places are taken
# Such as ::1 where IPv6 is off; another address of the same name may do.
ABSENT = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
RANGES = {
    "port": (0, 65_535),
    "queue": (1, 1000),
    "deadline_ms": (1, 600_000),
    "max_body_mib": (1, 1024),
    "request_timeout_s": (1, 3600),
    "viewers": (0, 100),
}


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """Address and limits of the HTTP server.

    Attributes:
        host: address to listen on.
        port: TCP port; 0 lets the system choose one.
        queue: images that may wait or be at work; one more is answered with 503.
        deadline_ms: an image that is not classified so soon is answered with 504.
        max_body_mib: larger request bodies are answered with 413, unread.
        request_timeout_s: a request must have arrived whole so soon; 408 otherwise.
        viewers: pages that may watch the live view at a time.
        event_period_s: the live view is sent at most once in this time.
        cors_origins: origins whose pages may call the server; ``*`` for all.
        trusted_hosts: names in the Host header that are answered, beside those of loopback.

    Raises:
        ConfigError: a value is out of its range.

    """

    host: str = "127.0.0.1"
    port: int = 5000
    queue: int = 16
    deadline_ms: int = 5000
    max_body_mib: int = 16
    request_timeout_s: int = 20
    viewers: int = 8
    event_period_s: float = 0.2
    cors_origins: tuple[str, ...] = ()
    trusted_hosts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Check every value."""
        for name, (lowest, highest) in RANGES.items():
            value = getattr(self, name)
            if not lowest <= value <= highest:
                option = name.removesuffix("_s").replace("_", "-")
                raise ConfigError(f"--{option}: from {lowest} to {highest}, found {value}")
        _check_names("--cors-origin", self.cors_origins, ORIGIN, "https://example.com, or *")
        _check_names("--trusted-host", self.trusted_hosts, HOST_NAME, "robot.local (no port)")

    @property
    def max_body_bytes(self) -> int:
        """The limit on a request's body."""
        return self.max_body_mib << 20

    @property
    def threads(self) -> int:
        """Threads that answer: waiting images and live views occupy one each."""
        return self.queue + self.viewers + SPARE_THREADS

    def find_addresses(self) -> list[tuple[socket.AddressFamily, tuple[Any, ...]]]:
        """Look the host up; an empty list if it has no address."""
        host = self.host.strip("[]")
        try:
            found = socket.getaddrinfo(host, self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return []
        return list(dict.fromkeys((family, address) for family, _, _, _, address in found))

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can connect."""
        numbers = [address[0].partition("%")[0] for _, address in self.find_addresses()]
        return bool(numbers) and all(ipaddress.ip_address(n).is_loopback for n in numbers)

    @property
    def answered_hosts(self) -> tuple[str, ...] | None:
        """Names in the Host header that are answered; None for any.

        A page elsewhere can give its own name the address 127.0.0.1 (DNS rebinding), so a server
        for this machine alone answers only to this machine's names.
        """
        if not self.is_loopback and not self.trusted_hosts:
            return None
        return (*LOOPBACK_HOSTS, self.url_host, *self.trusted_hosts)

    @property
    def url_host(self) -> str:
        """The address as URLs and the Host header have it: IPv6 in brackets."""
        return f"[{self.host.strip('[]')}]" if ":" in self.host else self.host


def bind(settings: ServerSettings) -> list[socket.socket]:
    """Bind every address of the host, such as both of localhost, to one port.

    Raises:
        ConfigError: the host has no address on this machine, or the port is taken.

    """
    sockets: list[socket.socket] = []
    where = f"--host {settings.host} --port {settings.port}"
    error = None
    for family, address in settings.find_addresses():
        port = sockets[0].getsockname()[1] if sockets else settings.port
        try:
            sockets.append(socket.create_server((address[0], port, *address[2:]), family=family))
        except OSError as problem:
            error = problem
            if problem.errno not in ABSENT:
                break
    if sockets and (error is None or error.errno in ABSENT):
        return sockets
    for bound in sockets:
        bound.close()
    reason = os.strerror(error.errno).lower() if error and error.errno else "no such host"
    raise ConfigError(f"{where}: {reason}; choose another address or port") from error


def _check_names(option: str, names: tuple[str, ...], form: re.Pattern[str], example: str) -> None:
    for name in names:
        if not form.fullmatch(name):
            raise ConfigError(f"{option}: such as {example}; found {quote(name)}")
