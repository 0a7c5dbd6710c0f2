# SPDX-License-Identifier: Apache-2.0
"""QoS profiles by name, with depth, history and reliability open to override."""

from __future__ import annotations

from copy import copy
from typing import TYPE_CHECKING

from rcl_interfaces.msg import SetParametersResult
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSPresetProfiles, QoSProfile
from rclpy.qos_overriding_options import QoSOverridingOptions

if TYPE_CHECKING:
    from perception_node.config.sections import QosName

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)


def image_qos(name: QosName) -> QoSProfile:
    """Return the named profile with depth 1: an older frame than the newest is worth nothing."""
    profile = named_qos(name)
    profile.history = HistoryPolicy.KEEP_LAST
    profile.depth = 1
    return profile


def named_qos(name: QosName) -> QoSProfile:
    """Return a preset profile by its name, as a copy: overrides are written into it."""
    if name == "default":  # Humble has no preset of it
        return QoSProfile(depth=10)
    profile: QoSProfile = copy(QoSPresetProfiles.get_from_short_key(name))
    return profile


def image_overrides() -> QoSOverridingOptions:
    """Allow overrides as ``qos_overrides.<topic>.subscription.<policy>``, but no queue."""
    return QoSOverridingOptions.with_default_policies(callback=_require_keep_last_one)


def _require_keep_last_one(profile: QoSProfile) -> SetParametersResult:
    is_bounded = profile.history == HistoryPolicy.KEEP_LAST and profile.depth == 1
    reason = "" if is_bounded else "the image subscription keeps the last 1 frame, never a queue"
    return SetParametersResult(successful=is_bounded, reason=reason)
