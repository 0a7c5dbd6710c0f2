# SPDX-License-Identifier: Apache-2.0
"""One run of the node level: start three processes, read what they say, end them."""

from __future__ import annotations

import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from perception_node.bench.levels.frame_join import FrameJoin
from perception_node.bench.levels.frame_records import GRAPH, MATCHED, READY, take_heard, take_sent
from perception_node.bench.levels.node_run import Looks, make_run
from perception_node.bench.process_watch import look_at, read_stolen_time, read_usage
from perception_node.errors import EnvironmentLacks
from perception_node.rehearsal.driver import Driver

if TYPE_CHECKING:
    from collections.abc import Callable

    from perception_node.bench.camera.load import Load
    from perception_node.bench.levels.child_process import ChildProcess
    from perception_node.bench.reporting.live_table import Progress
    from perception_node.bench.reporting.measurement import Run
    from perception_node.rehearsal.node_process import NodeProcess

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
    node: NodeProcess  # or what takes its place
    camera: ChildProcess
    subscriber: ChildProcess


class NodeTurn:
    """One run, from starting the processes to ending them."""

    def __init__(self, load: Load, deadline_ns: int, processes: Processes) -> None:
        """Prepare; ``processes`` are not started yet."""
        self._load, self._deadline_ns = load, deadline_ns
        self._subject, self._process, self._camera, self._subscriber = processes
        self._driver = Driver(
            self._process, self._subscriber, self._camera, poll_s=POLL_S, meanwhile=self._receive
        )
        self._join = FrameJoin(load, self._deadline_ns)
        self._looks = Looks()
        self._is_matched = self._is_ready = False
        self._graph = ""
        self._news = 0  # records that were read
        self._read_ns = 0  # steady time: what happened before is known

    def run(self, on_progress: Callable[[Progress], None]) -> Run:
        """Do it all.

        Raises:
            EnvironmentLacks: a process does not start, ends early or never answers.
            RunInterrupted: the user pressed Ctrl-C.

        """
        process = self._process
        with self._driver:
            try:
                self._driver.require(
                    lambda: self._is_matched and self._is_ready,
                    f"{self._subject} did not become ready",
                    explain=self._describe_graph,
                )
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

    def _play(self, on_progress: Callable[[Progress], None]) -> None:
        """Read what the others say until the last frame was sent."""
        load, join = self._load, self._join
        warm_up = load.warm_up_frames * load.cameras
        start_s = progress_s = news_s = time.monotonic()
        news = self._news
        while len(join.frames) < warm_up + load.total:
            self._driver.pause()
            now_s = time.monotonic()
            if news != self._news:
                news, news_s = self._news, now_s
            if not self._looks.has_begun and len(join.frames) >= warm_up:
                self._look()
            if now_s - start_s > ANSWER_TIMEOUT_S and not (join.results or join.traces):
                self._fail(f"{self._subject} gave no answer in {ANSWER_TIMEOUT_S:.0f} s")
            if now_s - news_s > SILENT_CAMERA_S + load.period_ns / 1e9:
                self._fail(f"the camera has sent nothing for {SILENT_CAMERA_S:.0f} s")
            if now_s >= progress_s:
                progress_s = now_s + PROGRESS_PERIOD_S
                on_progress(join.progress(time.monotonic_ns()))
        on_progress(join.progress(time.monotonic_ns()))

    def _wait_until_quiet(self) -> None:
        """Wait for the last results."""
        join = self._join
        self._driver.wait_until_quiet(
            lambda: self._news,
            QUIET_S + 2 * join.oldest_ns / 1e9,
            timeout_s=LAST_RESULT_TIMEOUT_S,
            is_complete=lambda: join.results >= len(join.frames),
        )
        self._driver.pause()  # ~/latency of the last frame comes after its result
        if not (join.results or join.traces):
            self._fail(f"{self._subject} gave no answer to {len(join.frames)} frames")

    def _look(self) -> None:
        """Note what the subject has used so far."""
        self._looks.add(read_usage(self._process.pid), read_stolen_time())
        self._looks.sample = look_at(self._process.pid)

    def _receive(self) -> None:
        """Take what camera and subscriber have said."""
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
        self._news += len(sent) + len(heard)

    def _fail(self, problem: str) -> NoReturn:
        raise EnvironmentLacks(f"{problem}; {self._describe_graph()}")

    def _describe_graph(self) -> str:
        """Ask the subscriber who is on which topic."""
        self._subscriber.tell("graph")
        self._driver.wait(lambda: bool(self._graph), GRAPH_TIMEOUT_S)
        return self._graph
