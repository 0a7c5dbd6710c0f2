# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from perception_node.errors import ConfigError
from perception_node.serving.settings import RANGES, ServerSettings


@pytest.mark.parametrize("name", RANGES)
def test_what_is_out_of_range_is_named_as_the_option(name):
    lowest, highest = RANGES[name]
    for value in (lowest, highest):
        assert getattr(ServerSettings(**{name: value}), name) == value
    option = name.removesuffix("_s").replace("_", "-")
    for value in (lowest - 1, highest + 1):
        with pytest.raises(ConfigError, match=f"--{option}: from {lowest} to .*, found {value}"):
            ServerSettings(**{name: value})


@pytest.mark.parametrize("origin", ["*", "https://a.example", "http://[::1]:80", "http://a:1"])
def test_origins_are_written_as_browsers_send_them(origin):
    assert ServerSettings(cors_origins=(origin,)).cors_origins == (origin,)


@pytest.mark.parametrize(
    "origin", ["", "a.example", "https://a.example/", "https://a.example/x", "null", "https://*\n"]
)
def test_what_can_never_be_an_origin_is_refused(origin):
    with pytest.raises(ConfigError, match="--cors-origin: such as"):
        ServerSettings(cors_origins=(origin,))


@pytest.mark.parametrize("name", ["", "http://a", "a:80", "a/b", "a b", "*.a"])
def test_what_can_never_be_a_host_is_refused(name):
    with pytest.raises(ConfigError, match="--trusted-host: such as"):
        ServerSettings(trusted_hosts=("robot.local", name))


@pytest.mark.parametrize(
    ("host", "is_loopback"),
    [
        ("localhost", True),
        ("LocalHost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("127.1", True),
        ("2130706433", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.2", False),
        ("robot.local", False),
        ("", False),
    ],
)
def test_only_loopback_is_this_machine_alone(host, is_loopback):
    settings = ServerSettings(host=host)
    assert settings.is_loopback == is_loopback
    assert (settings.answered_hosts is not None) == is_loopback


def test_names_that_were_given_are_answered_beside_those_of_loopback():
    names = ServerSettings(trusted_hosts=("robot.local",)).answered_hosts
    assert set(names) == {"localhost", "127.0.0.1", "[::1]", "robot.local"}
    elsewhere = ServerSettings(host="10.0.0.1", trusted_hosts=("robot.local",))
    assert set(elsewhere.answered_hosts) == {*names, "10.0.0.1"}


@pytest.mark.parametrize(
    ("host", "name"), [("127.9.9.9", "127.9.9.9"), ("::1", "[::1]"), ("[::1]", "[::1]")]
)
def test_the_address_itself_is_answered(host, name):
    settings = ServerSettings(host=host)
    assert settings.url_host == name
    assert name in settings.answered_hosts


def test_there_is_a_thread_for_every_place_and_some_for_refusals():
    settings = ServerSettings(queue=3, viewers=2)
    assert settings.threads > 3 + 2
    assert settings.max_body_bytes == 16 * 1024 * 1024
