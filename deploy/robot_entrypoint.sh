#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Run a command with ROS sourced. It takes the place of this shell: signals reach it, its exit code counts.
set -e
# shellcheck source=/dev/null # made by ROS
source "/opt/ros/${ROS_DISTRO:?}/setup.bash" --
exec "$@"
