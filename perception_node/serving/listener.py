# SPDX-License-Identifier: Apache-2.0
"""The addresses that the HTTP server listens on, and the connections of each."""

from __future__ import annotations

import errno
import logging
import os
import socket
from typing import TYPE_CHECKING, Any

from waitress import wasyncore
from waitress.server import TcpWSGIServer

from perception_node.errors import ConfigError
from perception_node.serving.channel import Channel
from perception_node.system.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable

    from perception_node.serving.settings import ServerSettings

MAX_HEADER_BYTES = 16 << 10
SWEEP_PERIOD_S = 1.0
WARNING_PERIOD_S = 60.0
# Such as ::1 where IPv6 is off; another address of the same name may do.
ABSENT = {errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
logger = logging.getLogger("perception.serve")


class Listener(TcpWSGIServer):
    """One address that is listened on.

    Attributes:
        settings: limits, which error messages name.
        on_refusal: gets the status of each answer that is not the application's.
        is_stopping: nothing more is received.

    """

    channel_class = Channel
    active_channels: dict[int, Channel]  # type: ignore[assignment]
    effective_port: str  # a number
    # waitress writes a line whenever the number of connections reaches its limit or leaves it:
    # clients could fill a disk. Errors stay.
    logger = logging.getLogger("perception.serve.connections")
    logger.setLevel(logging.ERROR)

    def __init__(
        self,
        settings: ServerSettings,
        on_refusal: Callable[[int], None],
        *arguments: Any,  # noqa: ANN401 - waitress's own, as all that follows
        **options: Any,  # noqa: ANN401
    ) -> None:
        """Listen at once."""
        self.settings = settings
        self.on_refusal = on_refusal
        self.is_stopping = False
        self._next_sweep_s = 0.0
        self._warnings = Throttle(WARNING_PERIOD_S)
        super().__init__(*arguments, **options)

    @property
    def is_busy(self) -> bool:
        """Whether a request is at work or an answer on its way."""
        channels = list(self.active_channels.values())  # a worker may close one meanwhile
        return any(channel.requests or channel.total_outbufs_len for channel in channels)

    def describe(self, message: str) -> str:
        """Return an error message with the limits it names."""
        return message.format(
            timeout_s=self.settings.request_timeout_s,
            body_mib=self.settings.max_body_mib,
            header_kib=MAX_HEADER_BYTES >> 10,
        )

    def sweep(self, now_s: float) -> None:
        """Close the connections of clients that have gone or are too slow, on a steady clock.

        Not while events are handled: a new connection may have the number of one just closed.
        """
        if now_s >= self._next_sweep_s:
            self._next_sweep_s = now_s + SWEEP_PERIOD_S
            for channel in list(self.active_channels.values()):
                channel.sweep(now_s, self.settings.request_timeout_s)
            if self.in_connection_overflow and self._warnings.is_due("connections"):
                logger.warning("too many connections; more clients have to wait")

    def maintenance(self, now: float) -> None:
        """Do nothing: waitress calls this by the time of day, which may jump; see ``sweep``."""

    def stop_listening(self) -> None:
        """Refuse clients that come, and receive nothing more from those that are here."""
        self.is_stopping = True
        wasyncore.dispatcher.close(self)

    def abort_idle_connections(self) -> None:
        """Close the connections that wait for a request, or for the rest of one."""
        for channel in list(self.active_channels.values()):
            if not channel.requests and not channel.total_outbufs_len:
                channel.abort()

    def abort_connections(self) -> None:
        """Close every connection; workers that wait for a client go on."""
        for channel in list(self.active_channels.values()):
            channel.abort()


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
