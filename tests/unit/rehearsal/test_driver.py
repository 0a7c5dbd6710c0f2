# SPDX-License-Identifier: Apache-2.0
"""Programs are started, waited for, watched, killed, started again and ended; nothing is left."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from perception_node.errors import ConfigError, EnvironmentLacks
from perception_node.rehearsal import driver
from perception_node.rehearsal.driver import Driver
from perception_node.rehearsal.node_process import Program

SLEEP = "import time; print('here I am', flush=True); time.sleep(600)"
FAIL = SLEEP.replace("here I am", "[ERROR] [1.0] [perception]: configure failed: no model")
LONG_S = 30.0


def program(code):
    return Program([sys.executable, "-c", code])


def has_said(one, words="here"):
    return lambda: any(words in line for line in one.log())


def test_a_program_runs_until_it_is_left():
    sleeper = program(SLEEP)
    with Driver(sleeper) as running:
        running.require(has_said(sleeper), "it says nothing", LONG_S)
        process = Path("/proc") / str(sleeper.pid)
        assert process.exists()
    assert not process.exists()
    assert sleeper.last_line == "here I am"  # also after its end


def test_what_does_not_come_is_an_error_with_the_last_line_and_what_is_known():
    sleeper = program(SLEEP)
    with Driver(sleeper) as running:
        running.wait(has_said(sleeper), LONG_S)
        with pytest.raises(EnvironmentLacks) as caught:
            running.require(bool, "it is not ready", 0.1, lambda: "nobody is there")
    assert str(caught.value) == "it is not ready within 0.1 s: here I am; nobody is there"


def test_a_node_that_says_that_it_fails_is_not_waited_for():
    begin_s = time.monotonic()
    with (
        Driver(program(FAIL)) as running,
        pytest.raises(EnvironmentLacks, match="configure failed: no model"),
    ):
        running.require(bool, "it is not ready", LONG_S)
    assert time.monotonic() - begin_s < LONG_S


def test_an_early_end_is_an_error_with_its_code():
    with (
        Driver(program("raise SystemExit('no GPU')")) as running,
        pytest.raises(EnvironmentLacks, match="ended with code 1: no GPU"),
    ):
        running.wait(bool, LONG_S)


def test_an_end_that_may_be_is_counted_and_the_program_starts_again(monkeypatch):
    monkeypatch.setattr(driver, "RESPAWN_DELAY_S", 0.1)
    sleeper = program(SLEEP)
    with Driver(sleeper, respawn=True) as running:
        running.require(has_said(sleeper), "it says nothing", LONG_S)
        running.may_end = True
        sleeper.kill()
        assert running.wait(lambda: sleeper.log().count("here I am") == 2, LONG_S)
        assert running.unexpected_ends == 1
        assert running.kill() == ""
        assert running.kill() == "the process does not run"
        assert running.end() is None
        assert running.wait(lambda: sleeper.log().count("here I am") == 3, LONG_S)
        assert running.unexpected_ends == 1  # we have killed it ourselves
        assert running.end() == -15


def test_nothing_is_ours_where_the_node_runs_already():
    with Driver() as running:
        assert running.kill() == "the process does not run"
        assert running.end() is None
        with pytest.raises(EnvironmentLacks, match="nobody answers within 0 s: see there"):
            running.require(bool, "nobody answers", 0.0, lambda: "see there")


def test_a_command_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match="no_such_program cannot be started: No such file"):
        Driver(Program(["no_such_program"])).__enter__()


def test_if_one_program_does_not_start_the_others_end():
    sleeper = program(SLEEP)
    with pytest.raises(ConfigError):
        Driver(sleeper, Program(["no_such_program"])).__enter__()
    assert sleeper.exit_code is not None


@pytest.mark.parametrize(
    ("numbers", "quiet_s", "last"), [((1, 2, 3, 3, 3, 3, 3), 0.05, 3), ((1, 1, 1, 9), 0.0, 1)]
)
def test_quiet_is_when_nothing_new_has_come_for_so_long(numbers, quiet_s, last):
    heard = iter([*numbers, *[last] * 10_000])
    now = [0]

    def count():
        now[0] = next(heard)
        return now[0]

    with Driver() as running:
        running.wait_until_quiet(count, quiet_s)
    assert now[0] == last


def test_whoever_has_all_does_not_wait():
    begin_s = time.monotonic()
    with Driver() as running:
        running.wait_until_quiet(lambda: 5, LONG_S, is_complete=lambda: True)
        running.wait_until_quiet(lambda: 5, LONG_S, timeout_s=0.1)
    assert time.monotonic() - begin_s < LONG_S
