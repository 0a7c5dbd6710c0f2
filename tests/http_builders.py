# SPDX-License-Identifier: Apache-2.0
"""Real servers for tests: the application behind a socket, and ``perception serve`` itself."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.client import HTTPConnection
from typing import TYPE_CHECKING

from perception_node.config.node_config import NodeConfig
from perception_node.engines.selection import load_pipeline
from perception_node.serving.app import create_app
from perception_node.serving.classification import ClassificationQueue
from perception_node.serving.http_server import HttpServer
from perception_node.serving.metrics import Metrics
from perception_node.serving.settings import ServerSettings
from tests.builders import ROOT

if TYPE_CHECKING:
    from flask import Flask

    from perception_node.engines.fallback import FallbackPipeline

PATIENCE_S = 20.0
ADDRESS = re.compile(r"http://\S+:\d+")


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def is_open(port) -> bool:
    """Return whether somebody listens on a port of this machine."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@dataclass
class Served:
    """A server in this process: its base URL and what it is made of."""

    url: str
    port: int
    app: Flask
    queue: ClassificationQueue
    pipeline: FallbackPipeline
    settings: ServerSettings
    server: HttpServer


@contextmanager
def serving(bundle, settings=None, live=None, *, pipeline=None, **config):
    """Serve a bundle on a port of the system's choice, in a thread; yields a ``Served``.

    ``pipeline`` takes the place of the one loaded from ``bundle``; ``config`` are parameters of
    the node, such as ``top_k=1``.
    """
    settings = replace(settings or ServerSettings(), port=0)
    own = {"model": str(bundle), "engine": "onnxruntime", "threads": 1}
    config = NodeConfig().with_values({**own, **config})
    with (
        pipeline or load_pipeline(config.model) as pipeline,
        ClassificationQueue(pipeline, config, settings) as queue,
    ):
        metrics = Metrics(queue, live)
        app = create_app(queue, settings, live, metrics)
        on_stop = live.close if live else lambda: None
        server = HttpServer(app, settings, on_stop, metrics.count_request)
        thread = threading.Thread(target=server.run)
        thread.start()
        url = f"http://127.0.0.1:{server.port}"
        try:
            yield Served(url, server.port, app, queue, pipeline, settings, server)
        finally:
            server.stop()
            thread.join(PATIENCE_S)
            assert not thread.is_alive()


class ServeProcess:
    """``perception serve`` in a process of its own, and what it says on stderr."""

    def __init__(self, process):
        self.process = process
        self.lines = []
        self.url = ""
        self._has_url = threading.Event()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def wait_for_url(self):
        assert self._has_url.wait(PATIENCE_S), self.lines
        assert self.url, f"perception serve ended: {self.lines}"

    def end(self, number=signal.SIGTERM):
        """Send a signal; return the exit code and all of stderr."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.wait(PATIENCE_S)
        self._reader.join(PATIENCE_S)
        return self.process.returncode, "".join(self.lines)

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line)
            if not self.url and (found := ADDRESS.search(line)):
                self.url = found[0]
                self._has_url.set()
        self._has_url.set()


@contextmanager
def serve_process(*arguments, program=("-m", "perception_node.cli"), **options):
    """Start ``perception serve --port 0 ...``, wait for its address; yields a ``ServeProcess``.

    ``program`` are other arguments of Python in the place of the command's own.
    """
    command = [sys.executable, *program, "serve", "--port", "0"]
    with subprocess.Popen(
        [*command, *map(str, arguments)],
        cwd=ROOT,
        stderr=subprocess.PIPE,
        text=True,
        **options,
    ) as process:
        serve = ServeProcess(process)
        try:
            serve.wait_for_url()
            yield serve
        finally:
            if process.poll() is None:
                process.terminate()
            serve.end()


@dataclass
class Answer:
    """What came back: status, headers (names in lower case), body."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def error(self):
        """The one line of an error; fails where the answer is not an error."""
        assert self.status >= 400, self.body
        assert self.headers["content-type"] == "application/json"
        assert list(self.json) == ["error"]
        return self.json["error"]


def ask(url, path="/", method="GET", body=None, **headers):
    """Send one request on a connection of its own; ``content_type=`` becomes Content-Type."""
    host = url.removeprefix("http://")
    connection = HTTPConnection(host, timeout=PATIENCE_S)
    try:
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, names)
        response = connection.getresponse()
        lower = {name.lower(): value for name, value in response.getheaders()}
        return Answer(response.status, lower, response.read())
    finally:
        connection.close()


def form(*files, field="file", boundary="border"):
    """Return a multipart body of (file name, bytes), and its Content-Type."""
    parts = [
        f'--{boundary}\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n'
        "Content-Type: image/jpeg\r\n\r\n".encode()
        + data
        + b"\r\n"
        for name, data in files
    ]
    body = b"".join(parts) + f"--{boundary}--\r\n".encode()
    return body, f"multipart/form-data; boundary={boundary}"


def upload(url, data, name="photo.jpg"):
    """Classify an image as a form does it."""
    body, content_type = form((name, data))
    return ask(url, "/predict", "POST", body, content_type=content_type)
