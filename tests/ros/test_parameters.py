# SPDX-License-Identifier: Apache-2.0
"""The node's parameters as ``ros2 param`` sees them: what they say, take and refuse."""

from __future__ import annotations

import pytest
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import (
    DescribeParameters,
    GetParameters,
    ListParameters,
    SetParameters,
    SetParametersAtomically,
)

from perception_node.config.node_config import ALL_PARAMETERS
from perception_node.config.parameter import When
from tests.ros.harness import (
    NODE,
    PARAMETERS,
    Peer,
    Stream,
    claim_domain,
    make_image,
    start_node,
)

pytestmark = pytest.mark.ros
TYPES = {
    bool: ParameterType.PARAMETER_BOOL,
    int: ParameterType.PARAMETER_INTEGER,
    float: ParameterType.PARAMETER_DOUBLE,
    str: ParameterType.PARAMETER_STRING,
}
LIST_TYPES = {
    int: ParameterType.PARAMETER_INTEGER_ARRAY,
    str: ParameterType.PARAMETER_STRING_ARRAY,
}
NAMES = {bool: "bool", int: "integer", float: "double", str: "string"}


@pytest.fixture(scope="module")
def peer(color_model):
    """A peer of one node that the tests of this file share."""
    parameters = {"model": color_model, "autostart": True}
    with claim_domain() as domain, start_node(domain, parameters), Peer(domain) as other:
        other.wait_until("active")
        yield other


@pytest.fixture
def peer_of_start(domain):
    """The peer of the node that ``start`` starts."""
    with Peer(domain) as other:
        yield other


@pytest.fixture(scope="module")
def stream(peer):
    sender = Stream(peer)
    sender.classify(make_image("red", 1))
    return sender


@pytest.fixture(autouse=True)
def _restored(peer):
    """Give the live parameters their defaults back after each test."""
    yield
    assert change(peer, threshold=0.0).successful
    assert change(peer, top_k=5).successful
    assert change(peer, max_rate_hz=0.0).successful
    assert change(peer, deadline_ms=5000).successful


def value(content) -> ParameterValue:
    """Make a parameter's value from Python's."""
    if isinstance(content, tuple):
        kind = type(content[0])
        name = f"{NAMES[kind]}_array_value"
        return ParameterValue(type=LIST_TYPES[kind], **{name: list(content)})
    name = f"{NAMES[type(content)]}_value"
    return ParameterValue(type=TYPES[type(content)], **{name: content})


def change(peer, **values):
    """Set one parameter and return the node's answer."""
    request = SetParameters.Request()
    request.parameters = [Parameter(name=name, value=value(v)) for name, v in values.items()]
    return peer.call(SetParameters, f"{NODE}/set_parameters", request).results[0]


def describe(peer, name):
    request = DescribeParameters.Request(names=[name])
    return peer.call(DescribeParameters, f"{NODE}/describe_parameters", request).descriptors[0]


def current(peer, name) -> ParameterValue:
    request = GetParameters.Request(names=[name])
    return peer.call(GetParameters, f"{NODE}/get_parameters", request).values[0]


def test_every_field_is_a_parameter_and_nothing_else(peer):
    names = set(peer.call(ListParameters, f"{NODE}/list_parameters").result.names)
    others = {"use_sim_time", "start_type_description_service"}
    ours = {name for name in names if not name.startswith("qos_overrides.")}
    assert ours - others == set(ALL_PARAMETERS)


@pytest.mark.parametrize("name", ALL_PARAMETERS)
def test_a_parameter_describes_itself(peer, name):
    known = ALL_PARAMETERS[name]
    descriptor = describe(peer, name)
    assert descriptor.description == known.description
    assert descriptor.type == value(known.default).type
    assert descriptor.read_only == (known.when == When.START)
    assert not descriptor.dynamic_typing
    ranges = [*descriptor.integer_range, *descriptor.floating_point_range]
    found = [(r.from_value, r.to_value) for r in ranges]
    assert found == ([known.limits] if known.limits else [])
    for choice in known.choices:
        assert choice in descriptor.additional_constraints


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in ALL_PARAMETERS
        if name not in {"model", "autostart", "age_reference", "deadline_ms"}
    ],
)
def test_a_parameter_not_given_has_its_default(peer, name):
    assert current(peer, name) == value(ALL_PARAMETERS[name].default)


@pytest.mark.parametrize(
    "name", [name for name, p in ALL_PARAMETERS.items() if p.when == When.START]
)
def test_what_is_fixed_at_start_cannot_be_set(peer, name):
    before = current(peer, name)
    answer = change(peer, **{name: ALL_PARAMETERS[name].default})
    assert not answer.successful
    assert "read-only" in answer.reason or "read only" in answer.reason
    assert current(peer, name) == before


OTHERS = {bool: lambda v: not v, int: lambda v: v + 1, float: lambda v: v + 1.0}
UNCONFIGURED = [name for name, p in ALL_PARAMETERS.items() if p.when == When.UNCONFIGURED]


def another(name):
    """Return an allowed value that is not the present one."""
    default, choices = ALL_PARAMETERS[name].default, ALL_PARAMETERS[name].choices
    if choices:
        return next(choice for choice in choices if choice != PARAMETERS.get(name, default))
    if isinstance(default, tuple):
        return ("other",)
    return "1" if isinstance(default, str) else OTHERS[type(default)](default)


@pytest.mark.parametrize("name", UNCONFIGURED)
def test_what_configuring_reads_cannot_be_set_while_the_node_is_active(peer, name):
    before = current(peer, name)
    answer = change(peer, **{name: another(name)})
    assert not answer.successful
    assert answer.reason == (
        f"parameter {name} can change only while the node is unconfigured; clean up first"
    )
    assert current(peer, name) == before


def test_what_is_set_while_unconfigured_counts_from_the_next_configure_on(start, peer_of_start):
    with start(autostart=False) as node:
        peer_of_start.state()
        assert change(peer_of_start, class_id_format="name").successful
        assert change(peer_of_start, image_topics=("front/image",)).successful
        assert peer_of_start.change("configure")
        assert peer_of_start.change("activate")
        stream = Stream(peer_of_start, topic="front/image")
        assert stream.classify(make_image("red", 1)).results[0].class_id == "red"
        assert not change(peer_of_start, class_id_format="index").successful
        assert peer_of_start.change("deactivate")
        assert not change(peer_of_start, class_id_format="index").successful
        assert peer_of_start.change("cleanup")
        assert change(peer_of_start, class_id_format="index").successful
        assert node.end() == 0


def test_a_rate_limit_counts_from_the_next_frame_on(peer, stream):
    assert change(peer, max_rate_hz=0.001).successful
    stream.camera.publish(make_image("red", 90))
    stream.camera.publish(make_image("red", 91))
    assert change(peer, max_rate_hz=0.0).successful
    stream.classify_once(make_image("red", 92))
    assert {90, 91} - set(stream.stamps())


def test_changes_at_a_hundred_per_second_never_mix(peer, stream):
    """Every result has either one hypothesis or three, whatever changes meanwhile."""
    request = SetParametersAtomically.Request()
    before = len(stream.results)
    for number in range(200):
        wide = number % 2
        request.parameters = [
            Parameter(name="threshold", value=value(0.0 if wide else 0.04)),
            Parameter(name="top_k", value=value(3 if wide else 1)),
        ]
        stream.camera.publish(make_image("orange", 100_000 + number))
        peer.call(SetParametersAtomically, f"{NODE}/set_parameters_atomically", request)
    stream.classify(make_image("orange", 200_000))
    numbers = {len(result.results) for result in stream.results[before:]}
    assert numbers == {1, 3}, "top_k 3 with threshold 0.04 would give 2"


def test_threshold_counts_from_the_next_frame_on(peer, stream):
    assert len(stream.classify_once(make_image("orange", 10)).results) == 3
    assert change(peer, threshold=0.04).successful
    assert len(stream.classify_once(make_image("orange", 11)).results) == 2
    assert change(peer, threshold=0.5).successful
    assert len(stream.classify_once(make_image("orange", 12)).results) == 1
    assert change(peer, threshold=0.0).successful
    assert len(stream.classify_once(make_image("orange", 13)).results) == 3


def test_top_k_counts_from_the_next_frame_on(peer, stream):
    for top_k, expected in ((1, 1), (2, 2), (1000, 3)):
        assert change(peer, top_k=top_k).successful
        result = stream.classify_once(make_image("orange", 20 + top_k))
        assert len(result.results) == expected


@pytest.mark.parametrize(
    "values",
    [
        {"threshold": 1.1},
        {"threshold": -0.1},
        {"threshold": float("nan")},
        {"threshold": float("inf")},
        {"threshold": 1},
        {"threshold": "0.5"},
        {"top_k": 0},
        {"top_k": -1},
        {"top_k": 1001},
        {"top_k": 2.0},
        {"top_k": True},
    ],
    ids=str,
)
def test_a_bad_value_is_refused_with_a_reason(peer, stream, values):
    answer = change(peer, **values)
    assert not answer.successful
    # rclpy checks the type, and names no parameter; the node's own answer does.
    assert next(iter(values)) in answer.reason or "Wrong parameter type" in answer.reason
    assert current(peer, "threshold") == value(0.0)
    assert current(peer, "top_k") == value(5)
    assert len(stream.classify_once(make_image("orange", 50)).results) == 3


def test_an_unknown_parameter_is_refused(peer):
    answer = change(peer, treshold=0.5)
    assert not answer.successful
    assert "undeclared" in answer.reason


def test_of_a_bad_set_nothing_is_applied(peer, stream):
    request = SetParametersAtomically.Request()
    request.parameters = [
        Parameter(name="threshold", value=value(0.5)),
        Parameter(name="top_k", value=value(0)),
    ]
    service = f"{NODE}/set_parameters_atomically"
    assert not peer.call(SetParametersAtomically, service, request).result.successful
    assert current(peer, "threshold") == value(0.0)
    assert len(stream.classify_once(make_image("orange", 60)).results) == 3


def test_a_good_set_is_applied_as_a_whole(peer, stream):
    request = SetParametersAtomically.Request()
    request.parameters = [
        Parameter(name="threshold", value=value(0.04)),
        Parameter(name="top_k", value=value(1)),
    ]
    service = f"{NODE}/set_parameters_atomically"
    assert peer.call(SetParametersAtomically, service, request).result.successful
    assert len(stream.classify_once(make_image("orange", 70)).results) == 1
