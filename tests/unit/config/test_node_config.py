# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, fields, replace

import pytest

from perception_node.config.node_config import ALL_PARAMETERS, NodeConfig
from perception_node.config.parameter import parameters_of
from perception_node.config.sections import (
    MAX_CAMERAS,
    CameraConfig,
    LatencyConfig,
    OutputConfig,
)
from perception_node.errors import ConfigError

LISTS = [name for name, known in ALL_PARAMETERS.items() if isinstance(known.default, tuple)]
RANGES = [name for name, known in ALL_PARAMETERS.items() if known.limits]
CHOICES = [name for name, known in ALL_PARAMETERS.items() if known.choices]
OTHER_TYPES = {bool: (1, 0.0, "true"), int: (True, 1.0, "1"), float: (True, 1, "1.0")}
OTHER_TYPES[str] = (True, 1, 1.0, b"raw")
OTHER_TYPES[tuple] = ("image", 0, {"image"})
NAMES = {bool: "bool", int: "int", float: "float", str: "str", tuple: "list"}


def next_up(value):
    return value + 1 if isinstance(value, int) else math.nextafter(value, math.inf)


def next_down(value):
    return value - 1 if isinstance(value, int) else math.nextafter(value, -math.inf)


def given(**values):
    """Return a configuration made from what came from outside."""
    return NodeConfig().with_values(values)


def test_no_two_sections_have_a_parameter_of_one_name():
    sections = [getattr(NodeConfig(), field.name) for field in fields(NodeConfig)]
    names = [known.name for section in sections for known in parameters_of(type(section))]
    assert names == list(ALL_PARAMETERS)
    assert NodeConfig().values() == {n: known.default for n, known in ALL_PARAMETERS.items()}


@pytest.mark.parametrize("name", RANGES)
def test_both_bounds_are_allowed_and_one_step_further_is_not(name):
    default = ALL_PARAMETERS[name].default
    kind = type(default[0] if name in LISTS else default)

    def make(value):
        return (value,) if name in LISTS else value

    lowest, highest = map(kind, ALL_PARAMETERS[name].limits)
    for value in (lowest, highest, next_up(lowest), next_down(highest)):
        assert given(**{name: make(value)}).values()[name] == make(value)
    for value in (next_down(lowest), next_up(highest)):
        with pytest.raises(ConfigError, match=f"parameter {name} must be .* to .*, found"):
            given(**{name: make(value)})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    "name", [name for name in RANGES if type(ALL_PARAMETERS[name].default) is float]
)
def test_a_number_must_be_finite(name, value):
    with pytest.raises(ConfigError, match=f"parameter {name}"):
        given(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        (n, v)
        for n, known in ALL_PARAMETERS.items()
        for v in (*OTHER_TYPES[type(known.default)], None, [])
    ],
)
def test_another_type_is_refused(name, value):
    expected = NAMES[type(ALL_PARAMETERS[name].default)]
    with pytest.raises(ConfigError, match=f"parameter {name} must be of type {expected}"):
        given(**{name: value})


@pytest.mark.parametrize("name", CHOICES)
def test_only_the_choices_are_allowed(name):
    for choice in ALL_PARAMETERS[name].choices:
        assert given(**{name: choice}).values()[name] == choice
    default = ALL_PARAMETERS[name].default
    for value in ("", default.upper(), default + " "):
        with pytest.raises(ConfigError, match=f"parameter {name} must be one of .*{default}"):
            given(**{name: value})


def test_every_parameter_is_described():
    for known in ALL_PARAMETERS.values():
        assert known.description.endswith(".")
        value = known.default[0] if known.name in LISTS else known.default
        is_limited = isinstance(value, (int, float)) and not isinstance(value, bool)
        assert bool(known.limits) == is_limited


def test_values_are_replaced_in_a_copy():
    config = given(top_k=3)
    changed = config.with_values({"threshold": 0.5, "lazy": True})
    assert changed.output == OutputConfig(top_k=3, threshold=0.5)
    assert changed.cameras == CameraConfig(lazy=True)
    assert config.output.threshold == 0.0
    with pytest.raises(KeyError, match="treshold"):
        config.with_values({"treshold": 0.5})
    with pytest.raises(ConfigError):
        config.with_values({"top_k": 0})
    with pytest.raises(FrozenInstanceError):
        config.output.top_k = 4


# Cameras


@pytest.mark.parametrize(
    "topics",
    [(), ("",), ("a", ""), ("a", "a"), tuple(map(str, range(MAX_CAMERAS + 1)))],
)
def test_cameras_are_few_and_have_different_topics(topics):
    with pytest.raises(ConfigError, match="parameter image_topics must be 1 to 8 different"):
        CameraConfig(image_topics=topics)


def test_eight_cameras_are_allowed():
    topics = tuple(f"camera_{number}/image" for number in range(MAX_CAMERAS))
    assert CameraConfig(image_topics=topics).image_topics == topics


@pytest.mark.parametrize("topics", [("a", 1), (None,), (b"a",)])
def test_a_topic_is_a_text(topics):
    with pytest.raises(ConfigError, match="parameter image_topics must hold only strs, found"):
        CameraConfig(image_topics=topics)


@pytest.mark.parametrize("deadlines", [(True,), (1.0,), ("1",)])
def test_a_deadline_is_an_int(deadlines):
    with pytest.raises(ConfigError, match="parameter camera_deadlines_ms must hold only ints"):
        LatencyConfig(camera_deadlines_ms=deadlines)


@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ((), [100, 100, 100]),
        ((0,), [100, 100, 100]),
        ((50,), [50, 100, 100]),
        ((0, 50), [100, 50, 100]),
        ((10, 0, 60_000), [10, 100, 60_000]),
    ],
)
def test_a_camera_may_have_its_own_deadline(own, expected):
    config = LatencyConfig(camera_deadlines_ms=own)
    assert [config.deadline_ns(camera) for camera in range(3)] == [ms * 10**6 for ms in expected]
    shorter = replace(config, deadline_ms=7)
    assert shorter.deadline_ns(2) == (7 if not own[2:] or not own[2] else own[2]) * 10**6


def test_there_are_no_deadlines_without_a_camera():
    with pytest.raises(
        ConfigError, match="camera_deadlines_ms has more entries than image_topics"
    ):
        NodeConfig(latency=LatencyConfig(camera_deadlines_ms=(10, 20)))


# Real time


@pytest.mark.parametrize("name", ["worker_cpus", "executor_cpus"])
@pytest.mark.parametrize("value", ["x", "1-", "3-2", "1,,2"])
def test_a_list_of_cpus_is_checked(name, value):
    with pytest.raises(ConfigError, match=f"parameter {name}"):
        given(**{name: value})
