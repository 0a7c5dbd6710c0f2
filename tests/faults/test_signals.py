# SPDX-License-Identifier: Apache-2.0
"""SIGINT and SIGTERM at any moment end the process cleanly and soon.

The clock of each test starts when ``main`` has installed its handlers. Before that Python is
still starting, and a signal does what it does to every program: it kills.
"""

from __future__ import annotations

import ctypes
import itertools
import signal
import threading
import time
from pathlib import Path

import pytest
from sensor_msgs.msg import Image

from perception_node.system.resources import find_resource
from perception_node.wire.bags import open_bag
from tests.ros.harness import Stream, account, require_balance, wait_for

pytestmark = [pytest.mark.ros, pytest.mark.alone]
END_S = 2.0
SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Importing takes about 0.8 s here, configuring 0.3 s, then frames are classified.
DELAYS_S = [0.2 * number for number in range(14)]
MOMENTS = list(zip(DELAYS_S, itertools.cycle(SIGNALS), strict=False))
# The first engine hangs once it is warm; one that replaces it works.
HANGING_ENGINE = """
import sys, time
from perception_node.engines.onnxruntime import OnnxRuntimeEngine
infer, calls, engines = OnnxRuntimeEngine.infer, [], []
def hang(engine):
    calls.append(1)
    engines.append(engine)
    infer(engine) if engine is not engines[0] or len(calls) <= 10 else time.sleep(1000)
OnnxRuntimeEngine.infer = hang
from perception_node.ros.main import main
sys.exit(main())
"""
# A build of a plan, which takes minutes, in the real plan store.
BUILDING = """
import sys, time
from pathlib import Path
import perception_node.engines.tensorrt.loading as loading
from perception_node.engines.plans import PlanStore
from tests.plan_builders import NAME, ORIN
def build(order):
    store = PlanStore(Path(order.config.plan_store))
    store.build_once(NAME, ORIN, lambda *_: time.sleep(1000))
loading.load_engine = build
from perception_node.ros.main import main
sys.exit(main())
"""
NEVER_MS = 60_000


def wait_for_main(node) -> None:
    """Wait until the process catches SIGTERM, which Python itself does not."""
    bit = 1 << (signal.SIGTERM - 1)

    def catches() -> bool:
        status = Path(f"/proc/{node.process.pid}/status").read_text(encoding="ascii")
        masks = dict(line.split(":", 1) for line in status.splitlines())
        return bool(int(masks.get("SigCgt", "0"), 16) & bit)

    wait_for(catches, lambda: "main to begin")


def require_clean_end(node, number) -> None:
    """Send the signal; the process must end in time, with 0, and without a traceback."""
    begin_s = time.monotonic()
    code = node.end(number)
    took_s = time.monotonic() - begin_s
    assert code == 0, node.log()
    assert took_s < END_S
    assert "Traceback" not in node.log()
    assert "Exception ignored" not in node.log()


@pytest.mark.parametrize(
    ("delay_s", "number"),
    MOMENTS,
    ids=[f"{number.name} after {delay_s:.2f} s" for delay_s, number in MOMENTS],
)
@pytest.mark.usefixtures("camera")
def test_a_signal_ends_the_node_at_any_moment(start, delay_s, number):
    with start(model="efficientnet_lite0") as node:
        wait_for_main(node)
        time.sleep(delay_s)  # the moment is the point of this test
        require_clean_end(node, number)


@pytest.fixture
def camera(peer):
    """A camera that sends the sample's frames all the time."""
    with open_bag(find_resource("samples/photos")) as bag:
        frames = [message.data for message in bag.messages(["/camera/image_raw"])]
    publisher = peer.node.create_publisher(Image, "image", 1)
    stop = threading.Event()

    def play():
        while not stop.is_set():
            for frame in frames:
                publisher.publish(frame)
                stop.wait(1 / 30)

    thread = threading.Thread(target=play)
    thread.start()
    yield publisher
    stop.set()
    thread.join()


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_does_no_harm(start, camera, number):
    with start() as node:
        wait_for(camera.get_subscription_count, lambda: "the node")
        node.process.send_signal(number)
        for _ in range(5):
            node.process.send_signal(number)
            time.sleep(0.01)
        require_clean_end(node, number)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.usefixtures("camera")
def test_the_last_word_is_the_account(start, peer, number):
    with start() as node:
        stream = Stream(peer)
        wait_for(lambda: len(stream.results) > 3, lambda: "results")
        require_clean_end(node, number)
        assert "frames: received" in node.log_lines()[-1]


def test_a_node_that_was_never_configured_ends(start, peer):
    with start(autostart=False) as node:
        assert peer.state() == "unconfigured"
        require_clean_end(node, signal.SIGTERM)


def test_a_node_that_builds_a_plan_ends_and_leaves_no_part_of_it(start, tmp_path):
    store = tmp_path / "plans"
    options = {"engine": "tensorrt", "build_missing_plan": True, "plan_store": store}
    with start(program=("-c", BUILDING), **options) as node:
        wait_for(lambda: list(store.glob("*.lock")), node.log)
        require_clean_end(node, signal.SIGINT)
    assert {file.suffix for file in store.iterdir()} == {".lock"}


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_that_does_not_interrupt_the_main_thread_ends_the_node(start, peer, number):
    """As one does not that comes just before that thread begins to wait for it."""
    with start() as node:
        peer.wait_until("active")
        (thread,) = [
            int(task.name)
            for task in Path(f"/proc/{node.process.pid}/task").iterdir()
            if (task / "comm").read_text(encoding="ascii").strip() == "perc-executor"
        ]
        assert ctypes.CDLL(None).tgkill(node.process.pid, thread, int(number)) == 0
        wait_for(lambda: not node.is_alive(), node.log)
        assert node.process.returncode == 0
        assert "frames: received" in node.log_lines()[-1]


def test_a_configured_node_ends(start, peer):
    with start(autostart=False) as node:
        assert peer.change("configure")
        require_clean_end(node, signal.SIGINT)


def test_an_active_node_without_a_camera_ends(start, peer):
    with start() as node:
        peer.wait_until("active")
        require_clean_end(node, signal.SIGTERM)
        counts = account(node.log_lines()[-1])
    assert counts["received"] == 0
    require_balance(counts)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.usefixtures("camera")
def test_a_hanging_engine_does_not_keep_the_process(start, peer, number):
    with start(program=("-c", HANGING_ENGINE), engine_timeout_ms=NEVER_MS) as node:
        peer.watch().wait_for_value("in flight", 1)
        require_clean_end(node, number)
        assert "was not finished in 0.5 s" in node.log()
        counts = account(node.log_lines()[-1])
    assert counts["failed"] == 1
    require_balance(counts)


@pytest.mark.usefixtures("camera")
def test_an_engine_that_was_given_up_does_not_keep_the_process(start, peer):
    with start(program=("-c", HANGING_ENGINE), engine_timeout_ms=200) as node:
        stream = Stream(peer)
        wait_for(lambda: len(stream.results) > 3, node.log)
        assert "degraded: the engine was lost" in node.log()
        require_clean_end(node, signal.SIGTERM)
        counts = account(node.log_lines()[-1])
    require_balance(counts)


def test_a_node_that_is_being_deactivated_ends(start, peer, camera):
    with start(program=("-c", HANGING_ENGINE), engine_timeout_ms=NEVER_MS) as node:
        peer.watch().wait_for_value("in flight", 1)
        peer.state()
        peer.ask("deactivate")
        # No more images: it waits for the engine.
        wait_for(lambda: not camera.get_subscription_count(), node.log)
        require_clean_end(node, signal.SIGTERM)
        counts = account(node.log_lines()[-1])
    require_balance(counts)
