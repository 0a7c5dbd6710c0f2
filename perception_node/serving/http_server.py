# SPDX-License-Identifier: Apache-2.0
"""The HTTP server: waitress, with an end to every wait and a bound on everything.

One thread receives requests and sends answers; a worker's thread gets a request when it is whole,
so slow clients occupy no worker. Bounds, with the default settings:

- A request arrives within ``request_timeout_s`` of its first byte, and the first byte within as
  much of connecting or of the last answer. What is answered has left within as much.
- Bodies: ``max_body_bytes`` each (sent in chunks: with the chunks' frames). One that is larger
  than 256 KiB waits in an unnamed temporary file until it is whole, because a hundred clients that
  stall at 16 MiB would hold 1.6 GiB of memory. ``TMPDIR`` can need that much, memory 25 MiB.
  What the application reads of a body is its own affair; it does so in ``threads`` threads.
- Connections: 100; as many more wait in the kernel until one of them ends.
- Answers: 256 KiB and one part wait for a client that is slow to read; then the worker waits.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

from waitress import wasyncore
from waitress.adjustments import Adjustments
from waitress.server import TcpWSGIServer
from waitress.task import ThreadedTaskDispatcher

from perception_node.serving.channel import MAX_HEADER_BYTES, Channel
from perception_node.serving.settings import bind
from perception_node.system.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed.wsgi import WSGIApplication

    from perception_node.serving.settings import ServerSettings

CONNECTIONS = 100
RECEIVE_BYTES = 1 << 16  # at a time; in the usual 8 KiB a body costs half as much again
BODY_IN_MEMORY_BYTES = 1 << 18
UNSENT_BYTES = 1 << 18
SEND_BUFFER_BYTES = 1 << 17  # the kernel's: by default, megabytes hide that nobody reads
SWEEP_PERIOD_S = 1.0
WARNING_PERIOD_S = 60.0
FINISH_TIMEOUT_S = 5.0
ABANDON_TIMEOUT_S = 1.0
NEVER_S = 1 << 40
logger = logging.getLogger("perception.serve")


class BoundAddress(TcpWSGIServer):
    """One address that is listened on, with our connections."""

    channel_class = Channel
    owner: HttpServer
    active_channels: dict[int, Channel]  # type: ignore[assignment]
    effective_port: str  # a number
    # waitress writes a line whenever the number of connections reaches its limit or leaves it:
    # clients could fill a disk. Errors stay.
    logger = logging.getLogger("perception.serve.connections")
    logger.setLevel(logging.ERROR)


class HttpServer:
    """Serves a WSGI application until it is stopped.

    Attributes:
        settings: address and limits.
        on_refusal: gets the status of each answer that is not the application's.
        is_stopping: nothing more is received.

    """

    def __init__(
        self,
        app: WSGIApplication,
        settings: ServerSettings,
        on_stop: Callable[[], None] = lambda: None,
        on_refusal: Callable[[int], None] = lambda _status: None,
    ) -> None:
        """Listen; clients are answered once ``run`` is called.

        Args:
            app: the application.
            settings: address and limits.
            on_stop: called when stopping begins; ends the answers that never end by themselves.
            on_refusal: gets the status of each answer that is not the application's.

        Raises:
            ConfigError: the address is not this machine's, or the port is taken.

        """
        self.settings, self.on_refusal, self._on_stop = settings, on_refusal, on_stop
        self.is_stopping = False
        # The trigger is not closed while it is pulled; a signal may interrupt another's handler.
        self._waking = threading.RLock()
        self._next_sweep_s = 0.0
        self._warnings = Throttle(WARNING_PERIOD_S)
        self._sockets: dict[int, Any] = {}  # by file descriptor, as waitress wants it
        self._workers = ThreadedTaskDispatcher()
        # A queue in front of the workers is no news: places, and 503, are the application's.
        self._workers.queue_logger = logging.getLogger("perception.serve.queue")
        self._workers.queue_logger.setLevel(logging.ERROR)
        sockets = bind(settings)
        adjustments = _adjust(settings, len(sockets))
        self._listeners = [
            BoundAddress(
                app,
                self._sockets,
                _sock=bound,
                dispatcher=self._workers,
                adj=adjustments,
                bind_socket=False,
            )
            for bound in sockets
        ]
        for listener in self._listeners:
            listener.owner = self
        self._workers.set_thread_count(settings.threads)

    @property
    def port(self) -> int:
        """The TCP port; the one the system has chosen if that was left to it."""
        return int(self._listeners[0].effective_port)

    def run(self) -> None:
        """Serve until ``stop``, KeyboardInterrupt or SystemExit, then finish what is at work.

        Requests that are at work get their answers, if those take no longer than 5 s.
        """
        try:
            while not self.is_stopping:
                self._turn(SWEEP_PERIOD_S)
        except (KeyboardInterrupt, SystemExit):
            pass
        finally:
            self._finish()

    def stop(self) -> None:
        """Let ``run`` return; from any thread or a signal handler, and more than once."""
        if self.is_stopping:  # also where a signal interrupts the very end of run()
            return
        with self._waking:
            if not self.is_stopping:
                self.is_stopping = True
                self._listeners[0].pull_trigger()

    def _channels(self) -> list[Channel]:
        """Return the connections; a worker may close one meanwhile."""
        return [c for listener in self._listeners for c in list(listener.active_channels.values())]

    def _turn(self, timeout_s: float) -> None:
        """Wait for something to receive or send, and do it."""
        now_s = time.monotonic()
        if now_s >= self._next_sweep_s:
            self._next_sweep_s = now_s + SWEEP_PERIOD_S
            self._sweep(now_s)
        wasyncore.loop(timeout_s, use_poll=True, map=self._sockets, count=1)

    def _sweep(self, now_s: float) -> None:
        """Close the connections of clients that have gone or are too slow, on a steady clock.

        Not while events are handled: a new connection may have the number of one just closed.
        """
        for channel in self._channels():
            channel.sweep(now_s, self.settings.request_timeout_s)
        is_full = any(listener.in_connection_overflow for listener in self._listeners)
        if is_full and self._warnings.is_due("connections"):
            logger.warning("too many connections; more clients have to wait")

    def _finish(self) -> None:
        self.is_stopping = True
        for listener in self._listeners:
            wasyncore.dispatcher.close(listener)  # its trigger stays
        for channel in self._channels():
            if not channel.is_busy:
                channel.abort()
        self._on_stop()
        end_s = time.monotonic() + FINISH_TIMEOUT_S
        while any(channel.is_busy for channel in self._channels()):
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                break
            self._turn(min(left_s, SWEEP_PERIOD_S))
        for channel in self._channels():  # workers that wait for a client go on
            channel.abort()
        self._workers.shutdown(timeout=ABANDON_TIMEOUT_S)  # type: ignore[arg-type]
        if not self._workers.threads:  # one that is stuck may still pull the trigger
            with self._waking:
                wasyncore.close_all(self._sockets)


def _adjust(settings: ServerSettings, listeners: int) -> Adjustments:
    """Return waitress's settings for so many listeners."""
    adjustments = Adjustments(
        threads=settings.threads,
        ident=None,
        log_socket_errors=False,  # clients come and go
        clear_untrusted_proxy_headers=True,
        channel_timeout=NEVER_S,  # by the time of day, which may jump; ours is Channel.sweep
        connection_limit=CONNECTIONS + 2 * listeners,  # each counts, and so does its trigger
        backlog=CONNECTIONS,  # what has left meanwhile is worked off before anybody else
        recv_bytes=RECEIVE_BYTES,
        inbuf_overflow=BODY_IN_MEMORY_BYTES,
        outbuf_high_watermark=UNSENT_BYTES,
        max_request_header_size=MAX_HEADER_BYTES,
        max_request_body_size=settings.max_body_bytes + 1,  # the first size that is refused
    )
    adjustments.socket_options = [
        *adjustments.socket_options,
        (socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES),
        # A client that has vanished from the network acknowledges nothing.
        (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, settings.request_timeout_s * 1000),
    ]
    return adjustments
