# SPDX-License-Identifier: Apache-2.0
"""Nothing from the graph ends the node or makes it deaf, and every request is answered."""

from __future__ import annotations

import random

import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import Parameter, ParameterValue
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    GetParameterTypes,
    ListParameters,
    SetParameters,
    SetParametersAtomically,
)
from rosgraph_msgs.msg import Clock

from perception_node.bench.siege.messages import Deaf, MessageFuzzer
from perception_node.bench.siege.random_messages import DAMAGES, damage, fill
from perception_node.bench.siege.raw_writer import RawWriter
from perception_node.bench.soak.messages import MessageTrial
from perception_node.ros.requests import MOST_AT_ONCE
from tests.memory import memory_kib
from tests.ros.harness import NODE, Stream, make_image, serialize, wait_for

pytestmark = pytest.mark.ros
MESSAGES = 500
NAN, INFINITE = float("nan"), float("inf")
MANY = ["threshold"] * (MOST_AT_ONCE + 1)


def value(kind, **fields) -> ParameterValue:
    return ParameterValue(type=kind, **fields)


def one(name, parameter_value) -> list[Parameter]:
    return [Parameter(name=name, value=parameter_value)]


WRONG = {
    "type 10": one("threshold", value(10)),
    "type 255 of the clock": one("use_sim_time", value(255)),
    "unset": one("threshold", value(0)),
    "the clock unset": one("use_sim_time", value(0)),
    "NaN": one("threshold", value(3, double_value=NAN)),
    "infinite": one("max_rate_hz", value(3, double_value=INFINITE)),
    "huge integer": one("top_k", value(2, integer_value=2**63 - 1)),
    "smallest integer": one("deadline_ms", value(2, integer_value=-(2**63))),
    "another type": one("top_k", value(4, string_value="five")),
    "bytes": one("threshold", value(5, byte_array_value=[b"\xff"] * 1000)),
    "long text": one("engine", value(4, string_value="x" * 1_000_000)),
    "many texts": one("image_topics", value(9, string_array_value=["a", "a"] * 5000)),
    "long list": one("camera_deadlines_ms", value(7, integer_array_value=[1] * 100_000)),
    "no name": one("", value(1, bool_value=True)),
    "no such name": one("\x1b[31m\u202e\n" * 50, value(1, bool_value=True)),
    "at start only": one("model", value(4, string_value="/")),
}


@pytest.mark.parametrize("parameters", WRONG.values(), ids=WRONG)
def test_a_parameter_that_cannot_be_set_is_refused_with_a_reason(local, peer, parameters):
    before = local.config
    for kind, name in (
        (SetParameters, "set_parameters"),
        (SetParametersAtomically, "set_parameters_atomically"),
    ):
        answer = peer.call(kind, f"{NODE}/{name}", kind.Request(parameters=parameters))
        results = answer.results if kind is SetParameters else [answer.result]
        assert [result.successful for result in results] == [False]
        assert results[0].reason
        assert len(results[0].reason) < 1000
    assert local.config == before
    assert not local.get_parameter("use_sim_time").value


def test_the_other_parameters_of_a_request_are_set(local, peer):
    good = Parameter(name="top_k", value=value(2, integer_value=2))
    parameters = [*WRONG["type 10"], good]
    request = SetParameters.Request(parameters=parameters)
    results = peer.call(SetParameters, f"{NODE}/set_parameters", request).results
    assert [result.successful for result in results] == [False, True]
    assert "10" in results[0].reason
    assert local.config.output.top_k == 2


def test_requests_with_too_many_names_are_answered_at_once(local, peer):
    for kind, name, field, wanted in (
        (GetParameters, "get_parameters", "names", "values"),
        (GetParameterTypes, "get_parameter_types", "names", "types"),
        (DescribeParameters, "describe_parameters", "names", "descriptors"),
    ):
        for names in (MANY[:-1], MANY):
            answer = peer.call(kind, f"{NODE}/{name}", kind.Request(**{field: names}))
            expected = len(names) if len(names) <= MOST_AT_ONCE else 0
            assert len(getattr(answer, wanted)) == expected
    request = ListParameters.Request(prefixes=MANY, depth=2**64 - 1)
    assert not peer.call(ListParameters, f"{NODE}/list_parameters", request).result.names
    parameters = one("top_k", value(2, integer_value=3)) * len(MANY)
    request = SetParameters.Request(parameters=parameters)
    results = peer.call(SetParameters, f"{NODE}/set_parameters", request).results
    assert {result.successful for result in results} == {False}
    assert len(results) == MOST_AT_ONCE  # not more: DDS keeps a thousand answers
    assert local.config.output.top_k != 3


@pytest.mark.parametrize("label", ["", "\x1b[31m", "transition_success", "x" * 100_000])
@pytest.mark.parametrize("number", [0, 8, 10, 60, 255])
@pytest.mark.usefixtures("local")
def test_a_transition_that_is_none_is_refused(peer, number, label):
    request = ChangeState.Request(transition=Transition(id=number, label=label))
    assert not peer.call(ChangeState, f"{NODE}/change_state", request).success
    assert peer.state() == "unconfigured"


def test_labels_say_the_transition(local, peer):
    for label, state in (("configure", "inactive"), ("cleanup", "unconfigured")):
        request = ChangeState.Request(transition=Transition(label=label))
        future = peer._client(ChangeState, f"{NODE}/change_state").call_async(request)
        wait_for(future.done, lambda label=label: f"the answer to {label}")
        assert future.result().success
        assert peer.state() == state
    assert local._pipeline is None


WRONG_TIMES = ((-1, 0), (-(2**31), 0), (0, 10**9), (2**31 - 1, 2**32 - 1))


def test_what_is_no_time_on_clock_is_ignored_and_said_once(start, peer):
    with start(use_sim_time=True) as node:
        publisher = peer.camera("/clock", Clock)
        stream = Stream(peer)
        clock = Clock()
        for sec, nanosec in WRONG_TIMES * 5:
            clock.clock.sec, clock.clock.nanosec = sec, nanosec
            publisher.publish(clock)
            peer.state()
        clock.clock.sec, clock.clock.nanosec = 1000, 5
        publisher.publish(clock)
        stream.classify(make_image("green", 1))
        assert peer.watch().skip(2) is None, "and /diagnostics go on"
        assert node.end() == 0
        log = node.log()
    assert log.count("is not a time and was ignored") == 1
    assert "Traceback" not in log


def test_what_a_callback_raises_is_survived_and_said_once(start, peer):
    """From a timer, a request that cannot be taken, and an answer that cannot be sent."""
    with start(program=("-c", BUGGY), autostart=False) as node:
        assert peer.state() == "unconfigured"
        assert peer.change("configure")
        assert peer.change("activate")
        Stream(peer).classify(make_image("red", 1))
        wait_for(lambda: "survived" in node.log(), node.log)
        assert node.is_alive()
        assert node.end() == 0
        log = node.log()
    faults = ("UnicodeDecodeError", "RuntimeError: a fault", "ZeroDivisionError")
    names = ("/perception/get_state", "/perception/get_state", "a Timer")
    for name, fault in zip(names, faults, strict=True):
        assert log.count(f"{name}: survived {fault}") == 1, log
    assert "Traceback" not in log


# The first requests fail where they are taken, or where they are answered; a timer always does.
BUGGY = """
import sys
from perception_node.ros.node import PerceptionNode
from rclpy.service import Service
from rclpy.executors import SingleThreadedExecutor

take, send, failed = SingleThreadedExecutor._take_service, Service.send_response, []

def fail_to_take(executor, service):
    if service.srv_name == "/perception/get_state" and "take" not in failed:
        failed.append("take")
        raise UnicodeDecodeError("utf-8", b"x", 0, 1, "a fault")
    return take(executor, service)

def fail_to_send(service, *arguments):
    if service.srv_name == "/perception/get_state" and "send" not in failed:
        failed.append("send")
        raise RuntimeError("a fault")
    send(service, *arguments)

make = PerceptionNode.__init__
def make_buggy(node, **options):
    make(node, **options)
    node.create_timer(0.01, lambda: 1 / 0)

SingleThreadedExecutor._take_service = fail_to_take
Service.send_response = fail_to_send
PerceptionNode.__init__ = make_buggy
from perception_node.ros.main import main
sys.exit(main())
"""


@pytest.mark.parametrize("length", [1 << 20, 1 << 26, 10**9, 2**31, 2**32 - 1])
def test_a_request_that_states_a_huge_length_takes_no_memory(start, peer, length):
    with start() as node:
        peer.wait_until("active")
        parameters = serialize(SetParameters.Request(parameters=WRONG["NaN"]))
        names = serialize(GetParameters.Request(names=["threshold"]))
        before_kib = memory_kib(node.process.pid)
        for kind, name, content in (
            (SetParameters, "set_parameters", parameters),
            (GetParameters, "get_parameters", names),
        ):
            writer = RawWriter(peer.node, kind.Request, f"{NODE}/{name}")
            wait_for(lambda writer=writer: writer.is_heard, lambda: "the service")
            writer.send(content[:4] + length.to_bytes(4, "little") + content[8:])
            assert peer.call(GetParameters, f"{NODE}/get_parameters") is not None
            writer.close()
        assert peer.state() == "active"
        assert memory_kib(node.process.pid) - before_kib < 100 << 10
        assert node.end() == 0


@pytest.mark.timeout(180)
def test_hundreds_of_hostile_messages_change_nothing(domain, color_model, monkeypatch):
    monkeypatch.setenv("ROS_DOMAIN_ID", str(domain))
    rows = MessageTrial(MESSAGES, parameters={"model": str(color_model)}).run()
    assert [row for row in rows if not row.is_ok] == []


DEAF_NODE = """
import sys, time
import perception_node.ros.requests as requests
requests.describe = lambda error: time.sleep(1000)
from perception_node.ros.main import main
sys.exit(main())
"""


def test_a_node_that_grows_deaf_is_found(start, peer):
    with (
        start(program=("-c", DEAF_NODE)),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("perception_node.bench.siege.messages.ANSWER_TIMEOUT_S", 5.0)
        peer.wait_until("active")
        with MessageFuzzer(peer.node.context, NODE, 1) as fuzzer, pytest.raises(Deaf):
            fuzzer.send(MESSAGES)


def test_the_same_seed_makes_the_same_messages():
    def make(seed):
        rng = random.Random(seed)
        requests = [fill(SetParameters.Request(), rng) for _ in range(20)]
        return [repr(request) for request in requests], damage(bytes(100), rng)

    assert make(1) == make(1) != make(2)


@pytest.mark.parametrize("hurt", DAMAGES, ids=lambda hurt: hurt.__name__)
def test_each_damage_changes_something(hurt):
    content = serialize(GetParameters.Request(names=["threshold", "top_k"]))
    rng = random.Random(1)
    assert any(hurt(bytearray(content), rng) != content for _ in range(5))
