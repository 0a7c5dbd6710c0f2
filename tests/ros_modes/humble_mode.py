# SPDX-License-Identifier: Apache-2.0
"""What rclpy 3.3 of Humble lacks, and what it does in another way; counts once imported."""

from __future__ import annotations

import sys
import warnings

import rclpy.lifecycle
import rclpy.parameter_client  # noqa: F401 - what rclpy itself needs of LACKING it has by now
from rclpy.impl.implementation_singleton import rclpy_implementation
from rclpy.node import Node
from rclpy.qos import QoSPresetProfiles

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that it is deprecated
    from rclpy import qos_event

LACKING = ("rclpy.clock_type", "rclpy.event_handler", "rclpy.experimental")
NUMBERS = ("publication_sequence_number", "reception_sequence_number")
take = rclpy_implementation.Subscription.take_message
publish = rclpy_implementation.Publisher.publish_raw
find_preset = QoSPresetProfiles.get_from_short_key


class SubscriptionEventCallbacks(qos_event.SubscriptionEventCallbacks):
    """Has no ``matched`` and no ``incompatible_type``."""

    def __init__(
        self,
        *,
        deadline=None,
        incompatible_qos=None,
        liveliness=None,
        message_lost=None,
        use_default_callbacks=True,
    ):
        super().__init__(
            deadline=deadline,
            incompatible_qos=incompatible_qos,
            liveliness=liveliness,
            message_lost=message_lost,
            use_default_callbacks=use_default_callbacks,
        )


def take_message(subscription, *arguments):
    """Give a message without its numbers."""
    taken = take(subscription, *arguments)
    if taken is not None:
        for number in NUMBERS:
            taken[1].pop(number, None)
    return taken


def publish_raw(publisher, message):
    """Take nothing but bytes."""
    if type(message) is not bytes:
        raise TypeError("publish_raw(): incompatible function arguments")
    publish(publisher, message)


def get_from_short_key(name):
    """Know no preset named default."""
    if name.lower() == "default":
        raise KeyError(name.upper())
    return find_preset(name)


qos_event.SubscriptionEventCallbacks = SubscriptionEventCallbacks
rclpy_implementation.Subscription.take_message = take_message
rclpy_implementation.Publisher.publish_raw = publish_raw
del Node.add_post_set_parameters_callback, Node.add_pre_set_parameters_callback
QoSPresetProfiles.get_from_short_key = get_from_short_key
sys.modules.update(dict.fromkeys(LACKING))
