# SPDX-License-Identifier: Apache-2.0
"""One run of the node level: start three processes, read what they say, end them."""

from __future__ import annotations

import re
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from perception_node.bench.levels.frame_join import FrameJoin
from perception_node.bench.levels.frame_records import GRAPH, MATCHED, READY, take_heard, take_sent
from perception_node.bench.levels.node_run import Looks, make_run
from perception_node.bench.process_watch import read_stolen_time, read_usage
from perception_node.errors import EnvironmentLacks

if TYPE_CHECKING:
    from collections.abc import Callable

    from perception_node.bench.camera.load import Load
    from perception_node.bench.levels.child_process import ChildProcess
    from perception_node.bench.process_watch import WatchedNode
    from perception_node.bench.reporting.measurement import Run
    from perception_node.bench.reporting.progress import Progress

FAILED = re.compile(r"\[ERROR\] .*: (configure|activate) failed: ")
START_TIMEOUT_S = 30.0
ANSWER_TIMEOUT_S = 10.0  # from the first frame to the first word of the subject
SILENT_CAMERA_S = 10.0
QUIET_S, LAST_RESULT_TIMEOUT_S = 0.5, 5.0  # no news for so long and more: all results are here
GRAPH_TIMEOUT_S = 2.0
POLL_S, PROGRESS_PERIOD_S = 0.05, 0.25


class RunInterrupted(KeyboardInterrupt):
    """Ctrl-C; all processes have ended.

    Attributes:
        run: what was measured so far; None if that is nothing.

    """

    def __init__(self, run: Run | None) -> None:
        super().__init__()
        self.run = run


class Processes(NamedTuple):
    """What takes part in a run; none of them is started yet."""

    subject: str
    node: WatchedNode  # or what takes its place
    camera: ChildProcess
    subscriber: ChildProcess


class NodeSession:
    """One run, from starting the processes to ending them."""

    def __init__(self, load: Load, deadline_ns: int, processes: Processes) -> None:
        """Prepare; ``processes`` are not started yet."""
        self._load, self._deadline_ns = load, deadline_ns
        self._subject, self._process, self._camera, self._subscriber = processes
        self._join = FrameJoin(load, self._deadline_ns)
        self._looks = Looks()
        self._is_matched = self._is_ready = False
        self._graph = ""
        self._news_s = 0.0  # steady time
        self._read_ns = 0  # the same: what happened before is known

    def run(self, on_progress: Callable[[Progress], None]) -> Run:
        """Do it all.

        Raises:
            EnvironmentLacks: a process does not start, ends early or never answers.
            RunInterrupted: the user pressed Ctrl-C.

        """
        with ExitStack() as stack:
            process = stack.enter_context(self._process)
            for child in (self._subscriber, self._camera):
                stack.enter_context(child)
            try:
                self._wait_until_ready()
                self._camera.tell("go")
                self._play(on_progress)
                self._wait_until_quiet()
                self._look()
            except KeyboardInterrupt:
                with suppress(OSError):  # the subject may have ended before us
                    self._look()
                exit_code = process.end()
                raise RunInterrupted(self._make_run(exit_code, self._read_ns)) from None
            exit_code = process.end()
            run = self._make_run(exit_code)
        assert run is not None  # noqa: S101 - it is complete
        return run

    def _make_run(self, exit_code: int, interrupted_ns: int | None = None) -> Run | None:
        return make_run(
            self._join,
            self._looks,
            subject=self._subject,
            deadline_ns=self._deadline_ns,
            log=self._process.log(),
            exit_code=exit_code,
            interrupted_ns=interrupted_ns,
        )

    def _wait_until_ready(self) -> None:
        end_s = time.monotonic() + START_TIMEOUT_S
        while not (self._is_matched and self._is_ready):
            self._receive()
            last = (self._process.log() or ["it logged nothing"])[-1]
            if FAILED.search(last):
                raise EnvironmentLacks(f"{self._subject} did not become ready: {last}")
            if time.monotonic() > end_s:
                problem = f"{self._subject} did not become ready in {START_TIMEOUT_S:.0f} s"
                self._fail(problem, last)
            time.sleep(POLL_S)

    def _play(self, on_progress: Callable[[Progress], None]) -> None:
        """Read what the others say until the last frame was sent."""
        load, join = self._load, self._join
        warm_up = load.warm_up_frames * load.cameras
        start_s = progress_s = self._news_s = time.monotonic()
        while len(join.frames) < warm_up + load.total:
            time.sleep(POLL_S)
            self._receive()
            now_s = time.monotonic()
            if not self._looks.has_begun and len(join.frames) >= warm_up:
                self._look()
            if now_s - start_s > ANSWER_TIMEOUT_S and not (join.results or join.traces):
                self._fail(f"{self._subject} gave no answer in {ANSWER_TIMEOUT_S:.0f} s")
            if now_s - self._news_s > SILENT_CAMERA_S + load.period_ns / 1e9:
                self._fail(f"the camera has sent nothing for {SILENT_CAMERA_S:.0f} s")
            if now_s >= progress_s:
                progress_s = now_s + PROGRESS_PERIOD_S
                on_progress(join.progress(time.monotonic_ns()))
        on_progress(join.progress(time.monotonic_ns()))

    def _wait_until_quiet(self) -> None:
        """Wait for the last results."""
        join, end_s = self._join, time.monotonic() + LAST_RESULT_TIMEOUT_S
        self._news_s = time.monotonic()
        while join.results < len(join.frames) and time.monotonic() < end_s:
            if time.monotonic() - self._news_s > QUIET_S + 2 * join.oldest_ns / 1e9:
                break
            time.sleep(POLL_S)
            self._receive()
        time.sleep(POLL_S)  # ~/latency of the last frame comes after its result
        self._receive()
        if not (join.results or join.traces):
            self._fail(f"{self._subject} gave no answer to {len(join.frames)} frames")

    def _look(self) -> None:
        """Note what the subject has used so far."""
        self._looks.add(read_usage(self._process.pid), read_stolen_time())
        self._looks.sample = self._process.sample()

    def _receive(self) -> None:
        """Take what camera and subscriber have said.

        Raises:
            EnvironmentLacks: a process has ended.

        """
        self._process.require_alive()
        read_ns = time.monotonic_ns()
        self._camera.receive()
        self._subscriber.receive()
        sent = list(take_sent(self._camera.received))
        heard = list(take_heard(self._subscriber.received))
        for one in sent:
            if one.camera == MATCHED:
                self._is_matched = True
            else:
                self._join.add_sent(one)
        self._is_ready |= any(one.kind == READY for one in heard)
        self._graph = next((o.payload.decode() for o in heard if o.kind == GRAPH), self._graph)
        self._join.add_heard(one for one in heard if one.kind not in {READY, GRAPH})
        self._read_ns = read_ns
        if sent or heard:
            self._news_s = time.monotonic()

    def _fail(self, problem: str, *words: str) -> NoReturn:
        """Raise ``EnvironmentLacks`` with who is on which topic."""
        self._subscriber.tell("graph")
        end_s = time.monotonic() + GRAPH_TIMEOUT_S
        while not self._graph and time.monotonic() < end_s:
            time.sleep(POLL_S)
            self._receive()
        raise EnvironmentLacks("; ".join(filter(None, (problem, *words, self._graph))))
