# SPDX-License-Identifier: Apache-2.0
"""A model that never ends its warm-up: a bound, one line, and all else is served meanwhile."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest
from lifecycle_msgs.msg import Transition
from rcl_interfaces.srv import GetParameters

from tests.builders import image_message, solid, write_bag
from tests.faults.test_signals import require_clean_end
from tests.hostile_builders import endless_bundle
from tests.ros.harness import NODE, SHUTDOWN, Program, wait_for

pytestmark = pytest.mark.ros
BOUND_S = 2.0
LONG_S = 3600.0
WARMING_UP = "warming up ONNX Runtime"
# A library that cannot be stopped: it comes back after the test.
STUCK = """
import sys, time
from perception_node.engines.onnxruntime import OnnxRuntimeEngine
OnnxRuntimeEngine.infer = lambda engine: time.sleep(1000)
from perception_node.{module} import main
sys.exit(main())
"""
STUCK_NODE, STUCK_COMMAND = STUCK.format(module="ros.main"), STUCK.format(module="cli")


@pytest.fixture(scope="module")
def endless_model(tmp_path_factory):
    return endless_bundle(tmp_path_factory.mktemp("endless") / "bundle")


@pytest.fixture
def start_endless(start, endless_model):
    """Return a function that describes a node with the endless model, not configured."""

    def describe(timeout_s=LONG_S, **options):
        parameters = {"model": endless_model, "autostart": False, "configure_timeout_s": timeout_s}
        return start(**{**parameters, **options})

    return describe


def begin_to_configure(peer):
    """Ask for it; return the answer's future once the model is warming up, and what is watched."""
    diagnostics = peer.watch()
    peer.state()
    answer = peer.ask("configure")
    wait_for(
        lambda: WARMING_UP in (diagnostics.value("configuring") or ""),
        lambda: f"the warm-up, last: {diagnostics.latest()}",
    )
    return answer, diagnostics


def result_of(answer) -> bool:
    """Wait for the answer to a transition."""
    wait_for(answer.done, lambda: "the answer")
    return answer.result().success


def engine_threads(node) -> list[str]:
    tasks = Path(f"/proc/{node.process.pid}/task").iterdir()
    names = [(task / "comm").read_text(encoding="ascii").strip() for task in tasks]
    return [name for name in names if name in {"perc-engine", "perception-loading"}]


def test_it_is_given_up_in_one_line_and_all_is_served_meanwhile(start_endless, peer):
    with start_endless(BOUND_S) as node:
        answer, diagnostics = begin_to_configure(peer)
        assert peer.state() == "configuring"
        names = GetParameters.Request(names=["model"])
        assert peer.call(GetParameters, f"{NODE}/get_parameters", names).values
        row = diagnostics.latest()["engine"]
        assert row.message.startswith(f"configuring: {WARMING_UP}")
        assert not result_of(answer)
        assert peer.state() == "unconfigured"
        wait_for(lambda: not engine_threads(node), lambda: "the engine to stop")  # no core burns
        assert not peer.change("configure"), "and again"
        assert node.end() == 0
        (first, second) = [line for line in node.log_lines() if "frames: " not in line]
        assert "Traceback" not in node.log()
    for line in (first, second):
        assert line.startswith("[ERROR]")
        problem = (
            f"configure failed: the model was not ready in {BOUND_S:g} s, at last: {WARMING_UP}"
        )
        assert problem in line


@pytest.mark.parametrize(
    ("number", "is_done", "state"),
    [
        (Transition.TRANSITION_CLEANUP, True, "unconfigured"),
        (Transition.TRANSITION_DEACTIVATE, False, "unconfigured"),
        (SHUTDOWN["unconfigured"], True, "finalized"),
        (SHUTDOWN["active"], True, "finalized"),
    ],
)
def test_a_transition_interrupts_it(start_endless, peer, number, is_done, state):
    with start_endless() as node:
        answer, _ = begin_to_configure(peer)
        assert result_of(peer.ask(number)) is is_done
        assert not result_of(answer)
        assert peer.state() == state
        assert node.end() == 0
        assert "configure failed: loading was given up at: warming up" in node.log()
        assert "Traceback" not in node.log()


def test_nobody_outside_can_end_it_as_if_it_had_succeeded(start_endless, peer):
    with start_endless() as node:
        answer, _ = begin_to_configure(peer)
        others = (Transition.TRANSITION_ON_CONFIGURE_SUCCESS, "configure", "activate", 0, 99)
        for transition in others:
            assert not result_of(peer.ask(transition))
        assert peer.state() == "configuring"
        assert not answer.done()
        require_clean_end(node, signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("program", [("-m", "perception_node.ros.main"), ("-c", STUCK_NODE)])
def test_a_signal_ends_the_node_and_who_asked_is_answered(start_endless, peer, number, program):
    with start_endless(program=program) as node:
        answer, _ = begin_to_configure(peer)
        require_clean_end(node, number)
        assert not result_of(answer)


def test_autostart_gives_up_too_and_can_be_asked_again(start_endless, peer):
    with start_endless(BOUND_S, autostart=True, program=("-c", STUCK_NODE)) as node:
        peer.wait_until("configuring")
        peer.wait_until("unconfigured")
        assert not peer.change("configure")
        assert node.log().count("the model was not ready in 2 s") == 2
        require_clean_end(node, signal.SIGINT)


@pytest.fixture
def commands(endless_model, tmp_path, jpeg):
    """Return a function that describes a command with the endless model."""
    image = tmp_path / "red.jpg"
    image.write_bytes(jpeg())
    row = ("/image", "sensor_msgs/msg/Image", 1, image_message(solid((255, 0, 0))))
    bag = write_bag(tmp_path / "bag", [row])
    verbs = {"classify": [image], "serve": ["--port", "0"], "replay": [bag]}

    def describe(verb, timeout_s, program=("-m", "perception_node.cli")):
        command = [sys.executable, *program, verb, *map(str, verbs[verb])]
        bound = ["--model", str(endless_model), "--configure-timeout", str(timeout_s)]
        return Program([*command, *bound], {})

    return describe


@pytest.mark.parametrize(
    ("verb", "program"),
    [(verb, ("-m", "perception_node.cli")) for verb in ("classify", "serve", "replay")]
    + [("classify", ("-c", STUCK_COMMAND))],
)
def test_a_command_gives_up_in_one_line(commands, verb, program):
    with commands(verb, 1, program) as command:
        assert command.process.wait(30) == 2
        (line,) = command.log().splitlines()
    assert line.startswith("perception: the model was not ready in 1 s, at last: warming up")


@pytest.mark.parametrize("verb", ["classify", "serve", "replay"])
def test_ctrl_c_ends_a_command_at_once(commands, verb):
    with commands(verb, LONG_S) as command:
        wait_for(lambda: _engine_works(command), command.log)
        assert command.end(signal.SIGINT, 5) == 130
        assert not command.log().splitlines()


def _engine_works(command) -> bool:
    """Whether the engine's thread has used a tenth of a second of processor time."""
    for task in Path(f"/proc/{command.process.pid}/task").iterdir():
        name, _, rest = (task / "stat").read_text(encoding="ascii").rpartition(") ")
        if "perc-engine" in name and int(rest.split()[11]) > 10:
            return True
    return False
