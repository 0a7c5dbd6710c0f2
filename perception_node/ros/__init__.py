# SPDX-License-Identifier: Apache-2.0
"""The border to ROS: rclpy and message types."""
