# SPDX-License-Identifier: Apache-2.0
"""Bytes from outside: messages, the images in them, bags. It needs no ROS."""
