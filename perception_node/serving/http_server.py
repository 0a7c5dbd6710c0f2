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
from waitress.task import ThreadedTaskDispatcher

from perception_node.serving.listener import MAX_HEADER_BYTES, SWEEP_PERIOD_S, Listener, bind

if TYPE_CHECKING:
    from collections.abc import Callable

    from _typeshed.wsgi import WSGIApplication

    from perception_node.serving.settings import ServerSettings

CONNECTIONS = 100
RECEIVE_BYTES = 1 << 16  # at a time; in the usual 8 KiB a body costs half as much again
BODY_IN_MEMORY_BYTES = 1 << 18
UNSENT_BYTES = 1 << 18
SEND_BUFFER_BYTES = 1 << 17  # the kernel's: by default, megabytes hide that nobody reads
FINISH_TIMEOUT_S = 5.0
ABANDON_TIMEOUT_S = 1.0


class HttpServer:
    """Serves a WSGI application until it is stopped."""

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
        self._on_stop = on_stop
        self._is_stopping = False
        # The trigger is not closed while it is pulled; a signal may interrupt another's handler.
        self._waking = threading.RLock()
        self._sockets: dict[int, Any] = {}  # by file descriptor, as waitress wants it
        self._workers = ThreadedTaskDispatcher()
        # A queue in front of the workers is no news: places, and 503, are the application's.
        self._workers.queue_logger = logging.getLogger("perception.serve.queue")
        self._workers.queue_logger.setLevel(logging.ERROR)
        self._listeners = self._listen(app, settings, on_refusal)
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
            while not self._is_stopping:
                self._turn(SWEEP_PERIOD_S)
        except (KeyboardInterrupt, SystemExit):
            pass
        finally:
            self._finish()

    def stop(self) -> None:
        """Let ``run`` return; from any thread or a signal handler, and more than once."""
        if self._is_stopping:  # also where a signal interrupts the very end of run()
            return
        with self._waking:
            if not self._is_stopping:
                self._is_stopping = True
                self._listeners[0].pull_trigger()

    def _listen(
        self, app: WSGIApplication, settings: ServerSettings, on_refusal: Callable[[int], None]
    ) -> list[Listener]:
        sockets = bind(settings)
        adjustments = _adjust(settings, len(sockets))
        return [
            Listener(
                settings,
                on_refusal,
                app,
                self._sockets,
                True,  # noqa: FBT003 - starts at once
                bound,
                dispatcher=self._workers,
                adj=adjustments,
                bind_socket=False,
            )
            for bound in sockets
        ]

    def _turn(self, timeout_s: float) -> None:
        """Wait for something to receive or send, and do it."""
        now_s = time.monotonic()
        for listener in self._listeners:
            listener.sweep(now_s)
        wasyncore.loop(timeout_s, use_poll=True, map=self._sockets, count=1)

    def _finish(self) -> None:
        self._is_stopping = True
        for listener in self._listeners:
            listener.stop_listening()
            listener.abort_idle_connections()
        self._on_stop()
        end_s = time.monotonic() + FINISH_TIMEOUT_S
        while any(listener.is_busy for listener in self._listeners):
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                break
            self._turn(min(left_s, SWEEP_PERIOD_S))
        for listener in self._listeners:
            listener.abort_connections()
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
