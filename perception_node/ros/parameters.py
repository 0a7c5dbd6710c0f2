# SPDX-License-Identifier: Apache-2.0
"""ROS parameters, made from the fields of NodeConfig."""

from __future__ import annotations

from array import array
from dataclasses import fields
from typing import TYPE_CHECKING, Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException

from perception_node.config.node_config import NodeConfig
from perception_node.config.parameter import When
from perception_node.errors import ConfigError
from perception_node.ros.compat import follow_set_parameters

if TYPE_CHECKING:
    from collections.abc import Callable
    from dataclasses import Field

    from rclpy.node import Node
    from rclpy.parameter import Parameter

_FIELDS = {field.name: field for field in fields(NodeConfig)}


def declare_parameters(node: Node) -> NodeConfig:
    """Declare every parameter on ``node`` and return the values given at start.

    Raises:
        ConfigError: a given value has the wrong type, is out of range or not a choice.

    """
    try:
        values = {
            field.name: _value(
                node.declare_parameter(field.name, field.default, _descriptor(field))
            )
            for field in fields(NodeConfig)
        }
    except (InvalidParameterTypeException, InvalidParameterValueException) as error:
        raise ConfigError(str(error)) from error
    return NodeConfig(**values)


def follow_changes(
    node: Node,
    get: Callable[[], NodeConfig],
    put: Callable[[NodeConfig], None],
    is_configured: Callable[[], bool],
) -> None:
    """Check every change against the whole configuration, then replace it as one record."""

    def validate(parameters: list[Parameter]) -> SetParametersResult:
        try:
            values = _own_values(parameters)
            if is_configured():
                _require_live(get(), values)
            get().with_values(values)
        except ConfigError as error:
            return SetParametersResult(successful=False, reason=str(error))
        return SetParametersResult(successful=True)

    def apply(parameters: list[Parameter]) -> None:
        put(get().with_values(_own_values(parameters)))

    node.add_on_set_parameters_callback(validate)
    follow_set_parameters(node, apply)


def _require_live(config: NodeConfig, values: dict[str, Any]) -> None:
    """Refuse what would only count at the next configure.

    Raises:
        ConfigError: such a parameter would change.

    """
    for name, value in values.items():
        is_live = _FIELDS[name].metadata["when"] == When.LIVE
        if not is_live and value != getattr(config, name):
            msg = f"parameter {name} can change only while the node is unconfigured"
            raise ConfigError(f"{msg}; clean up first")


def _own_values(parameters: list[Parameter]) -> dict[str, Any]:
    return {p.name: _value(p) for p in parameters if p.name in _FIELDS}


def _value(parameter: Parameter) -> Any:  # noqa: ANN401 - NodeConfig checks it
    """Return a parameter's value; rclpy's lists and arrays become tuples."""
    value = parameter.value
    return tuple(value) if isinstance(value, (list, tuple, array)) else value


def _descriptor(field: Field[Any]) -> ParameterDescriptor:
    metadata = field.metadata
    descriptor = ParameterDescriptor(
        description=metadata["description"],
        read_only=metadata["when"] == When.START,
        additional_constraints="".join(
            f"one of: {', '.join(metadata['choices'])}" if metadata["choices"] else ""
        ),
    )
    if metadata["lowest"] is not None:
        lowest, highest = metadata["lowest"], metadata["highest"]
        if isinstance(field.default, (int, tuple)):
            descriptor.integer_range = [IntegerRange(from_value=lowest, to_value=highest)]
        else:
            float_range = FloatingPointRange(from_value=lowest, to_value=highest)
            descriptor.floating_point_range = [float_range]
    return descriptor
