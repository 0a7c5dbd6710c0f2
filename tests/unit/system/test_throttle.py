# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import time

from perception_node.system.throttle import Throttle


def test_one_line_per_period_and_subject():
    now = [0.0]
    throttle = Throttle(5.0, lambda: now[0])
    assert throttle.is_due("codec")
    assert not throttle.is_due("codec")
    now[0] = 4.999
    assert not throttle.is_due("codec")
    assert throttle.is_due("stamp")
    now[0] = 5.0
    assert throttle.is_due("codec")
    assert not throttle.is_due("codec")
    assert not throttle.is_due("stamp")
    now[0] = 9.999
    assert not throttle.is_due("codec")
    assert throttle.is_due("stamp")


def test_the_first_line_is_due_whatever_the_clock_says():
    assert Throttle(5.0, lambda: -100.0).is_due("codec")
    assert Throttle(5.0, lambda: 0.0).is_due("codec")


def test_the_clock_runs_by_itself():
    throttle = Throttle(0.02)
    assert throttle.is_due("codec")
    time.sleep(0.03)
    assert throttle.is_due("codec")
    assert Throttle(60.0).is_due("codec")
