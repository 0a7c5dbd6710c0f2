# SPDX-License-Identifier: Apache-2.0
"""``perception serve``: the node's pipeline over HTTP, and a page that watches a node."""

from __future__ import annotations

import logging
import os
import signal
import tempfile
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING

from perception_node.cli.options import add_model_arguments, add_range_arguments, to_config
from perception_node.config.sections import CameraConfig
from perception_node.doctor.http_findings import require_http
from perception_node.engines.selection import load_in_time
from perception_node.errors import ConfigError, EnvironmentLacks, quote
from perception_node.printable import printable_lines
from perception_node.serving.settings import ServerSettings
from perception_node.system.process import return_large_blocks, use_one_opencv_thread
from perception_node.system.signals import ENDING
from perception_node.terminal.output import complain, note, parse_count

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from perception_node.config.node_config import NodeConfig
    from perception_node.live.live_view import LiveView
    from perception_node.serving.classification import ClassificationQueue

EXAMPLE = "perception serve --port 5000 --ros"
DEFAULT_NODE = "/perception"
COUNTS = {  # of ServerSettings: what their options take, and their help
    "port": ("PORT", "0: any that is free"),
    "queue": ("N", "images that may wait"),
    "deadline_ms": ("MS", "per image"),
    "max_body_mib": ("MIB", "per request"),
    "request_timeout_s": ("S", "a request must have arrived so soon"),
    "viewers": ("N", "pages that watch a node"),
}
ENGINE_TIMEOUTS_MS = (1000, 60_000)
POLITE = 10  # nice: with a node on the machine, its images come first
EXIT_ENGINES_LOST = 1  # for systemd and container runtimes to start it again
LOG_FORMAT = "%(asctime)s %(levelname)s %(message)s"
logger = logging.getLogger("perception.serve")


class PrintableFormatter(logging.Formatter):
    """Makes records printable, whatever they were given; lines after the first are indented."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as text."""
        return printable_lines(super().format(record))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments; the defaults are those of ``ServerSettings``."""
    default = ServerSettings()
    add_model_arguments(parser)
    add_range_arguments(parser)
    parser.add_argument("--host", default=default.host, help="address (default: this machine)")
    for name, (metavar, meaning) in COUNTS.items():
        parser.add_argument(
            "--" + name.removesuffix("_s").replace("_", "-"),
            dest=name,
            type=parse_count,
            default=getattr(default, name),
            metavar=metavar,
            help=meaning,
        )
    parser.add_argument(
        "--damaged-images",
        default=CameraConfig().damaged_images,
        metavar="drop|use",
        help="refuse a damaged JPEG, or classify what can be decoded of it",
    )
    parser.add_argument(
        "--cors-origin",
        action="append",
        default=[],
        metavar="ORIGIN",
        help="whose pages may call the server, such as https://example.com; * for all; repeatable",
    )
    parser.add_argument(
        "--trusted-host",
        action="append",
        default=[],
        metavar="NAME",
        help="name by which the server may be called; repeatable",
    )
    parser.add_argument(
        "--ros",
        nargs="?",
        const=DEFAULT_NODE,
        metavar="NODE",
        help=f"show the node that runs on this machine (default {DEFAULT_NODE})",
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM, or until no engine is left."""
    require_http()
    from perception_node.serving.app import create_app
    from perception_node.serving.classification import ClassificationQueue
    from perception_node.serving.http_server import HttpServer
    from perception_node.serving.metrics import Metrics

    settings, config = to_settings(arguments), _to_config(arguments)
    _require_temporary_folder()
    return_large_blocks()
    use_one_opencv_thread()
    watching: AbstractContextManager[LiveView | None] = nullcontext()
    if arguments.ros is not None:
        watching = _watch(arguments.ros, settings)
    with (
        _logging_to_stderr(),
        watching as live,
        load_in_time(config.model, standby=True) as pipeline,
        ClassificationQueue(pipeline, config, settings) as classifier,
    ):
        metrics = Metrics(classifier, live)
        app = create_app(classifier, settings, live, metrics)
        on_stop = live.close if live else lambda: None
        server = HttpServer(app, settings, on_stop, metrics.count_request)
        classifier.on_exhausted = server.stop
        for number in ENDING:  # an exception would break off a request
            signal.signal(number, lambda *_: server.stop())
        _announce(classifier, settings, server.port)
        server.run()
        if pipeline.is_exhausted:
            logger.error("no engine is left; ending, so that the server is started anew")
            return EXIT_ENGINES_LOST
    return 0


def to_settings(arguments: argparse.Namespace) -> ServerSettings:
    """Check the arguments of the server; ConfigError where one is out of its range."""
    return ServerSettings(
        host=arguments.host,
        cors_origins=tuple(arguments.cors_origin),
        trusted_hosts=tuple(arguments.trusted_host),
        **{name: getattr(arguments, name) for name in COUNTS},
    )


def _to_config(arguments: argparse.Namespace) -> NodeConfig:
    """Return the configuration of the pipeline.

    An engine counts as hanging when it takes longer for an image than a request may take. To
    wait longer helps nobody, since the request has had its answer (504). To wait less would give
    up an engine that still answers in time. Never less than a second: with a short deadline the
    machine's other work would look like a hang where the kernel keeps no account of waiting.
    """
    shortest, longest = ENGINE_TIMEOUTS_MS
    timeout_ms = max(shortest, min(arguments.deadline_ms, longest))
    own = {"engine_timeout_ms": timeout_ms, "damaged_images": arguments.damaged_images}
    return to_config(arguments).with_values(own)


def _require_temporary_folder() -> None:
    """Look now, not with the first large body, for the place where such wait."""
    try:
        tempfile.gettempdir()
    except FileNotFoundError as error:
        msg = "no temporary folder can be written to; set TMPDIR to one, large bodies wait there"
        raise EnvironmentLacks(msg) from error


@contextmanager
def _logging_to_stderr() -> Iterator[None]:
    handler = logging.StreamHandler()  # one line each; tracebacks only of bugs
    handler.setFormatter(PrintableFormatter(LOG_FORMAT))
    sources = (logger, logging.getLogger("waitress"))
    for source in sources:
        source.addHandler(handler)
        source.propagate = False
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for source in sources:
            source.removeHandler(handler)
            source.propagate = True


def _announce(classifier: ClassificationQueue, settings: ServerSettings, port: int) -> None:
    pipeline = classifier.pipeline
    host = settings.url_host
    logger.info("%s", pipeline.reason)
    if not settings.is_loopback:
        complain(
            f"everybody who can reach {host} may use it; a reverse proxy in front of it adds TLS "
            "and passwords"
        )
    note(  # last: who waits for this line may go on at once
        f"serving {classifier.model} on {pipeline.description}, http://{host}:{port} "
        "(Ctrl-C stops)"
    )


@contextmanager
def _watch(node: str, settings: ServerSettings) -> Iterator[LiveView]:
    """Watch a node meanwhile; its images come before our pages."""
    from perception_node.ros.required import require_ros

    require_ros()
    from perception_node.live.live_view import LiveView
    from perception_node.live.node_watcher import NodeWatcher

    os.nice(POLITE)
    live = LiveView(node, _domain(), settings.viewers)
    try:
        with NodeWatcher(live):
            yield live
    finally:
        live.close()


def _domain() -> int:
    text = os.environ.get("ROS_DOMAIN_ID") or "0"
    if not (text.isascii() and text.isdigit() and len(text) <= len("232")):
        raise ConfigError(f"ROS_DOMAIN_ID: a number from 0 to 232, found {quote(text)}")
    return int(text)
