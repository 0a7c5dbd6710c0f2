# SPDX-License-Identifier: Apache-2.0
"""A node's thread ends without a race, whatever its executor is doing."""

from __future__ import annotations

import sys
import threading

import pytest
import rclpy
from rclpy.executors import SingleThreadedExecutor
from std_msgs.msg import String

from perception_node.ros.spinning import SpinningThread
from tests.ros.harness import DEADLINE_S, open_context, wait_for

ROUNDS = 300
BUSY_PERIOD_S = 0.0001
SWITCH_INTERVAL_S = 1e-5  # with it, ending by Executor.shutdown hangs or fails within few rounds


@pytest.fixture
def context(domain):
    with open_context(domain) as opened:
        yield opened


@pytest.fixture
def node(context):
    options = {"start_parameter_services": False, "enable_rosout": False}
    node = rclpy.create_node("spun", context=context, **options)
    yield node
    node.destroy_node()


@pytest.fixture
def _frequent_switches():
    before_s = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    yield
    sys.setswitchinterval(before_s)


def spinning_threads():
    return [thread for thread in threading.enumerate() if thread.name == "spun"]


def require_return(function):
    """Call a function that must not hang."""
    calling = threading.Thread(target=function, daemon=True)
    calling.start()
    calling.join(DEADLINE_S)
    assert not calling.is_alive()


def test_a_node_without_anything_to_do_ends(node):
    thread = SpinningThread(node, "spun")
    thread.start()
    require_return(thread.stop)
    assert spinning_threads() == []


@pytest.mark.usefixtures("_frequent_switches")
def test_a_busy_node_ends_without_an_error(node):
    failures, rounds = [], []

    def start_and_stop_again_and_again():
        for _ in range(ROUNDS):
            is_called = threading.Event()
            timer = node.create_timer(BUSY_PERIOD_S, is_called.set)
            thread = SpinningThread(node, "spun", failures.append)
            thread.start()
            rounds.append(is_called.wait(DEADLINE_S))
            thread.stop()
            node.destroy_timer(timer)

    require_return(start_and_stop_again_and_again)
    assert rounds == [True] * ROUNDS
    assert failures == []
    assert spinning_threads() == []


def test_what_a_callback_raises_is_said_once_and_survived(node):
    said, calls = [], []

    def fail():
        calls.append(1)
        raise ValueError("a bug in a callback")

    node.create_timer(BUSY_PERIOD_S, fail)
    thread = SpinningThread(node, "spun", said.append)
    thread.start()
    wait_for(lambda: len(calls) > 3, lambda: "further calls")
    require_return(thread.stop)
    (line,) = said
    assert "survived ValueError: a bug in a callback (test_spinning.py:" in line


def test_a_message_that_cannot_be_taken_is_said_and_survived(node, monkeypatch):
    said, heard, faults = [], [], [UnicodeDecodeError("utf-8", b"x", 0, 1, "a fault")]
    take = SingleThreadedExecutor._take_subscription

    def fail_once(executor, subscription):
        taken = take(executor, subscription)
        if faults:
            raise faults.pop()
        return taken

    monkeypatch.setattr(SingleThreadedExecutor, "_take_subscription", fail_once)
    node.create_subscription(String, "/words", lambda message: heard.append(message.data), 10)
    publisher = node.create_publisher(String, "/words", 10)
    thread = SpinningThread(node, "spun", said.append)
    thread.start()
    wait_for(publisher.get_subscription_count, lambda: "the subscription")
    publisher.publish(String(data="lost"))
    wait_for(lambda: said, lambda: "a line")
    publisher.publish(String(data="good"))
    wait_for(lambda: heard, lambda: "the next message")
    require_return(thread.stop)
    assert heard == ["good"]
    (line,) = said
    assert line.startswith("/words: survived UnicodeDecodeError: ")


def test_a_context_that_others_shut_down_ends_the_thread(context, node):
    failures = []
    thread = SpinningThread(node, "spun", failures.append)
    thread.start()
    context.shutdown()
    wait_for(lambda: not spinning_threads(), lambda: "the end of the thread")
    thread.stop()
    assert failures == []
