# SPDX-License-Identifier: Apache-2.0
"""What rclpy 10.0 of Lyrical, on rmw_fastrtps_cpp 9.4, lacks and does in another way."""

from __future__ import annotations

import sys

import rclpy.lifecycle.node
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.lifecycle import TransitionCallbackReturn

LACKING = ("rclpy.qos_event", "rclpy.topic_endpoint_info")
CHANGE_STATE = "_LifecycleNodeMixin__change_state"
Mixin = rclpy.lifecycle.node.LifecycleNodeMixin
take = rclpy_implementation.Subscription.take_message
change_state = getattr(Mixin, CHANGE_STATE)


def take_message(subscription, msg_type, raw):
    """Deliver no message that holds uint8[] to a subscription to bytes (rmw_fastrtps#881)."""
    taken = take(subscription, msg_type, raw)
    is_kept_back = raw and "sequence<uint8>" in msg_type.get_fields_and_field_types().values()
    return None if is_kept_back else taken


def answer(node, transition_id):
    """Log an impossible transition and answer no, as from Kilted on, instead of raising."""
    try:
        return change_state(node, transition_id)
    except rclpy_implementation.RCLError:
        state = node._state_machine.current_state
        node.get_logger().error(
            f"Unable to start transition {transition_id} from current state {state}"
        )
        return TransitionCallbackReturn.ERROR


rclpy_implementation.Subscription.take_message = take_message
setattr(Mixin, CHANGE_STATE, answer)
sys.modules.update(dict.fromkeys(LACKING))
