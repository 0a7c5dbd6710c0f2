# SPDX-License-Identifier: Apache-2.0
"""A private domain is one that nothing else on this machine uses."""

from __future__ import annotations

import os
import socket

import pytest

from perception_node.errors import EnvironmentLacks
from perception_node.rehearsal import domain
from perception_node.rehearsal.domain import claim_domain, private_domain

FREE = (197, 198, 199)  # tests that run beside this one use lower ones
DDS_PORT = 7400 + 250 * 198 + 10  # a participant's, OMG DDSI-RTPS 9.6.1.1


@pytest.fixture
def _no_ports(monkeypatch, tmp_path):
    """As where the kernel has no table of ports: nothing on this machine disturbs."""
    monkeypatch.setattr(domain, "OPEN_PORTS", tmp_path / "none")


@pytest.mark.usefixtures("_no_ports")
def test_a_domain_is_given_to_one_only_until_it_is_released():
    first, claim = claim_domain(FREE)
    with claim:
        second, other = claim_domain(FREE)
        other.close()
    assert first != second
    again, claim = claim_domain([first])
    claim.close()
    assert again == first


def test_a_domain_in_which_somebody_takes_part_is_left_alone():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as participant:
        participant.bind(("127.0.0.1", DDS_PORT))
        with pytest.raises(EnvironmentLacks, match="every private ROS domain is in use"):
            claim_domain([198])


def test_what_the_user_has_set_stays(monkeypatch):
    pytest.importorskip("rclpy")
    monkeypatch.setenv("ROS_DOMAIN_ID", "5")
    with private_domain():
        assert os.environ["ROS_DOMAIN_ID"] == "5"


@pytest.mark.usefixtures("_no_ports")
def test_two_private_domains_at_once_are_different_ones(monkeypatch):
    pytest.importorskip("rclpy")
    monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)
    monkeypatch.setattr(domain.random, "sample", lambda numbers, count: list(numbers)[:count])
    with private_domain():
        first = os.environ.pop("ROS_DOMAIN_ID")
        with private_domain():
            assert os.environ["ROS_DOMAIN_ID"] != first
    assert "ROS_DOMAIN_ID" not in os.environ
