# SPDX-License-Identifier: Apache-2.0
"""The HTTP server with an application of a few lines: framing, time limits, stopping."""

from __future__ import annotations

import errno
import logging
import queue
import socket
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import pytest

from perception_node.errors import ConfigError
from perception_node.serving.headers import SECURITY_HEADERS
from perception_node.serving.http_server import HttpServer
from perception_node.serving.settings import ServerSettings
from tests.engine_builders import wait_for
from tests.http_builders import PATIENCE_S, ask
from tests.raw_http import chunked, connect, exchange, head, is_closed, read_answer

MIB = 1 << 20
CALM = ServerSettings(port=0, max_body_mib=1, queue=1, viewers=1)
QUICK = replace(CALM, request_timeout_s=1)


class Echo:
    """Answers with the length of the body; some paths do something else."""

    def __init__(self):
        self.paths = queue.Queue()
        self.may_end = threading.Event()
        self.ended = threading.Event()

    def __call__(self, environ, start_response):
        body = environ["wsgi.input"].read()
        path = environ["PATH_INFO"]
        self.paths.put(path)
        if path == "/bug":
            raise RuntimeError(path)
        if path == "/wait":
            assert self.may_end.wait(PATIENCE_S)
        start_response("200 OK", [("Content-Type", "text/plain")])
        return self._stream() if path == "/stream" else [b"%d" % len(body)]

    def _stream(self):
        try:
            while not self.may_end.wait(0.001):
                yield bytes(1 << 14)
        finally:
            self.ended.set()


@contextmanager
def running(app, settings=CALM, on_stop=lambda: None):
    server = HttpServer(app, settings, on_stop)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        yield server
    finally:
        if isinstance(app, Echo):
            app.may_end.set()
        server.stop()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


@pytest.fixture
def app():
    return Echo()


@pytest.fixture
def port(app):
    """A server that waits 20 s for its clients."""
    with running(app) as server:
        yield server.port


@pytest.fixture
def quick_port(app):
    """A server that waits one second for its clients."""
    with running(app, QUICK) as server:
        yield server.port


def get(port, path="/"):
    return ask(f"http://127.0.0.1:{port}", path)


def test_the_largest_body_is_taken_and_one_byte_more_is_not(port):
    assert exchange(port, head(Content_Length=MIB) + bytes(MIB))[0].body == b"%d" % MIB
    answer, ended = exchange(port, head(Content_Length=MIB + 1))
    assert answer.status == 413
    assert "1 MiB" in answer.error
    assert ended


def test_a_body_in_chunks(port):
    request = head(Transfer_Encoding="chunked") + chunked(b"abc", b"d")
    assert exchange(port, request)[0].body == b"4"
    answer, ended = exchange(port, head(Transfer_Encoding="chunked") + chunked(bytes(MIB)))
    assert (answer.status, ended) == (413, True)


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"get / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", 400),
        (b"GET http://[1 HTTP/1.1\r\nHost: a\r\n\r\n", 400),  # urlsplit raises ValueError
        (head("GET", "?a"), 400),
        (head("GET", "http://localhost"), 400),
        (head("GET", "metrics"), 400),  # a proxy that guards /metrics would let it through
        (head(Content_Length="-1"), 400),
        (head(Content_Length="9" * 5000), 400),  # int() raises ValueError
        (head(Content_Length="9" * 30), 413),
        (head(Content_Length="5, 5"), 400),
        (head(Content_Length="5", Transfer_Encoding="chunked") + chunked(b"a"), 400),
        (head().replace(b"1.1", b"1.0")[:-2] + b"Transfer-Encoding: chunked\r\n\r\n", 400),
        (head(Transfer_Encoding="gzip"), 501),
        (head(Transfer_Encoding="chunked") + b"xyz\r\n", 400),
        (head(Transfer_Encoding="chunked") + b"f" * 2000, 400),
        (head(Transfer_Encoding="chunked") + b"0\r\n" + b"x" * 2000, 400),
        (head(X="y" * 17_000), 431),
        (head(**{f"X-{n}": "y" for n in range(3000)}), 431),
    ],
)
def test_what_the_server_itself_refuses(app, port, request_bytes, status):
    answer, ended = exchange(port, request_bytes)
    assert answer.status == status
    assert answer.error
    assert ended
    assert app.paths.empty()
    assert "server" not in answer.headers
    assert answer.headers["cache-control"] == "no-store"
    for name, value in SECURITY_HEADERS.items():
        assert answer.headers[name.lower()] == value


def test_a_bug_of_the_application_is_a_500_without_details(port, caplog):
    with caplog.at_level(logging.CRITICAL, "waitress"):
        answer = get(port, "/bug")
    assert answer.status == 500
    assert "bug" not in answer.error


def test_continue_is_sent_for_what_is_wanted_and_only_for_that(port):
    with connect(port) as client:
        client.sendall(head(Content_Length="3", Expect="100-continue"))
        assert client.recv(100).startswith(b"HTTP/1.1 100 ")
        client.sendall(b"abc")
        assert read_answer(client).body == b"3"
        client.sendall(head("GET", Expect="100-continue"))  # nothing will follow
        assert read_answer(client).body == b"0"
    answer, ended = exchange(port, head(Content_Length=2 * MIB, Expect="100-continue"))
    assert (answer.status, ended) == (413, True)


def test_who_still_sends_when_refused_gets_the_answer(port):
    with connect(port) as client:
        client.sendall(head(Content_Length=64 * MIB))
        for _ in range(64):
            client.sendall(bytes(MIB))  # a reset connection would be an error here
        assert read_answer(client).status == 413
        assert is_closed(client)


def test_a_request_that_does_not_arrive_whole_is_refused(app, quick_port):
    begins = (
        b"GET / HT",
        b"\r\n",
        head(Content_Length=9) + b"abc",
        head(Transfer_Encoding="chunked"),
    )
    clients = [connect(quick_port) for _ in begins]
    for client, begin in zip(clients, begins, strict=True):
        client.sendall(begin)
    for client in clients:
        with client:
            answer = read_answer(client)
            assert (answer.status, "within 1 s" in answer.error) == (408, True)
            assert is_closed(client)
    assert app.paths.empty()


def test_bytes_now_and_then_do_not_prolong_the_time(quick_port):
    with connect(quick_port) as client:
        client.settimeout(0.1)
        for number in range(100):
            client.sendall(b"\r\n" if number < 4 else b"G")
            try:
                assert client.recv(100).startswith(b"HTTP/1.0 408 ")
                break
            except TimeoutError:
                continue
        else:
            pytest.fail("nothing came for 10 s")


def test_a_connection_without_a_request_is_closed(quick_port):
    with connect(quick_port) as client, connect(quick_port) as used:
        used.sendall(head("GET"))
        assert read_answer(used).status == 200
        assert client.recv(100) == used.recv(100) == b""


def test_a_request_may_work_longer_than_it_may_arrive(app, quick_port):
    with connect(quick_port) as client, connect(quick_port) as idle:
        client.sendall(head("GET", "/wait"))
        assert app.paths.get(timeout=PATIENCE_S) == "/wait"
        assert idle.recv(100) == b""  # the time limit has passed
        app.may_end.set()
        assert read_answer(client).status == 200


def test_who_does_not_read_is_cut_off(app, quick_port):
    with connect(quick_port) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
        client.sendall(head("GET", "/stream"))
        assert app.ended.wait(PATIENCE_S), "the worker is still held"
        assert not app.may_end.is_set()


def test_who_reads_more_slowly_than_it_is_answered_is_cut_off_too(app, quick_port):
    with connect(quick_port) as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
        client.sendall(head("GET", "/stream"))

        def is_cut_off():
            try:
                return app.ended.is_set() or not client.recv(1 << 10)
            except ConnectionError:
                return True

        wait_for(is_cut_off)
        assert app.ended.wait(PATIENCE_S)
        assert not app.may_end.is_set()


def test_who_has_gone_is_noticed():
    gone = threading.Event()

    def waiting(environ, start_response):
        start_response("200 OK", [])
        has_gone = environ["waitress.client_disconnected"]
        wait_for(has_gone)
        gone.set()
        return [b""]

    with running(waiting) as server:
        with connect(server.port) as client:
            client.sendall(head("GET"))
        assert gone.wait(PATIENCE_S)


def test_what_is_at_work_is_finished_and_nothing_more_is_taken(app):
    stopping = threading.Event()
    with (
        running(app, on_stop=stopping.set) as server,
        connect(server.port) as idle,
        connect(server.port) as client,
    ):
        client.sendall(head("GET", "/wait"))
        assert app.paths.get(timeout=PATIENCE_S) == "/wait"
        server.stop()
        server.stop()
        assert stopping.wait(PATIENCE_S)
        with pytest.raises(ConnectionRefusedError):
            connect(server.port)
        assert is_closed(idle)
        app.may_end.set()
        assert read_answer(client).body == b"0"
        assert is_closed(client)
    assert app.paths.empty()


def test_a_server_that_ends_at_once_does_not_break_the_call_that_stops_it(app, monkeypatch):
    """It may wake up by itself between the two steps of stopping: telling it, and waking it."""
    server = HttpServer(app, CALM)
    thread = threading.Thread(target=server.run)
    listener = server._listeners[0]
    wake = listener.pull_trigger

    def wake_late():
        wake()
        thread.join(0.2)  # it has all the time to end, and must wait for us
        wake()

    monkeypatch.setattr(listener, "pull_trigger", wake_late)
    thread.start()
    server.stop()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()


def test_a_signal_that_interrupts_the_handler_of_another_does_not_block(app):
    server = HttpServer(app, CALM)

    def stop_again():
        with server._waking:  # as the handler that was interrupted
            server.stop()

    thread = threading.Thread(target=stop_again, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    server.run()  # ends at once


def test_a_large_answer_arrives_whole_although_the_server_stops():
    size, started = 8 * MIB, threading.Event()

    def large(_environ, start_response):
        start_response("200 OK", [("Content-Length", str(size))])
        started.set()
        return [bytes(MIB)] * 8

    with running(large) as server, connect(server.port) as client:
        client.sendall(head("GET"))
        assert started.wait(PATIENCE_S)
        server.stop()
        assert len(read_answer(client).body) == size


def test_an_interrupt_ends_it_in_order(app):
    server = HttpServer(app, QUICK)

    def interrupt(*_):
        raise KeyboardInterrupt

    server._turn = interrupt
    server.run()
    with pytest.raises(ConnectionRefusedError):
        connect(server.port)


def test_a_port_that_is_taken(app):
    with running(app) as server:
        settings = ServerSettings(port=server.port)
        with pytest.raises(ConfigError, match=rf"--host 127\.0\.0\.1 --port {server.port}: addr"):
            HttpServer(app, settings)


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "a" * 70, "b..c"])
def test_an_address_of_another_machine(app, host):
    with pytest.raises(ConfigError, match=f"--host {host} --port 0: .*choose another"):
        HttpServer(app, ServerSettings(host=host, port=0))


def test_all_addresses_of_a_name_share_a_port(app):
    with running(app, ServerSettings(host="localhost", port=0)) as server:
        found = socket.getaddrinfo("localhost", server.port, type=socket.SOCK_STREAM)
        for *_, address in found:
            with connect(server.port, address[0]) as client:
                client.sendall(head("GET"))
                assert read_answer(client).status == 200


def test_an_address_that_is_switched_off_is_left_out(app, monkeypatch):
    real = socket.create_server

    def create(address, **options):
        if options["family"] == socket.AF_INET6:
            raise OSError(errno.EADDRNOTAVAIL, "no")
        return real(address, **options)

    found = [(socket.AF_INET6, ("::1", 0, 0, 0)), (socket.AF_INET, ("127.0.0.1", 0))]
    monkeypatch.setattr(ServerSettings, "find_addresses", lambda _: found)
    monkeypatch.setattr(socket, "create_server", create)
    with running(app, ServerSettings(host="localhost", port=0)) as server:
        assert get(server.port).status == 200


def test_the_number_of_connections_is_bounded(app, caplog):
    settings = replace(CALM, request_timeout_s=3)  # who is not let in tries again after a second
    with running(app, settings) as server, ExitStack() as closing:
        listener = server._listeners[0]
        for _ in range(120):
            closing.enter_context(connect(server.port))
        wait_for(lambda: listener.in_connection_overflow)
        assert len(listener.active_channels) == 100
        # They are closed for their silence, and whoever waited is answered.
        assert get(server.port).status == 200
    assert caplog.messages == ["too many connections; more clients have to wait"]
