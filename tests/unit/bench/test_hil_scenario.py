# SPDX-License-Identifier: Apache-2.0
"""A scenario says what it means, or one line says what is wrong: file, key, what is allowed."""

from __future__ import annotations

import copy

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

from perception_node.bench.camera.fault_schedule import SECOND_NS, Fault
from perception_node.bench.hil.pictures import read_golden, read_pictures
from perception_node.bench.hil.scenario_file import MAX_BYTES, find_scenario, load_scenario
from perception_node.errors import ConfigError
from tests.builders import SAMPLE_BAG

WHOLE = """
name: whole
description: everything
node:
  start: local
  target: /front/perception
  parameters: {deadline_ms: 80, image_timeout_s: 1, camera_deadlines_ms: [0]}
  command: [python3, node.py]
  respawn: false
  timeout_s: 5
camera: {topic: /cam/image, source: synthetic, size: 320x240, encoding: rgb8, transport: raw,
         rate_hz: 20, seconds: 20, warm_up_s: 2}
faults:
  - {at_s: 3, for_s: 1, fault: off}
  - {at_s: 4, for_s: 0.5, fault: jitter}
steps: [{at_s: 6, do: deactivate}, {at_s: 7, do: activate}, {at_s: 9.5, do: kill}]
expect:
  latency_ms: {p50: 20, max: 100}
  missed_percent: 1
  answered_percent: 99
  never_late: true
  labels: {per_picture: consistent}
  recovery_s: {fault: 1, kill: 10}
  diagnostics: [{row: input, level: ERROR, contains: Timeout, within_s: 1.5, during: off}]
  no_unexpected_alarms: true
  exit_code: 0
  account_exact: true
"""
SMALL = {"name": "small", "camera": {"seconds": 5}, "expect": {"missed_percent": 1}}


@pytest.fixture
def load(tmp_path):
    """Return a function that reads a scenario from text, or from plain data."""

    def read(content):
        path = tmp_path / "scenario.yaml"
        is_text = isinstance(content, str)
        path.write_text(content if is_text else yaml.safe_dump(content), encoding="utf-8")
        return load_scenario(path)

    return read


def with_values(**sections):
    """The smallest scenario, with sections replaced or extended."""
    data = copy.deepcopy(SMALL)
    for name, value in sections.items():
        both = isinstance(value, dict) and isinstance(data.get(name), dict)
        data[name] = {**data[name], **value} if both else value
    return data


def problem(load, content) -> str:
    """Return the one line that a scenario is refused with."""
    with pytest.raises(ConfigError) as caught:
        load(content)
    line = str(caught.value)
    assert "\n" not in line
    assert "scenario.yaml: " in line
    return line.partition("scenario.yaml: ")[2]


def test_every_field_is_read(load):
    scenario = load(WHOLE)
    assert scenario.node.target == "/front/perception"
    assert scenario.node.parameters["image_timeout_s"] == 1.0
    assert isinstance(scenario.node.parameters["image_timeout_s"], float)
    assert scenario.node.parameters["camera_deadlines_ms"] == (0,)
    assert scenario.node.command == ("python3", "node.py")
    assert not scenario.node.respawn
    assert scenario.camera.size == (320, 240)
    assert scenario.camera.period_ns == SECOND_NS // 20
    assert scenario.camera.full_topic == "/cam/image"
    assert [planned.fault for planned in scenario.faults] == [Fault.OFF, Fault.JITTER]
    assert [step.do for step in scenario.steps] == ["deactivate", "activate", "kill"]
    assert scenario.expect.latency_ms == {"p50": 20, "max": 100}
    assert scenario.expect.same_labels
    assert scenario.expect.recovery_s == {"fault": 1, "kill": 10}
    assert scenario.expect.diagnostics[0].during == "off"
    assert scenario.given["name"] == "whole"


def test_the_smallest_has_defaults(load):
    scenario = load(SMALL)
    assert scenario.node.is_local
    assert scenario.node.respawn
    assert (scenario.camera.rate_hz, scenario.camera.transport) == (30.0, "raw")
    assert scenario.schedule(0).at(SECOND_NS).fault is Fault.OK


def test_the_schedule_is_the_listed_faults(load):
    intervals = load(WHOLE).schedule(100).intervals
    begins_s = [(i.fault, (i.begin_ns - 100) / SECOND_NS) for i in intervals]
    ok = Fault.OK
    assert begins_s == [(ok, 0), (Fault.OFF, 3), (ok, 4), (Fault.JITTER, 4), (ok, 4.5)]
    assert intervals[-1].end_ns == 100 + 20 * SECOND_NS


def test_random_faults_are_the_same_for_a_seed(load):
    faults = {"random": {"seed": 3, "faults": ["off", "clock_step"]}}
    one, same = (load(with_values(faults=faults)).schedule(0).intervals for _ in range(2))
    assert one == same
    assert {i.fault for i in one} == {Fault.OK, Fault.OFF, Fault.CLOCK_STEP}


def test_one_recovery_time_counts_for_all(load):
    recovery_s = load(with_values(expect={"recovery_s": 2})).expect.recovery_s
    assert recovery_s == {"fault": 2, "activate": 2, "kill": 2}


def test_a_bag_and_its_golden_file_lie_beside_the_scenario(load, tmp_path):
    (tmp_path / "photos").symlink_to(SAMPLE_BAG)
    topic = "/camera/image_raw/compressed"
    camera = {"transport": "compressed", "source": {"bag": "photos", "topic": topic}}
    labels = {"golden": "photos/golden.jsonl"}
    scenario = load(with_values(camera=camera, expect={"labels": labels}))
    pictures = read_pictures(scenario.camera)
    golden = read_golden(scenario.expect.golden, topic)
    assert len(pictures) > 30
    assert len(golden) == 100
    assert {golden[0], golden[60]} == {"Egyptian cat", "tripod"}


@pytest.mark.parametrize("given", ["birds", "/opt/birds", "~/birds"])
def test_a_name_or_a_whole_path_of_a_model_stays(load, given):
    node = {"parameters": {"model": given}}
    assert load(with_values(node=node)).node.parameters["model"] == given


@pytest.mark.parametrize("given", ["models/birds", "./models/birds"])
def test_a_model_lies_beside_the_scenario(load, tmp_path, given):
    node = {"parameters": {"model": given}}
    assert load(with_values(node=node)).node.parameters["model"] == str(tmp_path / "models/birds")


REMOTE = {"start": "none"}
WRONG = [
    (with_values(camera={"sise": 1}), ["camera: unknown key 'sise'", "size"]),
    (with_values(camera={"rate_hz": 0}), ["camera.rate_hz", "0.1 to 1000", "'0'"]),
    (with_values(camera={"rate_hz": "x"}), ["camera.rate_hz", "a number"]),
    (with_values(camera={"size": "5x5"}), ["camera.size", "16"]),
    (with_values(camera={"size": "640"}), ["camera.size", "must match", "'640'"]),
    (with_values(camera={"encoding": "rgb9"}), ["camera.encoding", "bgr8", "'rgb9'"]),
    (with_values(camera={"warm_up_s": 5}), ["camera.warm_up_s", "less than seconds (5)"]),
    (with_values(camera={"source": {"bog": "x"}}), ["camera.source", "{bag: FOLDER}"]),
    (with_values(camera={"source": {"bag": "x"}}), ["x: no such bag"]),
    (with_values(camera={"source": {"images": "x"}}), ["camera.source.images", ".jpg"]),
    (with_values(camera={"source": {"bag": "x"}, "size": "64x64"}), ["camera.size", "as it is"]),
    (with_values(name="../x"), ["name: must match", "'../x'"]),
    (with_values(expect={"p50": 1}), ["expect: unknown key 'p50'", "latency_ms"]),
    (with_values(expect={"latency_ms": {}}), ["expect.latency_ms: is empty", "p50, p90"]),
    (with_values(expect={"missed_percent": 101}), ["expect.missed_percent", "0 to 100"]),
    (with_values(expect={"labels": {"per_picture": "x"}}), ["expect.labels", "consistent"]),
    (with_values(expect={"labels": {"golden": "x"}}), ["expect.labels.golden", "camera.source"]),
    (with_values(expect={"recovery_s": "x"}), ["expect.recovery_s", "fault, activate, kill"]),
    (
        with_values(expect={"diagnostics": [{"row": "input", "during": "stuck"}]}),
        ["expect.diagnostics[0].during", "no stuck in faults or steps"],
    ),
    (with_values(faults=[{"at_s": 1, "for_s": 1}]), ["faults[0]: fault is missing"]),
    (
        with_values(faults=[{"at_s": 1, "for_s": 1, "fault": "offf"}]),
        ["faults[0].fault", "one of off, stuck", "'offf'"],
    ),
    (
        with_values(faults=[{"at_s": 1, "for_s": 5, "fault": "stuck"}]),
        ["faults[0]", "within camera.seconds (5)"],
    ),
    (
        with_values(faults=[{"at_s": s, "for_s": 2, "fault": "stuck"} for s in (1, 2)]),
        ["faults[1].at_s", "the end of the one above"],
    ),
    (
        with_values(faults=[{"at_s": 1, "for_s": 1, "fault": "corrupt"}]),
        ["faults: corrupt needs camera.transport: compressed"],
    ),
    (with_values(steps=[{"at_s": 1, "do": "fly"}]), ["steps[0].do", "configure, activate"]),
    (with_values(steps=[{"at_s": 9, "do": "kill"}]), ["steps[0].at_s", "camera.seconds (5)"]),
    (
        with_values(steps=[{"at_s": s, "do": "activate"} for s in (2, 1)]),
        ["steps[1].at_s", "before the step above"],
    ),
    (with_values(node={"parameters": {"deadline": 1}}), ["node.parameters", "'deadline'"]),
    (with_values(node={"parameters": {"deadline_ms": 0}}), ["deadline_ms must be 1 to 60000"]),
    (
        with_values(node={"parameters": {"image_transport": "raw"}}),
        ["node.parameters.image_transport", "camera.transport"],
    ),
    (with_values(node={"apply_parameters": True}), ["node.apply_parameters", "start: none"]),
    (with_values(node={**REMOTE, "command": ["x"]}), ["node.command", "node.start: local"]),
    (with_values(node={**REMOTE, "respawn": True}), ["node.respawn", "node.start: local"]),
    (
        with_values(node={**REMOTE, "parameters": {"deadline_ms": 50}}),
        ["node.parameters", "apply_parameters: true"],
    ),
    (with_values(node=REMOTE, steps=[{"at_s": 1, "do": "kill"}]), ["steps: kill", "local"]),
    (with_values(node=REMOTE, expect={"exit_code": 0}), ["expect.exit_code", "local"]),
    ({"name": "x", "expect": {"missed_percent": 1}}, ["the whole file: camera is missing"]),
    ("", ["the whole file: must be keys with values"]),
    ("name: [", ["line 1"]),
    ("name: x\nname: y", ["line 2", "each may occur once"]),
    ("a: &x 1\nb: *x", ["line 2", "an alias is not allowed"]),
    ("a: .nan", ["line 1", "finite"]),
    ("a: !!python/name:os.system x", ["line 1", "could not determine a constructor"]),
    ("# " + "x" * MAX_BYTES, ["bytes are more than"]),
]


@pytest.mark.parametrize(("content", "words"), WRONG, ids=lambda v: str(v)[:60])
def test_a_wrong_field_is_one_line(load, content, words):
    line = problem(load, content)
    for word in words:
        assert word in line


def test_a_missing_file_is_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file"):
        load_scenario(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="no such scenario; give a file, or one of"):
        find_scenario("no-such")


plain = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=10,
)


def places(data, where=()):
    """Yield the way to every value."""
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        yield (*where, key)
        if isinstance(value, (dict, list)):
            yield from places(value, (*where, key))


def refusal(load, data) -> str:
    """Return the line that a scenario is refused with; empty if it is read."""
    try:
        load(data)
    except ConfigError as error:
        return str(error)
    return ""


WHOLE_DATA = yaml.load(WHOLE.replace(": off", ": 'off'"), yaml.SafeLoader)


@given(st.sampled_from(list(places(WHOLE_DATA))), plain)
@example(("node", "parameters"), {"\n": None})
def test_a_whole_scenario_with_any_value_somewhere_is_read_or_refused_in_one_line(
    load, where, value
):
    data = copy.deepcopy(WHOLE_DATA)
    inner = data
    for key in where[:-1]:
        inner = inner[key]
    inner[where[-1]] = value
    assert "\n" not in refusal(load, data)


@given(
    st.binary(max_size=200)
    | st.text(alphabet="{}[]:,-&*!|>'\"%@`#?<=0x1.e~\n tfa", max_size=60).map(str.encode)
)
def test_any_bytes_are_read_or_refused_in_one_line(tmp_path, content):
    path = tmp_path / "scenario.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        load_scenario(path)
    assert "\n" not in str(caught.value)
