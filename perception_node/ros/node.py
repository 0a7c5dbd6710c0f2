# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node: parameters in, images in, classifications and diagnostics out."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from rclpy.lifecycle import LifecycleNode

from perception_node import health
from perception_node.counters import FrameCounters, add_up
from perception_node.errors import EngineError
from perception_node.realtime import RealTimeSetup
from perception_node.ros.camera import CameraTopics, image_topics
from perception_node.ros.classifier import Classifier
from perception_node.ros.diagnostics import DiagnosticsPublisher
from perception_node.ros.guard import guarded
from perception_node.ros.parameters import declare_parameters, follow_changes
from perception_node.selection import load_pipeline
from perception_node.throttle import Throttle
from perception_node.worker import FrameWorker

if TYPE_CHECKING:
    from rclpy.lifecycle import LifecycleState

    from perception_node.config import NodeConfig
    from perception_node.engines.tensorrt.progress import BuildProgress
    from perception_node.grants import Grant

DRAIN_TIMEOUT_S = 0.5
BUILD_LOG_PERIOD_S = 5.0


class PerceptionNode(LifecycleNode):
    """Classifies the newest image of each camera.

    Configuring loads the model and warms it up, activating subscribes, deactivating drains,
    cleaning up frees. Messages arrive on the executor's thread, all work is the worker's.
    """

    def __init__(self, **options: Any) -> None:  # noqa: ANN401 - rclpy's own options
        """Declare the parameters; nothing is loaded yet.

        Raises:
            ConfigError: a parameter has a value that makes no sense.

        """
        super().__init__("perception", **options)
        self.config: NodeConfig = declare_parameters(self)
        follow_changes(
            self, lambda: self.config, self._replace_config, lambda: self._classifier is not None
        )
        self._counters: dict[str, FrameCounters] = {}  # by topic, for the node's whole life
        self._classifier: Classifier | None = None
        self._cameras: list[CameraTopics] = []
        self._worker: FrameWorker | None = None
        self._real_time: RealTimeSetup | None = None
        self._real_time_threads: tuple[int, ...] = ()
        self._grants: list[Grant] = []
        self._models_loaded = 0
        self._build_throttle = Throttle(BUILD_LOG_PERIOD_S)
        self._reported = add_up([])
        self._reported_time_ns = -1
        self._diagnostics = DiagnosticsPublisher(
            self, self.config.diagnostics_period_s, self._statuses
        )

    @property
    def counters(self) -> dict[str, FrameCounters]:
        """The accounts of all cameras so far, by topic."""
        return self._counters

    @guarded
    def on_configure(self, _state: LifecycleState) -> None:
        """Load and warm up the model, create the publishers, announce the labels."""
        with ExitStack() as undo:
            undo.callback(self.release)
            pipeline = load_pipeline(self.config, self._log_build)
            undo.callback(pipeline.close)
            self._classifier = Classifier(pipeline, self, self._announce)
            for index, topic in enumerate(image_topics(self, self.config)):
                counters = self._counters.setdefault(topic, FrameCounters())
                camera = CameraTopics(self, self._classifier, index, lambda: self.config, counters)
                self._cameras.append(camera)
            self._models_loaded += 1
            self._announce()
            undo.pop_all()
        self.get_logger().info(
            f"model {pipeline.bundle.manifest.name} ({pipeline.bundle.path}) "
            f"runs on {pipeline.description} ({pipeline.reason})"
        )

    @guarded
    def on_activate(self, state: LifecycleState) -> None:
        """Subscribe to the cameras and start the worker."""
        if self._classifier is None or self._classifier.pipeline.is_exhausted:
            msg = "the engine was lost; clean up and configure again"
            raise EngineError(msg)
        worker = FrameWorker([c.camera for c in self._cameras], lambda: self.config)
        worker.start()
        self._worker = worker
        with ExitStack() as undo:
            undo.callback(self._stop_work)
            self._set_up_real_time(self._classifier, worker)
            for camera in self._cameras:
                camera.subscribe(worker.submit)
            super().on_activate(state)
            undo.pop_all()
        topics = ", ".join(camera.topic for camera in self._cameras)
        self.get_logger().info(f"active: waiting for images on {topics}")

    @guarded
    def on_deactivate(self, state: LifecycleState) -> None:
        """Stop the intake, finish the frame at hand."""
        self._stop_work()
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
        try:
            self._stop_work()
        finally:
            cameras, self._cameras = self._cameras, []
            classifier, self._classifier = self._classifier, None
            with ExitStack() as steps:  # as in _stop_work
                if classifier is not None:
                    steps.callback(classifier.pipeline.close)
                for camera in cameras:
                    steps.callback(camera.outputs.destroy)

    def _stop_work(self) -> None:
        worker, self._worker = self._worker, None
        real_time, self._real_time = self._real_time, None
        self._real_time_threads, self._grants = (), []
        with ExitStack() as steps:  # the last comes first; each is done even if another fails
            if worker is not None:
                steps.callback(self._log_accounts)
                steps.callback(self._stop_worker, worker)
            if real_time is not None:
                steps.callback(real_time.undo)
            for camera in self._cameras:
                steps.callback(camera.unsubscribe)

    def _stop_worker(self, worker: FrameWorker) -> None:
        """Let the worker finish its frame; do not wait for an engine that hangs."""
        if not worker.stop(DRAIN_TIMEOUT_S) and self._classifier is not None:
            self.get_logger().error("the engine hangs and is given up; clean up and configure")
            self._classifier.pipeline.interrupt()
            worker.stop(DRAIN_TIMEOUT_S)

    def _log_accounts(self) -> None:
        for camera in self._cameras:
            self.get_logger().info(camera.account())

    def _set_up_real_time(self, classifier: Classifier, worker: FrameWorker) -> None:
        """Apply the settings that are asked for and say which of them were granted.

        Again where the engine has other threads than before: another one has taken over.
        """
        threads = (*worker.native_ids, *classifier.pipeline.native_thread_ids)
        if threads == self._real_time_threads:
            return
        self._real_time_threads = threads
        self._real_time = self._real_time or RealTimeSetup(self.config.real_time())
        executor = [threading.get_native_id()]  # transitions and diagnostics run on it
        self._grants = self._real_time.apply(executor, threads)
        for grant in self._grants:
            # rclpy lets a line of code log with one severity only.
            if grant.granted:
                self.get_logger().info(str(grant))
            else:
                self.get_logger().warning(str(grant))

    def _replace_config(self, config: NodeConfig) -> None:
        is_news = config.threshold != self.config.threshold
        self.config = config
        if is_news:
            self._announce()  # the latched labels state it

    def _announce(self) -> None:
        """Publish what is latched; also when another engine has taken over."""
        for camera in self._cameras:
            camera.outputs.announce(self._models_loaded, self.config.threshold)

    def _log_build(self, progress: BuildProgress) -> None:
        """Say every few seconds that the plan is still being built; nothing else answers."""
        if self._build_throttle.is_due("build"):
            self.get_logger().info(
                f"building the TensorRT plan: {progress.phase}, {progress.elapsed_s:.0f} s"
            )

    def _statuses(self) -> list[health.Status]:
        """Describe the node for /diagnostics."""
        if self._classifier is None:
            return [health.inactive_status("not configured")]
        engine = self._classifier.status()
        if self._worker is None:
            return [health.inactive_status("inactive"), engine]
        self._set_up_real_time(self._classifier, self._worker)
        now_ns, is_simulated = self.get_clock().now().nanoseconds, self._uses_simulated_time()
        clock_stands = is_simulated and now_ns == self._reported_time_ns
        counts = add_up(camera.camera.counters.snapshot() for camera in self._cameras)
        before, self._reported, self._reported_time_ns = self._reported, counts, now_ns
        inference = health.inference_status(counts, before, self._classifier.infer_ms)
        rows = [row for c in self._cameras for row in c.statuses(clock_stands=clock_stands)]
        return [*rows, inference, engine, health.process_status(self._grants)]

    def _uses_simulated_time(self) -> bool:
        return bool(self.get_parameter("use_sim_time").value)
