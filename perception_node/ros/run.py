# SPDX-License-Identifier: Apache-2.0
"""Set up the process, spin the node in a thread, and end cleanly whatever happens.

The main thread only waits for a signal. rclpy's own handlers would shut its context down at
once, and the node could neither finish its frame nor say a last word.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import traceback

import rclpy
from rclpy.executors import ExternalShutdownException
from rclpy.logging import get_logger

from perception_node.engines.loading import is_stuck
from perception_node.errors import PerceptionError
from perception_node.ros.node import PerceptionNode
from perception_node.ros.session import initialise
from perception_node.ros.survival import make_executor
from perception_node.ros.transport import use_large_frames
from perception_node.system.process import (
    keep_large_blocks,
    require_address_space,
    use_one_opencv_thread,
)
from perception_node.system.realtime import name_thread
from perception_node.system.signals import StopEvent, ignore_signals

EXIT_OK, EXIT_BUG, EXIT_WRONG_INPUT = 0, 1, 2
EXIT_GIVEN_UP = EXIT_BUG  # whatever starts processes again looks for a failure
PATIENCE_S, JOIN_TIMEOUT_S = 0.5, 1.0
ADDRESS_SPACE_BYTES = 256 << 20  # with less Fast DDS waits for ever for a thread it cannot start


def run(args: list[str] | None) -> int:
    """Run one node; see ``main.main`` for the exit codes."""
    keep_large_blocks()
    use_one_opencv_thread()
    use_large_frames()
    stop = StopEvent()
    try:
        require_address_space(ADDRESS_SPACE_BYTES)
        initialise(args)
        node = PerceptionNode()
        spinner = Spinner(node, stop)
    except PerceptionError as error:
        get_logger("perception").fatal(str(error))
        return EXIT_WRONG_INPUT
    spinner.start()
    stop.wait()
    ignore_signals()
    exit_code = spinner.end()
    node.release()
    node.log_accounts()
    node.destroy_node()
    rclpy.try_shutdown()
    if node.is_given_up or is_stuck():  # what hangs would abort the process
        sys.stderr.flush()
        os._exit(exit_code)
    return exit_code


class Spinner:
    """Runs the node's executor in a thread until it is told to end."""

    def __init__(self, node: PerceptionNode, stop: StopEvent) -> None:
        """Prepare; raises ``ConfigError`` where rclpy lacks the executor that is asked for."""
        self._node = node
        self._stop = stop
        self._executor = make_executor(node.get_logger().warning)
        self._thread = threading.Thread(target=self._run, name="perception-executor", daemon=True)
        self._exit_code = EXIT_OK

    def start(self) -> None:
        """Start the thread."""
        self._executor.add_node(self._node)
        self._thread.start()

    def end(self) -> int:
        """Stop spinning and return the process's exit code; do not wait for a hung callback."""
        self._executor.create_task(self._stop.set)  # makes it return; see SpinningThread
        self._thread.join(PATIENCE_S)
        if self._thread.is_alive():
            self._node.interrupt()
            self._thread.join(JOIN_TIMEOUT_S)
        if self._thread.is_alive():
            self._node.get_logger().error("a callback hangs; the process ends without it")
            self._node.log_accounts()
            sys.stderr.flush()
            os._exit(EXIT_OK)
        self._executor.shutdown()
        return self._exit_code

    def _run(self) -> None:
        name_thread("perc-executor")
        try:
            if self._node.config.model.autostart:
                self._executor.create_task(self._node.transitions.start)
            while not self._stop.is_set() and rclpy.ok() and not self._node.is_given_up:
                self._executor.spin_once()
            if self._node.is_given_up:
                self._exit_code = EXIT_GIVEN_UP
            self._give_up_loading()
        except ExternalShutdownException:
            pass
        except Exception:  # noqa: BLE001 - the process ends; respawn starts a fresh one
            self._node.get_logger().fatal(f"bug in a callback:\n{traceback.format_exc()}")
            self._exit_code = EXIT_BUG
        finally:
            self._stop.set()

    def _give_up_loading(self) -> None:
        """Let a configuring that is under way fail, so that who asked for it has an answer."""
        self._node.loading.give_up("the process ends")
        end_s = time.monotonic() + PATIENCE_S
        while self._node.transitions.is_configuring and time.monotonic() < end_s:
            self._executor.spin_once(timeout_sec=PATIENCE_S)
