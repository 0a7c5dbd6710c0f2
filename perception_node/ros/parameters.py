# SPDX-License-Identifier: Apache-2.0
"""ROS parameters, made from those of NodeConfig."""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

from perception_node.config.node_config import ALL_PARAMETERS, NodeConfig
from perception_node.config.parameter import When
from perception_node.errors import ConfigError
from perception_node.ros.compat import follow_set_parameters

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rclpy import parameter as rclpy_parameter
    from rclpy.node import Node

    from perception_node.config.parameter import Parameter


def declare_parameters(node: Node) -> NodeConfig:
    """Declare every parameter on ``node`` and return the values given at start.

    Raises:
        ConfigError: a given value has the wrong type, is out of range or not a choice.

    """
    try:
        values = {
            name: _value(node.declare_parameter(name, known.default, _descriptor(known)))
            for name, known in ALL_PARAMETERS.items()
        }
    except (InvalidParameterTypeException, InvalidParameterValueException) as error:
        raise ConfigError(str(error)) from error
    return NodeConfig().with_values(values)


def follow_changes(
    node: Node,
    get: Callable[[], NodeConfig],
    put: Callable[[NodeConfig], None],
    is_configured: Callable[[], bool],
) -> None:
    """Check every change against the whole configuration, then replace it as one record."""

    def validate(parameters: list[rclpy_parameter.Parameter]) -> SetParametersResult:
        try:
            values = _own_values(parameters)
            if is_configured():
                _require_live(get(), values)
            get().with_values(values)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def apply(parameters: list[rclpy_parameter.Parameter]) -> None:
        put(get().with_values(_own_values(parameters)))

    node.add_on_set_parameters_callback(validate)
    follow_set_parameters(node, apply)


def _require_live(config: NodeConfig, values: Mapping[str, object]) -> None:
    """Refuse what would only count at the next configure.

    Raises:
        ConfigError: such a parameter would change.

    """
    current = config.values()
    for name, value in values.items():
        if ALL_PARAMETERS[name].when != When.LIVE and value != current[name]:
            msg = f"parameter {name} can change only while the node is unconfigured"
            raise ConfigError(f"{msg}; clean up first")


def _own_values(parameters: list[rclpy_parameter.Parameter]) -> dict[str, object]:
    return {p.name: _value(p) for p in parameters if p.name in ALL_PARAMETERS}


def _value(parameter: rclpy_parameter.Parameter) -> object:
    """Return a parameter's value; rclpy's lists and arrays become tuples."""
    value: object = parameter.value
    return tuple(value) if isinstance(value, (list, tuple, array)) else value


def _descriptor(known: Parameter) -> ParameterDescriptor:
    descriptor = ParameterDescriptor(
        description=known.description,
        read_only=known.when == When.START,
        additional_constraints=f"one of: {', '.join(known.choices)}" if known.choices else "",
    )
    if known.limits:
        limits = dict(zip(("from_value", "to_value"), known.limits, strict=True))
        if isinstance(known.default, float):
            descriptor.floating_point_range = [FloatingPointRange(**limits)]
        else:
            descriptor.integer_range = [IntegerRange(**limits)]
    return descriptor
