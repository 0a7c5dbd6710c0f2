# SPDX-License-Identifier: Apache-2.0
"""Every request of the node's services is answered, whatever it holds.

rclpy raises for some of them; who asked would wait for ever.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from lifecycle_msgs.srv import ChangeState
from rcl_interfaces.msg import SetParametersResult
from rcl_interfaces.srv import SetParameters, SetParametersAtomically

from perception_node.errors import ConfigError, quote
from perception_node.ros.outputs import LOG_PERIOD_S
from perception_node.ros.survival import describe
from perception_node.system.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rcl_interfaces.msg import Parameter
    from rclpy.node import Node
    from rosgraph_msgs.msg import Clock

    from perception_node.untyped import Message

MOST_AT_ONCE = 200  # parameters in a request; the node has a quarter of it. DDS keeps 1000 answers
TYPE_HASH = re.compile(r"RIHS01_[0-9a-f]{64}")
MOST_CHARACTERS = 300  # of a reason
SECOND_NS = 1_000_000_000


def answer_every_request(node: Node) -> None:
    """Answer also what rclpy raises for; changing the lifecycle's state is not meant."""
    throttle = Throttle(LOG_PERIOD_S)

    def complain(service: str, error: Exception) -> None:
        if throttle.is_due(service):
            node.get_logger().warning(f"{service}: answered with nothing: {describe(error)}")

    for service in node.services:
        if service.srv_type is SetParameters:
            service.callback = _set_each(service.callback)
        elif service.srv_type is SetParametersAtomically:
            service.callback = _set_all(service.callback)
        elif service.srv_name.endswith("/get_type_description"):  # not on Humble, nor its types
            service.callback = _describe_type(service.callback)
        elif service.srv_type is not ChangeState:
            service.callback = _answer(service.callback, service.srv_name, complain)


def _set_each(set_parameters: Callable[..., Any]) -> Callable[..., Any]:
    """Say for each parameter of a request why it cannot be set."""

    def answer(request: Message, response: Message) -> Message:
        if len(request.parameters) > MOST_AT_ONCE:
            response.results = [_too_many(request)] * MOST_AT_ONCE
            return response
        for parameter in request.parameters:
            alone = SetParameters.Request(parameters=[parameter])
            try:
                _require_names([parameter])
                (result,) = set_parameters(alone, SetParameters.Response()).results
            except Exception as error:  # noqa: BLE001 - whatever somebody has sent
                result = _refuse(parameter.name, error)
            response.results.append(_shorten(result))
        return response

    return answer


def _set_all(set_parameters: Callable[..., Any]) -> Callable[..., Any]:
    def answer(request: Message, response: Message) -> Message:
        if len(request.parameters) > MOST_AT_ONCE:
            response.result = _too_many(request)
            return response
        try:
            _require_names(request.parameters)
            response = set_parameters(request, response)
        except Exception as error:  # noqa: BLE001 - whatever somebody has sent
            names = [parameter.name for parameter in request.parameters]
            response.result = _refuse(", ".join(names), error)
        _shorten(response.result)
        return response

    return answer


def _describe_type(get_type_description: Callable[..., Any]) -> Callable[..., Any]:
    """Refuse what is no hash of a type; rcl would write it into the log each time."""

    def answer(request: Message, response: Message) -> Message:
        if TYPE_HASH.fullmatch(request.type_hash):
            return get_type_description(request, response)
        response.failure_reason = "type_hash is not the hash of a type"
        return response

    return answer


def _answer(
    callback: Callable[..., Any], name: str, complain: Callable[[str, Exception], None]
) -> Callable[..., Any]:
    """Answer with nothing where there is no answer, as rclpy does for unknown names."""

    def answer(request: Message, response: Message) -> Message:
        asked = getattr(request, "names", None) or getattr(request, "prefixes", None) or ()
        empty = type(response)()
        try:
            return callback(request, response) if len(asked) <= MOST_AT_ONCE else empty
        except Exception as error:  # noqa: BLE001 - whatever somebody has sent
            complain(name, error)
            return empty

    return answer


def _require_names(parameters: Sequence[Parameter]) -> None:
    """Raise for a parameter without a name; rclpy would make one."""
    if not all(parameter.name for parameter in parameters):
        msg = "it has no name"
        raise ConfigError(msg)


def _shorten(result: SetParametersResult) -> SetParametersResult:
    """Cut a reason that quotes all that was sent."""
    if len(result.reason) > MOST_CHARACTERS:
        result.reason = result.reason[:MOST_CHARACTERS] + "..."
    return result


def _refuse(name: str, error: Exception) -> SetParametersResult:
    reason = f"parameter {quote(name)} cannot be set: {describe(error)}"
    return SetParametersResult(successful=False, reason=reason)


def _too_many(request: Message) -> SetParametersResult:
    reason = f"{len(request.parameters)} parameters in one request, at most {MOST_AT_ONCE}"
    return SetParametersResult(successful=False, reason=reason)


def only_times(node: Node, set_time: Callable[[Clock], None]) -> Callable[[Clock], None]:
    """Return a callback for /clock that ignores what is no time, and says so."""
    throttle = Throttle(LOG_PERIOD_S)

    def hear(message: Clock) -> None:
        clock = message.clock
        if clock.sec >= 0 and clock.nanosec < SECOND_NS:
            set_time(message)
        elif throttle.is_due("clock"):
            node.get_logger().warning(
                f"/clock: {clock.sec} s {clock.nanosec} ns is not a time and was ignored; "
                "sec must be >= 0 and nanosec < 1000000000"
            )

    return hear
