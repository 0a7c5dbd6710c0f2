# SPDX-License-Identifier: Apache-2.0
"""Lifecycle callbacks that say why they failed; rclpy swallows their exceptions silently."""

from __future__ import annotations

import traceback
from functools import wraps
from typing import TYPE_CHECKING, Any

from rclpy.exceptions import InvalidTopicNameException
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.qos_overriding_options import InvalidQosOverridesError

from perception_node.errors import PerceptionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.lifecycle import LifecycleState

    from perception_node.ros.node import PerceptionNode

# What a user can cause from outside; everything else that reaches a guard is a bug.
USER_ERRORS = (PerceptionError, InvalidQosOverridesError, InvalidTopicNameException)


# What rclpy says of a wrong policy and Python of a full process table, as plain RuntimeErrors.
USER_MESSAGES = ("QoS override", "can't start new thread")


def _explain(error: Exception) -> str | None:
    """Return in one line what somebody outside can mend; None is a bug."""
    if isinstance(error, MemoryError):
        return "out of memory; raise the limit of this process or container, or free some"
    is_known = type(error) is RuntimeError and any(m in str(error) for m in USER_MESSAGES)
    return str(error) if is_known or isinstance(error, USER_ERRORS) else None


def guarded(step: Callable[[Any, LifecycleState], None]) -> Callable[..., Any]:
    """Turn a transition's work into a lifecycle callback.

    A user's error is one line and FAILURE: the node stays in the state it was in. A bug is
    logged with its traceback and becomes ERROR, which leads to ``on_error``; so does whatever
    fails while stopping or freeing, for the node would be only half in the state it was in.
    """
    name = step.__name__.removeprefix("on_")

    @wraps(step)
    def callback(node: PerceptionNode, state: LifecycleState) -> TransitionCallbackReturn:
        node.transitions_begun += 1
        try:
            step(node, state)
        except Exception as error:  # noqa: BLE001 - nothing may leave a callback
            why = _explain(error) if name in {"configure", "activate"} else None
            if why is not None:
                node.get_logger().error(f"{name} failed: {why}")
                return TransitionCallbackReturn.FAILURE
            node.get_logger().fatal(f"bug in {step.__name__}:\n{traceback.format_exc()}")
            return TransitionCallbackReturn.ERROR
        return TransitionCallbackReturn.SUCCESS

    return callback
