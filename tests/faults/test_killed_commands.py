# SPDX-License-Identifier: Apache-2.0
"""A command that is killed leaves no node, camera or measuring process behind."""

from __future__ import annotations

import sys

import pytest

from perception_node.system.resources import find_resource
from tests.ros.harness import claim_domain
from tests.started import start_family

pytestmark = pytest.mark.ros
NODE, CAMERA = "perception_node.ros.main", "perception_node.bench.levels.camera_process"
MEASURING = "perception_node.bench.levels"
SAMPLE = find_resource("samples/photos")
COMMANDS = {
    "demo": (("demo", "--rate", "0.01"), (NODE,)),
    "replay": (("replay", SAMPLE, "--live", "--rate", "0.01"), (NODE,)),
    "hil": (("hil", "endurance", "--out", "{folder}/hil"), (NODE,)),
    "bench node": (("bench", "node", "--frames", "100000"), (NODE, CAMERA)),
    "bench engine": (("bench", "engine", "--frames", "1000000"), (MEASURING,)),
    "doctor": (("doctor",), ("perception_node.doctor.loopback_camera",)),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_no_process_outlives_a_command_that_is_killed(name, tmp_path):
    arguments, children = COMMANDS[name]
    words = [str(word).format(folder=tmp_path) for word in arguments]
    command = (sys.executable, "-m", "perception_node.cli", *words)
    with claim_domain() as domain, start_family(*command, ROS_DOMAIN_ID=str(domain)) as family:
        family.wait_for(*children, "guardian_process.py")
        family.kill()
        family.wait_until_gone()
