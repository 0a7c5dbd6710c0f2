# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, fields

import pytest

from perception_node.config.node_config import MAX_CAMERAS, NodeConfig
from perception_node.errors import ConfigError
from perception_node.system.realtime import RealTimeRequest

FIELDS = {field.name: field for field in fields(NodeConfig)}
LISTS = [name for name, field in FIELDS.items() if isinstance(field.default, tuple)]
RANGES = [name for name, field in FIELDS.items() if field.metadata["lowest"] is not None]
CHOICES = [name for name, field in FIELDS.items() if field.metadata["choices"]]
OTHER_TYPES = {bool: (1, 0.0, "true"), int: (True, 1.0, "1"), float: (True, 1, "1.0")}
OTHER_TYPES[str] = (True, 1, 1.0, b"raw")
OTHER_TYPES[tuple] = ("image", 0, {"image"})
NAMES = {bool: "bool", int: "int", float: "float", str: "str", tuple: "list"}


def next_up(value):
    return value + 1 if isinstance(value, int) else math.nextafter(value, math.inf)


def next_down(value):
    return value - 1 if isinstance(value, int) else math.nextafter(value, -math.inf)


def test_the_defaults_are_allowed():
    NodeConfig()


@pytest.mark.parametrize("name", RANGES)
def test_both_bounds_are_allowed_and_one_step_further_is_not(name):
    metadata = FIELDS[name].metadata
    default = FIELDS[name].default
    kind = type(default[0] if name in LISTS else default)

    def make(value):
        return (value,) if name in LISTS else value

    lowest, highest = kind(metadata["lowest"]), kind(metadata["highest"])
    for value in (lowest, highest, next_up(lowest), next_down(highest)):
        assert getattr(NodeConfig(**{name: make(value)}), name) == make(value)
    for value in (next_down(lowest), next_up(highest)):
        with pytest.raises(ConfigError, match=f"parameter {name} must be .* to .*, found"):
            NodeConfig(**{name: make(value)})


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", [name for name in RANGES if type(FIELDS[name].default) is float])
def test_a_number_must_be_finite(name, value):
    with pytest.raises(ConfigError, match=f"parameter {name}"):
        NodeConfig(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [(n, v) for n, f in FIELDS.items() for v in (*OTHER_TYPES[type(f.default)], None, [])],
)
def test_another_type_is_refused(name, value):
    expected = NAMES[type(FIELDS[name].default)]
    with pytest.raises(ConfigError, match=f"parameter {name} must be of type {expected}"):
        NodeConfig(**{name: value})


@pytest.mark.parametrize("name", CHOICES)
def test_only_the_choices_are_allowed(name):
    for choice in FIELDS[name].metadata["choices"]:
        assert getattr(NodeConfig(**{name: choice}), name) == choice
    default = FIELDS[name].default
    for value in ("", default.upper(), default + " "):
        with pytest.raises(ConfigError, match=f"parameter {name} must be one of .*{default}"):
            NodeConfig(**{name: value})


def test_every_parameter_is_described():
    for field in FIELDS.values():
        assert field.metadata["description"].endswith(".")
        value = field.default[0] if field.name in LISTS else field.default
        is_limited = isinstance(value, (int, float)) and not isinstance(value, bool)
        assert (field.metadata["lowest"] is not None) == is_limited


def test_values_are_replaced_in_a_copy():
    config = NodeConfig(top_k=3)
    changed = config.with_values({"threshold": 0.5})
    assert (changed.top_k, changed.threshold) == (3, 0.5)
    assert config.threshold == 0.0
    with pytest.raises(ConfigError):
        config.with_values({"top_k": 0})
    with pytest.raises(FrozenInstanceError):
        config.top_k = 4


# Cameras


@pytest.mark.parametrize(
    "topics",
    [(), ("",), ("a", ""), ("a", "a"), tuple(map(str, range(MAX_CAMERAS + 1)))],
)
def test_cameras_are_few_and_have_different_topics(topics):
    with pytest.raises(ConfigError, match="parameter image_topics must be 1 to 8 different"):
        NodeConfig(image_topics=topics)


def test_eight_cameras_are_allowed():
    topics = tuple(f"camera_{number}/image" for number in range(MAX_CAMERAS))
    assert NodeConfig(image_topics=topics).image_topics == topics


@pytest.mark.parametrize("topics", [("a", 1), (None,), (b"a",)])
def test_a_topic_is_a_text(topics):
    with pytest.raises(ConfigError, match="parameter image_topics must hold only strs, found"):
        NodeConfig(image_topics=topics)


@pytest.mark.parametrize("deadlines", [(True,), (1.0,), ("1",)])
def test_a_deadline_is_an_int(deadlines):
    with pytest.raises(ConfigError, match="parameter camera_deadlines_ms must hold only ints"):
        NodeConfig(camera_deadlines_ms=deadlines)


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
    config = NodeConfig(image_topics=("a", "b", "c"), camera_deadlines_ms=own)
    assert [config.deadline_ns(camera) for camera in range(3)] == [ms * 10**6 for ms in expected]
    shorter = config.with_values({"deadline_ms": 7})
    assert shorter.deadline_ns(2) == (7 if not own[2:] or not own[2] else own[2]) * 10**6


def test_there_are_no_deadlines_without_a_camera():
    with pytest.raises(
        ConfigError, match="camera_deadlines_ms has more entries than image_topics"
    ):
        NodeConfig(camera_deadlines_ms=(10, 20))


# Real time


@pytest.mark.parametrize("name", ["worker_cpus", "executor_cpus"])
@pytest.mark.parametrize("value", ["x", "1-", "3-2", "1,,2"])
def test_a_list_of_cpus_is_checked(name, value):
    with pytest.raises(ConfigError, match=f"parameter {name}"):
        NodeConfig(**{name: value})


def test_what_is_asked_of_the_system():
    config = NodeConfig(
        scheduling_policy="fifo",
        scheduling_priority=42,
        worker_cpus="0,2-3",
        executor_cpus="1",
        lock_memory=True,
        freeze_garbage=False,
        disable_garbage_collection=True,
    )
    assert config.real_time() == RealTimeRequest(
        policy="fifo",
        priority=42,
        worker_cpus=(0, 2, 3),
        executor_cpus=(1,),
        lock_memory=True,
        freeze_garbage=False,
        disable_garbage_collection=True,
    )
