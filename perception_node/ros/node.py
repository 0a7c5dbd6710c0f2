# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node: parameters in, images in, classifications and diagnostics out."""

from __future__ import annotations

import threading
import time
import traceback
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock, ClockType
from rclpy.lifecycle import LifecycleNode
from rosgraph_msgs.msg import Clock as ClockMessage

from perception_node.engines.base import describe_loss
from perception_node.engines.loading import Loading
from perception_node.engines.selection import load_pipeline
from perception_node.errors import EngineError, PerceptionError
from perception_node.flow import health
from perception_node.flow.accounts import FrameCounters, add_up
from perception_node.flow.frame_loop import FrameLoop
from perception_node.flow.supervisor import Supervisor
from perception_node.ros.camera_topics import CameraTopics, find_places
from perception_node.ros.diagnostics import DiagnosticsPublisher
from perception_node.ros.guard import guarded
from perception_node.ros.image_source import SubscribedImages
from perception_node.ros.logger import PrintableLogger
from perception_node.ros.model_loading import ModelLoading
from perception_node.ros.parameters import declare_parameters, follow_changes
from perception_node.ros.requests import answer_every_request, only_times
from perception_node.ros.transitions import Transitions
from perception_node.system.realtime import RealTimeSetup
from perception_node.vision.codecs.jpeg import tell_leniency

if TYPE_CHECKING:
    from rclpy.lifecycle import LifecycleState

    from perception_node.config.node_config import NodeConfig
    from perception_node.engines.fallback import FallbackPipeline
    from perception_node.system.grants import Grant

DRAIN_TIMEOUT_S, LONGEST_DRAIN_S = 0.5, 2.0
UPKEEP_PERIOD_S = 0.5
DEFAULT_EXECUTOR = "single_threaded"


class PerceptionNode(LifecycleNode):
    """Classifies the newest image of each camera.

    Configuring loads the model and warms it up, activating subscribes, deactivating drains,
    cleaning up frees. Everything here is called on the executor's thread; images are the frame
    loop's alone.

    Attributes:
        config: the parameters of this moment.
        counters: the account of each camera so far, by topic, for the node's whole life.
        loading: the model while it is being loaded.
        transitions: what others may ask the lifecycle for.
        transitions_begun: how often a lifecycle callback was called.
        is_given_up: whether only a fresh process helps; see the parameter ``exhausted_exit_s``.

    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - rclpy's own options
        """Declare the parameters; nothing is loaded yet.

        Raises:
            ConfigError: a parameter has a value that makes no sense.

        """
        super().__init__("perception", **options)
        self.transitions_begun = 0
        self.is_given_up = False
        self.transitions = Transitions(self)
        answer_every_request(self)
        self.config: NodeConfig = declare_parameters(self)
        if self.config.real_time.executor != DEFAULT_EXECUTOR:
            self.get_logger().warning(
                "parameter executor is deprecated and has no effect; remove it"
            )
        follow_changes(self, lambda: self.config, self._replace_config, lambda: self._is_settled)
        self.counters: dict[str, FrameCounters] = {}
        self._pipeline: FallbackPipeline | None = None
        self.loading = ModelLoading(self, self._prepare_loading)
        self._cameras: list[CameraTopics] = []
        self._loop: FrameLoop | None = None
        self._supervisor: Supervisor | None = None
        self._upkeep_timer: Any = None
        self._real_time: RealTimeSetup | None = None
        self._engine_threads: tuple[int, ...] = ()
        self._grants: list[Grant] = []
        self._models_loaded = 0
        self._reported = add_up([])
        self._clock_ns, self._clock_moved_s = -1, 0.0
        self._diagnostics = DiagnosticsPublisher(
            self, self.config.health.diagnostics_period_s, self._statuses
        )

    def create_subscription(
        self,
        msg_type: Any,  # noqa: ANN401 - as in rclpy
        topic: str,
        callback: Any,  # noqa: ANN401
        *further: Any,  # noqa: ANN401
        **options: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """Subscribe; rclpy does so to /clock, and is kept from what is no time."""
        if msg_type is ClockMessage:
            callback = only_times(self, callback)
        return super().create_subscription(msg_type, topic, callback, *further, **options)

    def get_logger(self) -> PrintableLogger:
        """Return the node's logger; what it writes is printable."""
        return PrintableLogger(super().get_logger())

    @guarded
    def on_configure(self, _state: LifecycleState) -> None:
        """Load and warm up the model, create the publishers, announce the labels."""
        with ExitStack() as undo:
            undo.callback(self.release)
            pipeline = self.loading.finish()
            undo.callback(pipeline.close)
            self._pipeline = pipeline
            for place in find_places(self, self.config):
                counters = self.counters.setdefault(place.topic, FrameCounters())
                camera = CameraTopics(self, pipeline, place, lambda: self.config, counters)
                self._cameras.append(camera)
            self._models_loaded += 1
            self._announce()
            undo.pop_all()
        self.get_logger().info(
            f"model {pipeline.bundle.manifest.name} ({pipeline.bundle.path}) "
            f"runs on {pipeline.description} ({pipeline.reason}), "
            f"images arrive as {camera.delivery}"
        )
        cameras = self.config.cameras
        if cameras.image_transport == "compressed" and cameras.damaged_images == "drop":
            tell_leniency(self.get_logger().warning)

    @guarded
    def on_activate(self, state: LifecycleState) -> None:
        """Subscribe to the cameras and start the frame loop."""
        pipeline = self._pipeline
        if pipeline is None or pipeline.is_over:
            msg = "the engine was lost; clean up and configure again"
            raise EngineError(msg)
        with ExitStack() as undo:
            # First: what is published before, rclpy drops without a word.
            undo.callback(super().on_deactivate, state)
            super().on_activate(state)
            undo.callback(self._stop_work, DRAIN_TIMEOUT_S)
            images = SubscribedImages(self.context, len(self._cameras))
            # In C: it is called for each frame.
            get_config = partial(getattr, self, "config")
            loop = FrameLoop([c.camera for c in self._cameras], images, get_config)
            supervisor = Supervisor(pipeline, loop, self._report_change)
            self._loop, self._supervisor = loop, supervisor
            supervisor.start()
            self._set_up_real_time(pipeline, supervisor)
            for camera in self._cameras:
                camera.start(images)
            self._begin_upkeep()
            undo.pop_all()
        topics = ", ".join(camera.topic for camera in self._cameras)
        first = "somebody to listen, then for " if self.config.cameras.lazy else ""
        self.get_logger().info(f"active: waiting for {first}images on {topics}")

    @guarded
    def on_deactivate(self, state: LifecycleState) -> None:
        """Stop the intake, finish the frame at hand."""
        # A slow engine may finish its frame; lifecycle managers wait 5 s.
        timeout_s = self.config.model.engine_timeout_ms / 1000
        self._stop_work(min(max(DRAIN_TIMEOUT_S, timeout_s), LONGEST_DRAIN_S))
        self.log_accounts()
        super().on_deactivate(state)

    @guarded
    def on_cleanup(self, _state: LifecycleState) -> None:
        """Free the model and the publishers."""
        self.release()

    @guarded
    def on_shutdown(self, _state: LifecycleState) -> None:
        """Stop and free, from whatever state."""
        self.release()

    @guarded
    def on_error(self, _state: LifecycleState) -> None:
        """Free everything, so that the node can be configured again."""
        self.release()

    def release(self) -> None:
        """Stop the worker and free all that configuring made; may be called in any state."""
        self.loading.discard()
        try:
            self._stop_work(DRAIN_TIMEOUT_S)
        finally:
            cameras, self._cameras = self._cameras, []
            pipeline, self._pipeline = self._pipeline, None
            with ExitStack() as steps:  # as in _stop_work
                if pipeline is not None:
                    steps.callback(pipeline.close)
                for camera in cameras:
                    steps.callback(camera.outputs.destroy)

    def interrupt(self) -> None:
        """End a deactivation that waits for its engine; from another thread, at the very end."""
        supervisor = self._supervisor
        if supervisor is not None:
            supervisor.abandon()

    def _stop_work(self, drain_timeout_s: float) -> None:
        real_time, self._real_time = self._real_time, None
        timer, self._upkeep_timer = self._upkeep_timer, None
        self._grants = []
        with ExitStack() as steps:  # the last comes first; each is done even if another fails
            steps.callback(self._stop_loop, drain_timeout_s)
            if real_time is not None:
                steps.callback(real_time.undo)
            for camera in self._cameras:
                steps.callback(camera.stop)
            if timer is not None:
                steps.callback(self.destroy_timer, timer)

    def _stop_loop(self, timeout_s: float) -> None:
        """Let the loop finish its frame; do not wait for ever."""
        supervisor = self._supervisor
        try:
            if supervisor is not None and not supervisor.stop(timeout_s):
                supervisor.abandon()
                supervisor.stop(DRAIN_TIMEOUT_S)
                self.get_logger().error(
                    f"the frame at hand was not finished in {timeout_s:g} s; "
                    f"its engine is given up, {self._describe_next()}"
                )
        finally:
            self._loop = self._supervisor = None

    def _describe_next(self) -> str:
        pipeline = self._pipeline
        if pipeline is None or pipeline.is_exhausted:
            return "no other is left" if pipeline is None else pipeline.outlook
        return f"{pipeline.description} stands by"

    def log_accounts(self) -> None:
        """Say where the frames of each camera went, since the process began."""
        for topic, counters in self.counters.items():
            of = f" of {topic}" if len(self.counters) > 1 else ""
            self.get_logger().info(f"frames{of}: {counters.snapshot()}")

    def _set_up_real_time(self, pipeline: FallbackPipeline, supervisor: Supervisor) -> None:
        """Apply the settings that are asked for and say which of them were granted.

        Again where the engine has other threads than before: another one has taken over.
        """
        engine_threads = pipeline.native_thread_ids
        if self._real_time is not None:
            if engine_threads == self._engine_threads:
                return
            self._real_time.undo()  # what hangs must not keep its priority
        self._engine_threads = engine_threads
        self._real_time = RealTimeSetup(self.config.real_time)
        # Transitions and diagnostics run on this thread.
        executor = [threading.get_native_id(), *supervisor.native_ids]
        self._grants = self._real_time.apply(executor, engine_threads)
        for grant in self._grants:
            # rclpy lets a line of code log with one severity only.
            if grant.granted:
                self.get_logger().info(str(grant))
            else:
                self.get_logger().warning(str(grant))

    def _prepare_loading(self) -> Loading:
        config = self.config.model
        load = partial(load_pipeline, config, standby=True)
        return Loading(load, config.configure_timeout_s)

    @property
    def _is_settled(self) -> bool:
        """Whether what only configuring reads was read, and must not change."""
        return self._pipeline is not None or self.loading.is_running

    def _replace_config(self, config: NodeConfig) -> None:
        is_news = config.output.threshold != self.config.output.threshold
        self.config = config
        if is_news:
            self._announce()  # the latched labels state it

    def _begin_upkeep(self) -> None:
        """Look after the subscriptions now and twice a second; simulated time may stand still."""

        def keep_up() -> None:
            self._look_for_engines()
            for camera in self._cameras:
                camera.follow_events()
                if self.config.cameras.lazy:
                    camera.follow_listeners()

        keep_up()
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        group = MutuallyExclusiveCallbackGroup()  # the node's own would keep a reference for ever
        self._upkeep_timer = self.create_timer(UPKEEP_PERIOD_S, keep_up, group, clock=steady)

    def _look_for_engines(self) -> None:
        """Give up where there has been no engine for too long."""
        limit_s, pipeline = self.config.model.exhausted_exit_s, self._pipeline
        if not limit_s or pipeline is None or pipeline.exhausted_s < limit_s:
            return
        if not self.is_given_up:
            self.is_given_up = True
            self.get_logger().fatal(
                f"no engine for {limit_s:g} s (exhausted_exit_s); "
                "the process ends with exit code 1, so that respawn starts it again"
            )

    def _report_change(self) -> None:
        """Say that another engine has taken over, or none; called by the supervisor's thread."""
        pipeline = self._pipeline
        if pipeline is not None and (error := pipeline.lost) is not None:
            outcome = f"{pipeline.description} took over; clean up and configure to try again"
            if pipeline.is_exhausted:
                outcome = f"no engine is left; {pipeline.outlook}"
            lost = f"the engine was lost ({describe_loss(error)})"
            self.get_logger().error(f"degraded: {lost}; {outcome}")
            if not isinstance(error, PerceptionError):
                trace = "".join(traceback.format_exception(error))
                self.get_logger().error(f"the engine was lost to a bug:\n{trace}")
        self._announce()

    def _announce(self) -> None:
        """Publish what is latched; also when another engine has taken over."""
        for camera in self._cameras:
            camera.outputs.announce(self._models_loaded, self.config.output.threshold)

    def _statuses(self) -> list[health.Status]:
        """Describe the node for /diagnostics."""
        if loading := self.loading.statuses():
            return loading
        pipeline = self._pipeline
        if pipeline is None:
            return [health.inactive_status("not configured")]
        engine = health.engine_status(
            pipeline.bundle.manifest.name,
            pipeline.description,
            pipeline.reason,
            pipeline.lost,
            outlook=pipeline.outlook if pipeline.is_exhausted else None,
        )
        if self._loop is None or self._supervisor is None:
            return [health.inactive_status("inactive"), engine]
        self._set_up_real_time(pipeline, self._supervisor)
        counts = add_up(camera.camera.counters.snapshot() for camera in self._cameras)
        before, self._reported = self._reported, counts
        inference = health.inference_status(counts, before, self._loop.infer_ns)
        stands = self._clock_stands()
        rows = [row for camera in self._cameras for row in camera.statuses(clock_stands=stands)]
        return [*rows, inference, engine, health.process_status(self._grants)]

    def _clock_stands(self) -> bool:
        """Return whether simulated time has stood still for long enough to silence cameras."""
        now_ns, steady_s = self.get_clock().now().nanoseconds, time.monotonic()
        if now_ns != self._clock_ns:
            self._clock_ns, self._clock_moved_s = now_ns, steady_s
        stands_s = steady_s - self._clock_moved_s
        is_simulated = bool(self.get_parameter("use_sim_time").value)
        return is_simulated and stands_s > self.config.health.image_timeout_s / 2
