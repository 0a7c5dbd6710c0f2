# SPDX-License-Identifier: Apache-2.0
"""Who shares a context and who frees it; ``test_pycuda_driver.py`` does it with PyCUDA."""

from __future__ import annotations

import threading

import pytest

from perception_node.engines.tensorrt.cuda import context
from tests.fake_cuda.fake_driver import build_driver, compiler

pytestmark = pytest.mark.skipif(compiler() is None, reason="no C compiler for the fake driver")


class Driver:
    """The names of ``pycuda.driver`` that are used, with a stack per thread."""

    def __init__(self):
        self.stacks = {}  # by thread
        self.events = []
        self.Context = self  # pop() is a static method there

    def Device(self, index):  # noqa: N802 - PyCUDA's name
        self.events.append(f"device {index}")
        return self

    def retain_primary_context(self):
        return self

    def push(self):
        self.stack.append(self)

    def pop(self):
        self.stack.pop()

    def detach(self):
        self.events.append("detached")

    @property
    def stack(self):
        return self.stacks.setdefault(threading.get_ident(), [])


@pytest.fixture
def driver(monkeypatch):
    monkeypatch.setattr(context, "DRIVER", str(build_driver()))
    return Driver()


def test_users_on_one_thread_share_one_entry_and_the_last_frees_it(driver):
    for _ in range(2):
        context.enter_primary_context(driver)
    assert len(driver.stack) == 1
    context.leave_primary_context()
    assert len(driver.stack) == 1
    context.leave_primary_context()
    assert driver.stack == []
    assert driver.events == ["device 0", "detached"]


def test_a_context_that_is_abandoned_is_never_freed(driver):
    context.enter_primary_context(driver)
    context.abandon_primary_context()
    assert driver.stack == []
    assert driver.events == ["device 0"]


def test_a_thread_that_forgets_its_context_leaves_an_empty_stack(driver):
    stacks = []

    def forget():
        context.enter_primary_context(driver)
        stacks.append(driver.stack)
        assert len(driver.stack) == 1

    thread = threading.Thread(target=forget)
    thread.start()
    thread.join()
    assert stacks == [[]]
    assert driver.events == ["device 0"]


def test_threads_do_not_share_entries(driver):
    context.enter_primary_context(driver)
    thread = threading.Thread(target=context.enter_primary_context, args=(driver,))
    thread.start()
    thread.join()
    assert driver.events == ["device 0"] * 2
    context.leave_primary_context()
    assert driver.stack == []


def test_a_gpu_that_cannot_be_entered_leaves_nothing_behind(driver):
    def fail():
        raise ValueError

    driver.retain_primary_context = fail
    with pytest.raises(ValueError):
        context.enter_primary_context(driver)
    with pytest.raises(RuntimeError):
        context.leave_primary_context()
