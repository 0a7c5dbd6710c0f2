# SPDX-License-Identifier: Apache-2.0
"""Lifecycle transitions that are answered, and say why they failed, whatever happens.

rclpy swallows the exceptions of their callbacks silently, and raises where a transition is not
possible in the present state.
"""

from __future__ import annotations

import traceback
from functools import wraps
from typing import TYPE_CHECKING, Any

from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.exceptions import InvalidTopicNameException
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.qos_overriding_options import InvalidQosOverridesError

from perception_node.errors import PerceptionError
from perception_node.ros.compat import RCLError

if TYPE_CHECKING:
    from collections.abc import Callable

    from rclpy.lifecycle import LifecycleState

    from perception_node.ros.node import PerceptionNode

# What a user can cause from outside; everything else that reaches a guard is a bug.
USER_ERRORS = (PerceptionError, InvalidQosOverridesError, InvalidTopicNameException)


# What rclpy says of a wrong policy and Python of a full process table, as plain RuntimeErrors.
USER_MESSAGES = ("QoS override", "can't start new thread")
TRANSITIONS = {
    Transition.TRANSITION_CONFIGURE: "configure",
    Transition.TRANSITION_CLEANUP: "cleanup",
    Transition.TRANSITION_ACTIVATE: "activate",
    Transition.TRANSITION_DEACTIVATE: "deactivate",
}


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


def answer_impossible_transitions(node: PerceptionNode) -> None:
    """Answer no to a transition that the present state does not allow, and say so.

    Up to Jazzy rclpy raises, whoever asked waits for ever, and EventsExecutor leaves requests that
    came at the same time lying until others come. From Kilted on it answers no itself.
    """
    (service,) = (one for one in node.services if one.srv_type is ChangeState)
    change_state = service.callback

    def answer(
        request: ChangeState.Request, response: ChangeState.Response
    ) -> ChangeState.Response:
        begun = node.transitions_begun
        try:
            response = change_state(request, response)
        except RCLError:
            response.success = False
        if not response.success and node.transitions_begun == begun:
            number = request.transition.id
            name = request.transition.label or TRANSITIONS.get(number, f"transition {number}")
            node.get_logger().warning(
                f"{name} refused: not possible in this state; see ros2 lifecycle list"
            )
        return response

    service.callback = answer
