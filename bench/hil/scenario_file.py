# SPDX-License-Identifier: Apache-2.0
"""Read a scenario from YAML. Whatever is wrong is one line: file, key, what is allowed."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from perception_node.bench.camera.fault_schedule import Fault
from perception_node.bench.hil.pictures import make_load
from perception_node.bench.hil.scenario import (
    CameraPlan,
    DeviceUnderTest,
    DiagnosticDemand,
    Expectations,
    LeakLimits,
    PlannedFault,
    RandomFaults,
    Scenario,
    Step,
)
from perception_node.bench.hil.scenario_checks import find_contradictions
from perception_node.bench.hil.schema import check_schema
from perception_node.config.node_config import ALL_PARAMETERS, NodeConfig
from perception_node.errors import ConfigError
from perception_node.system.files import read_regular_file

if TYPE_CHECKING:
    from perception_node.config.parameter import Value
    from perception_node.untyped import Json, YamlIndex


MAX_BYTES = 256 * 1024
MOST_BITS = 63  # beside the sign; more digits than Python prints fit into a small file
BOOL_TAG, TIME_TAG = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp"


class _StrictLoader(yaml.SafeLoader):
    """PyYAML's safe loader without aliases, dates, NaN and keys that come twice."""

    def compose_node(self, parent: yaml.Node | None, index: YamlIndex) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.MarkedYAMLError(
                problem="an alias is not allowed here; write its content",
                problem_mark=self.peek_event().start_mark,  # type: ignore[no-untyped-call]
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 - as in PyYAML
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value in seen:
                problem = "a key must be one word, and each may occur once"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value)
        return {str(key): value for key, value in super().construct_mapping(node, deep).items()}

    def construct_whole(self, node: yaml.ScalarNode) -> int:
        value = int(self.construct_yaml_int(node))
        if value.bit_length() > MOST_BITS:
            raise yaml.MarkedYAMLError(
                problem=f"a whole number must fit into {MOST_BITS} bits",
                problem_mark=node.start_mark,
            )
        return value

    def construct_finite(self, node: yaml.ScalarNode) -> float:
        value = float(self.construct_yaml_float(node))
        if not math.isfinite(value):
            raise yaml.MarkedYAMLError(
                problem="a number must be finite", problem_mark=node.start_mark
            )
        return value


_StrictLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in pairs if tag not in {BOOL_TAG, TIME_TAG}]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_StrictLoader.add_implicit_resolver(BOOL_TAG, re.compile("^(?:true|false)$"), list("tf"))
_StrictLoader.add_constructor("tag:yaml.org,2002:float", _StrictLoader.construct_finite)
_StrictLoader.add_constructor("tag:yaml.org,2002:int", _StrictLoader.construct_whole)


def read_yaml(path: Path) -> Json:
    """Return what a file says, in plain values.

    Raises:
        ConfigError: it cannot be read, or is no such YAML; names file and line.

    """
    try:
        text = read_regular_file(path, MAX_BYTES).decode()
        return _StrictLoader(text).get_single_data()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f" line {mark.line + 1}:" if mark is not None else ""
        raise ConfigError(f"{path}:{line} {error.problem or error.context}") from error
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # PyYAML lets through whatever int(), float() and others raise
        reason = " ".join(str(error).split())[:200]
        raise ConfigError(f"{path}: not YAML in UTF-8: {reason}") from error


SHIPPED = Path(__file__).with_name("scenarios")
RECOVERIES = ("fault", "activate", "kill")
PATHS = ("model", "plan_store")  # parameters that name a file
OTHER_PARAMETERS = ("use_sim_time",)  # ROS's own


def find_scenario(name: str) -> Path:
    """Return the file of a path, or of the name of a scenario that comes with us.

    Raises:
        ConfigError: there is none; the message lists those that come with us.

    """
    shipped = {path.stem: path for path in sorted(SHIPPED.glob("*.yaml"))}
    if name in shipped:
        return shipped[name]
    try:
        is_file = Path(name).exists()
    except (OSError, ValueError):  # too long, NUL
        is_file = False
    if not is_file:
        known = ", ".join(shipped) or "none"
        raise ConfigError(f"{name[:200]}: no such scenario; give a file, or one of: {known}")
    return Path(name)


def load_scenario(path: Path) -> Scenario:
    """Read and check a scenario.

    Raises:
        ConfigError: a field is wrong, or two of them contradict each other.

    """
    return parse_scenario(path, read_yaml(path))


def parse_scenario(path: Path, data: Json) -> Scenario:
    """Check what the file at ``path`` says; errors as in ``load_scenario``."""
    check_schema(path, data)
    try:
        return _parse(data, path.parent)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error


def _parse(data: dict[str, Any], folder: Path) -> Scenario:
    faults, random_faults = _parse_faults(data.get("faults", []))
    scenario = Scenario(
        name=data["name"],
        description=data.get("description", ""),
        node=_parse_node(data.get("node", {}), folder),
        camera=_parse_camera(data["camera"], folder),
        faults=faults,
        random_faults=random_faults,
        steps=tuple(Step(float(step["at_s"]), step["do"]) for step in data.get("steps", [])),
        expect=_parse_expect(data["expect"], folder),
        given=data,
    )
    for problem in find_contradictions(scenario):
        raise ConfigError(problem)
    return scenario


def _parse_node(data: dict[str, Any], folder: Path) -> DeviceUnderTest:
    parameters = {name: _to_value(name, v) for name, v in data.get("parameters", {}).items()}
    for name in PATHS:
        given = parameters.get(name)
        is_path = isinstance(given, str) and "/" in given and not given.startswith("~")
        if is_path:  # an absolute one stays
            parameters[name] = str((folder / str(given)).resolve())
    values = {name: v for name, v in parameters.items() if name not in OTHER_PARAMETERS}
    NodeConfig().with_values(values)  # which checks them
    rest = {**data, "parameters": parameters, "command": tuple(data.get("command", ()))}
    rest.setdefault("respawn", data.get("start", "local") == "local")
    return DeviceUnderTest(**rest)


def _to_value(name: str, value: Json) -> Value:
    if name not in ALL_PARAMETERS and name not in OTHER_PARAMETERS:
        raise ConfigError(f"node.parameters: unknown key {name[:100]!r}; see the README's table")
    if isinstance(value, list):
        return tuple(value)
    is_float = name in ALL_PARAMETERS and isinstance(ALL_PARAMETERS[name].default, float)
    is_whole = isinstance(value, int) and not isinstance(value, bool)
    result: Value = float(value) if is_float and is_whole and abs(value) < 1 << 53 else value
    return result


def _parse_camera(data: dict[str, Any], folder: Path) -> CameraPlan:
    rest = {key: value for key, value in data.items() if key not in {"source", "size"}}
    source = data.get("source", "synthetic")
    if isinstance(source, dict):
        rest["source"] = "bag" if "bag" in source else "images"
        rest["path"] = folder / source[rest["source"]]
        rest["bag_topic"] = source.get("topic", "")
    if "size" in data:
        if rest.get("source") == "bag":
            raise ConfigError("camera.size: a bag is played as it is; leave size out")
        width, height = map(int, data["size"].split("x"))
        rest["size"] = (width, height)
    plan = CameraPlan(**rest)
    make_load(plan)  # which checks it
    return plan


def _parse_faults(data: Json) -> tuple[tuple[PlannedFault, ...], RandomFaults | None]:
    if isinstance(data, dict):
        given = data["random"]
        chosen = tuple(Fault(word) for word in given["faults"])
        return (), RandomFaults(chosen, int(given.get("seed", 1)))
    planned = (PlannedFault(float(f["at_s"]), float(f["for_s"]), Fault(f["fault"])) for f in data)
    return tuple(planned), None


def _parse_expect(data: dict[str, Any], folder: Path) -> Expectations:
    rest = {key: value for key, value in data.items() if key != "labels"}
    labels = data.get("labels", {})
    if "golden" in labels:
        rest["golden"] = folder / labels["golden"]
        rest["agreement_percent"] = labels.get("agreement_percent", 99.0)
    rest["same_labels"] = "per_picture" in labels
    rest["diagnostics"] = tuple(DiagnosticDemand(**row) for row in data.get("diagnostics", ()))
    if "leaks" in data:
        rest["leaks"] = LeakLimits(**data["leaks"])
    recovery_s = data.get("recovery_s", {})
    if not isinstance(recovery_s, dict):
        rest["recovery_s"] = dict.fromkeys(RECOVERIES, recovery_s)
    return Expectations(**rest)
