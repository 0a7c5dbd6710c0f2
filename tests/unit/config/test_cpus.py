# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.config.cpus import MAX_CPUS, parse_cpus
from perception_node.errors import ConfigError
from perception_node.system.threads import format_cpus


@pytest.mark.parametrize(
    ("text", "cpus"),
    [
        ("", ()),
        (" ", ()),
        ("0", (0,)),
        ("0,2-3", (0, 2, 3)),
        (" 2-3 , 0", (0, 2, 3)),
        ("1,1-1,0-2", (0, 1, 2)),
        ("8191", (8191,)),
    ],
)
def test_lists_of_cpus_are_read(text, cpus):
    assert parse_cpus(text) == cpus


@pytest.mark.parametrize(
    "text",
    [
        ",",
        "0,",
        "3-2",
        "-1",
        "1-",
        "0-2-4",
        "a",
        "0x1",
        "1.0",
        "0 1",
        "8192",
        "0-8192",
        "\u0663",
        "all",
        "0\n1",
        "9" * 5000,
    ],
)
def test_nonsense_is_a_config_error_of_one_short_line(text):
    with pytest.raises(ConfigError) as caught:
        parse_cpus(text, "parameter worker_cpus")
    message = str(caught.value)
    assert message.startswith("parameter worker_cpus must be like 0,2-3 with numbers below 8192")
    assert "\n" not in message
    assert len(message) < 150


@pytest.mark.parametrize("text", ["0-4000000000", "4000000000", "0-" + "9" * 4000])
def test_huge_numbers_take_no_memory(text):
    tracemalloc.start()
    try:
        with pytest.raises(ConfigError):
            parse_cpus(text)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@given(st.sets(st.integers(0, MAX_CPUS - 1), max_size=50) | st.sets(st.integers(0, 9)))
def test_what_is_written_is_read_back(cpus):
    assert parse_cpus(format_cpus(cpus)) == tuple(sorted(cpus))


@given(st.text("0123456789,- ", max_size=12) | st.text(max_size=8))
def test_any_text_is_cpus_or_a_config_error(text):
    try:
        cpus = parse_cpus(text)
    except ConfigError:
        return
    assert list(cpus) == sorted(set(cpus))
    assert all(0 <= cpu < MAX_CPUS for cpu in cpus)
    assert bool(cpus) == bool(text.strip())
