# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perception_node.errors import ConfigError
from perception_node.replay.tolerance import PARSERS, Tolerance, parse_tolerance

CHOICES = st.sampled_from(["exact", "ignore"])


def test_a_number_is_the_tolerance_of_the_scores():
    assert parse_tolerance("0.5") == Tolerance(score=0.5)
    assert parse_tolerance("score=0.5") == Tolerance(score=0.5)
    assert parse_tolerance("1e-5").score == 1e-5


def test_fields_are_read():
    text = "score=0.1, order=exact,top=3,topic=ignore,time=ignore,stamp=exact,dropped=ignore"
    assert parse_tolerance(text) == Tolerance(
        score=0.1, order="exact", top=3, topic="ignore", time="ignore", dropped="ignore"
    )


def test_the_fields_that_must_be_equal():
    assert Tolerance().identity == ("topic", "time_ns", "stamp_ns", "frame_id")
    assert parse_tolerance("time=ignore,frame_id=ignore").identity == ("topic", "stamp_ns")


@given(
    st.builds(
        Tolerance,
        score=st.floats(0.0, 1.0),
        order=st.sampled_from(["exact", "close"]),
        top=st.integers(0, 1000),
        topic=CHOICES,
        time=CHOICES,
        stamp=CHOICES,
        frame_id=CHOICES,
        dropped=CHOICES,
    )
)
def test_what_is_written_is_read_again(tolerance):
    assert parse_tolerance(str(tolerance)) == tolerance


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "score must be a number from 0 to 1, found ''"),
        ("nan", "score must be a number from 0 to 1, found 'nan'"),
        ("-0.1", "score must be a number"),
        ("score=2", "score must be a number"),
        ("score", "score must be a number"),
        ("colour=1", f"no field 'colour'; choose from: {', '.join(PARSERS)}"),
        ("top=0", "top must be a number from 1 on, found '0'"),
        ("top=\N{SUPERSCRIPT TWO}", "top must be a number from 1 on"),
        ("top=1,", "no field ''"),
        ("stamp=no", "stamp must be exact or ignore, found 'no'"),
        ("order=ignore", "order must be close or exact, found 'ignore'"),
        ("top=1,top=2", "top is given twice"),
        ("top=1\nstamp=ignore", "top must be a number from 1 on, found '1\\nstamp=ignore'"),
    ],
)
def test_what_makes_no_sense_is_one_line(text, words):
    with pytest.raises(ConfigError) as caught:
        parse_tolerance(text)
    assert str(caught.value).startswith("--tolerance: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
