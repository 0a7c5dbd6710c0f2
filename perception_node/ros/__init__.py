# SPDX-License-Identifier: Apache-2.0
"""The border to ROS: what knows rclpy and message types."""
