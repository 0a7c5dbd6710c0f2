# SPDX-License-Identifier: Apache-2.0
"""The node's configuration: one frozen record of sections.

ROS parameters, ``launch/params/perception.yaml`` and the table in the README are generated from
it (``tools/generate_parameters.py``). Outside, a parameter has its name and no section.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

from perception_node.config.parameter import parameters_of
from perception_node.config.sections import (
    CameraConfig,
    HealthConfig,
    LatencyConfig,
    ModelConfig,
    OutputConfig,
    RealTimeConfig,
)
from perception_node.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perception_node.config.parameter import Value


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Every parameter of the node, with its default.

    Raises:
        ConfigError: parameters of different sections contradict each other.

    """

    model: ModelConfig = field(default_factory=ModelConfig)
    cameras: CameraConfig = field(default_factory=CameraConfig)
    latency: LatencyConfig = field(default_factory=LatencyConfig)
    output: OutputConfig = field(default_factory=OutputConfig)
    health: HealthConfig = field(default_factory=HealthConfig)
    real_time: RealTimeConfig = field(default_factory=RealTimeConfig)

    def __post_init__(self) -> None:
        """Check what concerns two sections."""
        if len(self.latency.camera_deadlines_ms) > len(self.cameras.image_topics):
            msg = "parameter camera_deadlines_ms has more entries than image_topics"
            raise ConfigError(msg)

    def values(self) -> dict[str, Value]:
        """Return the value of every parameter by its name."""
        return {name: getattr(getattr(self, of), name) for name, of in _SECTION_OF.items()}

    def with_values(self, values: Mapping[str, object]) -> NodeConfig:
        """Return a copy with some parameters changed; here, what comes from outside gets its type.

        Raises:
            ConfigError: a value is not allowed.
            KeyError: there is no parameter of that name; see ``ALL_PARAMETERS``.

        """
        changed: dict[str, dict[str, object]] = {}
        for name, value in values.items():
            changed.setdefault(_SECTION_OF[name], {})[name] = value
        return replace(self, **{of: replace(getattr(self, of), **v) for of, v in changed.items()})


_SECTIONS = {
    f.name: parameters_of(type(getattr(NodeConfig(), f.name))) for f in fields(NodeConfig)
}
_SECTION_OF = {p.name: name for name, described in _SECTIONS.items() for p in described}
ALL_PARAMETERS = {p.name: p for described in _SECTIONS.values() for p in described}
