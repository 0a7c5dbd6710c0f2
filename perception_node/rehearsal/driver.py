# SPDX-License-Identifier: Apache-2.0
"""Whoever plays to nodes: starts them, waits until they are ready and then quiet, ends them."""

from __future__ import annotations

import math
import re
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING

from perception_node.errors import EnvironmentLacks
from perception_node.rehearsal.node_process import NO_LOG

if TYPE_CHECKING:
    from collections.abc import Callable

    from perception_node.rehearsal.listener import Listener
    from perception_node.rehearsal.node_process import Program
    from perception_node.rehearsal.player import Player

NODE = "/perception"
START_TIMEOUT_S, POLL_S = 30.0, 0.02
QUIET_S = 0.5  # no news for so long: all that will come is here
RESPAWN_DELAY_S = 2.0  # that of launch/perception.launch.py
FAILED = re.compile(r"\[ERROR\] .*: (configure|activate) failed: ")


class Driver:
    """Programs from their start to their end; each wait looks whether they still run.

    There is none where the node runs already, on this machine or another.

    Attributes:
        may_end: an end is noticed, and no error; for the time after the start.
        unexpected_ends: how often a program has ended by itself since then.

    """

    def __init__(
        self,
        *programs: Program,
        respawn: bool = False,
        poll_s: float = POLL_S,
        meanwhile: Callable[[], None] = lambda: None,
    ) -> None:
        """Prepare.

        Args:
            programs: what is started on entering, in this order.
            respawn: start it again where it may end and has ended, as the launch file does.
            poll_s: pause between two looks.
            meanwhile: called at each look; may raise.

        """
        self.may_end = False
        self.unexpected_ends = 0
        self._programs = programs
        self._respawn, self._poll_s, self._meanwhile = respawn, poll_s, meanwhile
        self._ended_s: dict[Program, float] = {}  # when an end was seen

    def __enter__(self) -> Driver:
        """Start the programs.

        Raises:
            ConfigError: a command cannot be started.

        """
        with ExitStack() as stack:
            for program in self._programs:
                stack.enter_context(program)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exception: object) -> None:
        """End them; nothing is left behind."""
        self._stack.close()

    def pause(self) -> None:
        """Let a moment pass, and look."""
        time.sleep(self._poll_s)
        self.look()

    def look(self) -> None:
        """Look at the programs.

        Raises:
            EnvironmentLacks: one has ended that may not.

        """
        for program in self._programs:
            if self.may_end:
                self._watch(program)
            else:
                program.require_alive()
        self._meanwhile()

    def wait(self, condition: Callable[[], bool], timeout_s: float = math.inf) -> bool:
        """Wait for a condition; return whether it holds in time."""
        end_s = time.monotonic() + timeout_s
        while not (holds := condition()) and time.monotonic() < end_s:
            self.pause()
        return holds

    def require(
        self,
        condition: Callable[[], bool],
        problem: str,
        timeout_s: float = START_TIMEOUT_S,
        explain: Callable[[], str] = str,
    ) -> None:
        """Wait for a condition without which nothing can go on.

        Args:
            condition: what is waited for.
            problem: what it is called if it does not hold in time.
            timeout_s: how long to wait.
            explain: says what else is known then.

        Raises:
            EnvironmentLacks: it does not hold in time, or a node says that it will not; names the
                last line of each log.

        """
        holds = False

        def is_decided() -> bool:
            nonlocal holds
            holds = condition()
            return holds or any(FAILED.search(one.last_line) for one in self._programs)

        is_early = self.wait(is_decided, timeout_s)
        if holds:
            return
        problem += "" if is_early else f" within {timeout_s:g} s"
        said = filter(None, (self.last_lines, explain()))
        raise EnvironmentLacks(": ".join((problem, "; ".join(said))))

    @property
    def last_lines(self) -> str:
        """Return the last line of each log that has one."""
        lines = [program.last_line for program in self._programs if program.log()]
        return "; ".join(lines) or (NO_LOG if self._programs else "")

    def wait_until_ready(
        self, listener: Listener, player: Player, timeout_s: float = START_TIMEOUT_S
    ) -> None:
        """Wait until the nodes are active, hear the player and are heard.

        Raises:
            EnvironmentLacks: they do not become so.

        """
        self.require(
            lambda: listener.is_matched and player.has_subscribers,
            "the node did not become active",
            timeout_s,
        )

    def wait_until_quiet(
        self,
        count: Callable[[], int],
        quiet_s: float = QUIET_S,
        *,
        timeout_s: float = math.inf,
        is_complete: Callable[[], bool] = bool,
    ) -> None:
        """Wait until all that will come has come.

        Args:
            count: how much has come.
            quiet_s: nothing new for so long: that is all.
            timeout_s: how long to wait in any case.
            is_complete: whether nothing more can come.

        """
        heard, since_s = -1, 0.0

        def is_quiet() -> bool:
            nonlocal heard, since_s
            if (now := count()) != heard:
                heard, since_s = now, time.monotonic()
            return is_complete() or time.monotonic() - since_s >= quiet_s

        self.wait(is_quiet, timeout_s)

    def kill(self) -> str:
        """Kill the program; return why that was not possible, empty if it was."""
        running = [one for one in self._programs if one not in self._ended_s]
        for program in running:
            program.kill()
            self._ended_s[program] = time.monotonic()
        return "" if running else "the process does not run"

    def end(self) -> int | None:
        """End the programs with SIGTERM; return the last one's exit code, None if none runs."""
        running = [one for one in self._programs if one not in self._ended_s]
        return [None, *(program.end() for program in running)][-1]

    def _watch(self, program: Program) -> None:
        """Notice that a program has ended, and start it again when it is time."""
        ended_s = self._ended_s.get(program)
        if ended_s is None:
            if program.exit_code is not None:
                self.unexpected_ends += 1
                self._ended_s[program] = time.monotonic()
        elif self._respawn and time.monotonic() >= ended_s + RESPAWN_DELAY_S:
            program.start()
            del self._ended_s[program]
