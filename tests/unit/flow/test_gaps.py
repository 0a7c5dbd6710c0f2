# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest

from perception_node.flow.accounts import RESTARTED, SEVERAL, UNNUMBERED, UNTOLD, Gaps


def numbered(*numbers, publishers=1):
    """Return what is known after images of these numbers were taken."""
    gaps = Gaps()
    gaps.begin()
    gaps.match(publishers, publishers)
    for number in numbers:
        gaps.follow(number)
    return gaps


@pytest.mark.parametrize(
    ("numbers", "replaced"), [([1, 2, 3], 0), ([1, 3, 4, 8], 4), ([100], 0), ([100, 102], 1)]
)
def test_numbers_that_are_missing_are_images_that_were_replaced(numbers, replaced):
    gaps = numbered(*numbers)
    assert (gaps.replaced, gaps.doubt) == (replaced, "")


def test_a_gap_of_what_was_lost_is_none_that_was_replaced():
    gaps = numbered(1, 8)
    assert gaps.replaced == 6
    gaps.lose(2)
    assert gaps.replaced == 4
    gaps.lose(7)  # their gap is still to come
    assert gaps.replaced == 0
    gaps.follow(14)
    assert (gaps.replaced, gaps.doubt) == (11 - 9, "")


def test_it_does_not_matter_when_the_publisher_is_said_to_be_there():
    gaps = Gaps()
    gaps.begin()
    gaps.follow(1)
    gaps.follow(4)
    gaps.match(1, 1)
    gaps.confirm()
    gaps.match(0, 0)  # it ends
    assert (gaps.replaced, gaps.doubt) == (2, "")


@pytest.mark.parametrize("numbers", [[7, 1, 2], [5, 5]])
def test_a_publisher_that_starts_again_leaves_a_doubt(numbers):
    gaps = numbered(1, 3, *numbers)
    assert gaps.replaced >= 1
    assert gaps.doubt == RESTARTED


@pytest.mark.parametrize("news", [[(0, 0), (1, 1)], [(1, 1)]], ids=["asked twice", "asked once"])
def test_another_publisher_has_other_numbers(news):
    gaps = numbered(1, 3)
    gaps.confirm()
    gaps.follow(900)
    gaps.follow(902)
    assert gaps.replaced == 1 + 896 + 1, "as long as it is not known to be another one"
    for publishers, newcomers in news:
        gaps.match(publishers, newcomers)
    gaps.confirm()
    assert (gaps.replaced, gaps.doubt) == (1, RESTARTED)
    gaps.follow(903)
    gaps.follow(905)
    assert gaps.replaced == 2


def test_a_publisher_that_came_and_went_before_the_first_question_is_a_restart():
    gaps = Gaps()
    gaps.begin()
    gaps.follow(5)
    gaps.follow(80)
    gaps.match(1, 2)
    assert (gaps.replaced, gaps.doubt) == (0, RESTARTED)


def test_the_numbers_of_several_publishers_are_no_gaps():
    gaps = numbered(1, 50, 2, 51, publishers=2)
    assert (gaps.replaced, gaps.doubt) == (0, SEVERAL)
    gaps.match(1, 0)
    gaps.follow(54)
    assert (gaps.replaced, gaps.doubt) == (2, SEVERAL)


def test_images_without_numbers_leave_a_doubt():
    gaps = numbered(None, None)
    assert (gaps.replaced, gaps.doubt) == (0, UNNUMBERED)


def test_a_middleware_that_does_not_tell_losses_leaves_a_doubt_once_there_is_a_gap():
    gaps = Gaps()
    gaps.tells_losses = False
    gaps.follow(1)
    gaps.follow(2)
    assert gaps.doubt == ""
    gaps.follow(4)
    assert (gaps.replaced, gaps.doubt) == (0, UNTOLD)


def test_a_new_subscription_counts_on_from_its_own_first_image():
    gaps = numbered(1, 4)
    gaps.lose(1)
    gaps.begin()
    gaps.follow(80)
    gaps.follow(82)
    assert (gaps.replaced, gaps.doubt) == (2, "")


def test_several_doubts_are_each_said_once():
    gaps = numbered(1, None, None, 0, publishers=2)
    assert gaps.doubt == f"{SEVERAL}, {UNNUMBERED}"
