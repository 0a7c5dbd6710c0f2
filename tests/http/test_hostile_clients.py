# SPDX-License-Identifier: Apache-2.0
"""Clients that are slow, do not read, or send without end: others are served as ever."""

from __future__ import annotations

import os
import select
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from perception_node.live.live_view import LiveView
from perception_node.serving.http_server import RECEIVE_BYTES
from perception_node.serving.settings import ServerSettings
from tests.builders import RED, encode, solid
from tests.engine_builders import wait_for
from tests.hostile_images import chunk, png, squeeze
from tests.http_builders import PATIENCE_S, ask, form, serve_process, serving, upload
from tests.memory import memory_kib
from tests.raw_http import connect, exchange, head, is_closed, read_answer

MIB = 1 << 20
SLOW_CLIENTS = 50
RED_JPEG = encode(solid(RED))
LIMIT = ServerSettings().max_body_bytes
# One body has up to 256 KiB of memory, then a file. The rest is for threads that allocate.
BODY_GROWTH_KIB = 8 << 10
LEFT_BEHIND_KIB = 64 << 10  # of 16 forms, each of which takes 32 MiB and more
BOMB_GROWTH_KIB = 8 << 10  # the smallest of the bombs has 64 MiB


def require_served(server):
    assert ask(server.url, "/healthz").status == 200
    assert upload(server.url, RED_JPEG).json["label"] == "red"


# Slow clients


def test_fifty_slow_clients_do_not_keep_others_waiting(color_bundle):
    begins = (
        head()[:-2] + b"X: ",
        head(Content_Length=LIMIT),
        head(Transfer_Encoding="chunked") + b"f00000\r\n",
    )
    rounds = 0
    with (
        serving(color_bundle, ServerSettings(request_timeout_s=2)) as server,
        ExitStack() as closing,
    ):
        slow = {closing.enter_context(connect(server.port)) for _ in range(SLOW_CLIENTS)}
        for number, client in enumerate(slow):
            client.sendall(begins[number % 3])
        while slow:
            require_served(server)
            rounds += len(slow) == SLOW_CLIENTS
            answered, _, _ = select.select(slow, (), (), 0)
            for client in answered:
                answer = read_answer(client)
                assert (answer.status, "within 2 s" in answer.error) == (408, True)
                assert is_closed(client)
            slow.difference_update(answered)
            for client in slow:
                client.send(b"1")
        require_served(server)
    assert rounds > 1, "nobody was served while they were all there"


def test_who_asks_and_does_not_read_is_cut_off(color_bundle):
    question = head("GET", "/") * 100
    with (
        serving(color_bundle, ServerSettings(request_timeout_s=1)) as server,
        connect(server.port) as client,
    ):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
        client.setblocking(False)

        def is_cut_off():
            require_served(server)
            try:
                return not client.send(question)
            except BlockingIOError:
                return False
            except ConnectionError:
                return True

        wait_for(is_cut_off)


# The live view


def test_a_viewer_that_does_not_read_loses_its_place(color_bundle):
    live = LiveView("/perception", 0, viewers=1)
    settings = ServerSettings(request_timeout_s=1, event_period_s=0.001)
    with (
        serving(color_bundle, settings, live) as server,
        connect(server.port) as client,
    ):
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
        client.sendall(head("GET", "/live/events"))
        wait_for(lambda: live.viewers_now)
        refused = ask(server.url, "/live/events")
        assert (refused.status, refused.error != "") == (503, True)
        assert int(refused.headers["retry-after"]) > 0
        news = iter(range(1 << 30))

        def has_gone():
            live.show_absence(f"{next(news)} {'x' * (1 << 14)}")
            return not live.viewers_now

        wait_for(has_gone)
        require_served(server)


def test_open_streams_end_whole_when_the_server_stops(color_bundle):
    live = LiveView("/perception", 0, viewers=1)
    with serving(color_bundle, live=live) as server, connect(server.port) as client:
        client.sendall(head("GET", "/live/events"))
        wait_for(lambda: live.viewers_now)
        server.server.stop()
        answer = read_answer(client)  # raises where the last chunk is missing
        assert (answer.status, answer.headers["transfer-encoding"]) == (200, "chunked")
        assert is_closed(client)


# The server as a process, for its memory and its files


@pytest.fixture(scope="module")
def served(color_bundle, tmp_path_factory):
    folder = tmp_path_factory.mktemp("uploads")
    environment = {**os.environ, "TMPDIR": str(folder)}
    with serve_process("--model", color_bundle, env=environment) as serve:
        serve.port = int(serve.url.rpartition(":")[2])
        serve.folder = folder
        with ThreadPoolExecutor(8) as clients:  # so that its threads have what they need
            list(clients.map(lambda _: require_served(serve), range(50)))
        yield serve


class Usage:
    """What the server needs beyond what it needed before."""

    def __init__(self, serve):
        self._pid = serve.process.pid
        self._folder = str(serve.folder)
        Path(f"/proc/{self._pid}/clear_refs").write_text("5")  # VmHWM begins anew
        self._before_kib = memory_kib(self._pid)

    @property
    def growth_kib(self):
        return memory_kib(self._pid, "VmHWM") - self._before_kib

    @property
    def growth_now_kib(self):
        return memory_kib(self._pid) - self._before_kib

    @property
    def file_bytes(self):
        """Bytes in unnamed temporary files."""
        size = 0
        for link in Path(f"/proc/{self._pid}/fd").iterdir():
            try:
                if str(link.readlink()).startswith(self._folder):
                    size += link.stat().st_size
            except FileNotFoundError:  # closed meanwhile
                continue
        return size


def send_a_gigabyte(client, usage, prefix=b"", suffix=b""):
    """Send until the server has had enough; return how much, and the largest temporary file."""
    block = prefix + bytes(MIB) + suffix
    largest = 0
    for sent in range(1024):
        try:
            client.sendall(block)
        except ConnectionError:
            return sent, largest
        largest = max(largest, usage.file_bytes)
        if select.select((client,), (), (), 0)[0]:
            return sent, largest
    return 1024, largest


@pytest.mark.parametrize("expect", [{}, {"Expect": "100-continue"}], ids=["at once", "expecting"])
def test_a_body_of_a_gigabyte_is_refused_unread(served, expect):
    usage = Usage(served)
    with connect(served.port) as client:
        client.sendall(head(Content_Length=1 << 30, Content_Type="image/jpeg", **expect))
        _, largest = send_a_gigabyte(client, usage)
        answer = read_answer(client)
        assert (answer.status, "16 MiB" in answer.error) == (413, True)
        assert is_closed(client)
    assert largest == 0
    assert usage.growth_kib < BODY_GROWTH_KIB
    require_served(served)


def test_a_gigabyte_in_chunks_is_refused_at_the_limit(served):
    usage = Usage(served)
    with connect(served.port) as client:
        client.sendall(head(Transfer_Encoding="chunked", Content_Type="image/jpeg"))
        sent, largest = send_a_gigabyte(client, usage, b"100000\r\n", b"\r\n")
        answer = read_answer(client)
        assert (answer.status, "16 MiB" in answer.error) == (413, True)
        assert is_closed(client)
    assert sent < 100
    assert 0 < largest <= LIMIT + RECEIVE_BYTES
    assert usage.growth_kib < BODY_GROWTH_KIB
    wait_for(lambda: usage.file_bytes == 0)
    require_served(served)


def test_bodies_that_stall_lie_on_the_disk(served):
    usage, number = Usage(served), 8
    with ExitStack() as closing:
        for _ in range(number):
            client = closing.enter_context(connect(served.port))
            client.sendall(head(Content_Length=LIMIT) + bytes(LIMIT - 1))
        wait_for(lambda: usage.file_bytes == number * (LIMIT - 1))
        require_served(served)
        assert usage.growth_kib < BODY_GROWTH_KIB + (number << 10)
    wait_for(lambda: usage.file_bytes == 0)
    require_served(served)


def test_large_forms_leave_no_memory_behind(served):
    usage = Usage(served)
    body, content_type = form(("a.jpg", RED_JPEG + bytes(LIMIT - (16 << 10))))
    with ThreadPoolExecutor(16) as clients:
        posts = [
            clients.submit(ask, served.url, "/predict", "POST", body, content_type=content_type)
            for _ in range(16)
        ]
        # 504 where a busy machine takes longer than the deadline to read them all.
        assert {post.result().status for post in posts} <= {200, 504}
    wait_for(lambda: usage.growth_now_kib < LEFT_BEHIND_KIB)


def test_bombs_do_not_go_off(served):
    usage = Usage(served)
    bombs = {
        "pixels": png(height=5000, width=5000),
        "a chunk of 4 GiB": png(chunk(b"iCCP", b"", size=(1 << 32) - 1)),
        "chunks that unpack to 128 MiB": png(
            chunk(b"iCCP", b"a\0\0" + squeeze(64)), chunk(b"zTXt", b"a\0\0" + squeeze(64))
        ),
    }
    for what, bomb in bombs.items():
        answer = ask(served.url, "/predict", "POST", bomb, content_type="image/png")
        assert answer.status in (200, 400, 413), what
        assert usage.growth_kib < BOMB_GROWTH_KIB, what
        require_served(served)


def test_what_no_endpoint_sees_is_counted(color_bundle):
    begins = {
        400: b"nonsense\r\n\r\n",
        408: head()[:-2],
        413: head(Content_Length=1 << 30),
        431: head(X="y" * 20_000),
        501: head(Transfer_Encoding="gzip"),
    }
    with serving(color_bundle, ServerSettings(request_timeout_s=1)) as server:
        for status, begin in begins.items():
            assert exchange(server.port, begin)[0].status == status
        lines = ask(server.url, "/metrics").body.decode().splitlines()
    name = "perception_http_requests_total"
    counted = [line for line in lines if line.startswith(f"{name}{{")]
    assert counted == [f'{name}{{endpoint="other",status="{status}"}} 1.0' for status in begins]


def test_sigterm_waits_for_the_answers(color_bundle):
    large = encode(solid(RED, 4000, 4000), ".png")  # small as a file, slow to decode
    with serve_process("--model", color_bundle) as serve, ThreadPoolExecutor(4) as clients:
        answers = []

        def has_queue():
            if sum(not answer.done() for answer in answers) < 4:
                answers.append(clients.submit(upload, serve.url, large))
            depth = ask(serve.url, "/metrics").body.split(b"\nperception_queue_depth ")[1][:1]
            return int(depth) > 1

        wait_for(has_queue)
        pending = [answer for answer in answers if not answer.done()]
        exit_code, log = serve.end(signal.SIGTERM)
        assert (exit_code, "Traceback" in log) == (0, False), log
        failures = [answer.exception(PATIENCE_S) for answer in pending]
        served = [answer.result() for answer in pending if not answer.exception()]
    assert len(served) > 1, failures
    assert {answer.json["label"] for answer in served} == {"red"}
    # Who was not yet heard was not half answered either.
    assert all(isinstance(failure, ConnectionError) for failure in failures if failure)
