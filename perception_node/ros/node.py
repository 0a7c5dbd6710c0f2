# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node: parameters in, images in, classifications and diagnostics out."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rclpy.lifecycle import LifecycleNode
from sensor_msgs.msg import CompressedImage, Image

from perception_node import health
from perception_node.counters import FrameCounters
from perception_node.errors import EngineError
from perception_node.process import freeze_garbage, unfreeze_garbage
from perception_node.ros.diagnostics import DiagnosticsPublisher
from perception_node.ros.guard import guarded
from perception_node.ros.images import ImageReader
from perception_node.ros.outputs import Outputs
from perception_node.ros.parameters import declare_parameters, follow_changes
from perception_node.ros.qos import image_overrides, image_qos
from perception_node.selection import load_pipeline
from perception_node.throttle import Throttle
from perception_node.worker import FrameWorker

if TYPE_CHECKING:
    from rclpy.lifecycle import LifecycleState

    from perception_node.config import NodeConfig
    from perception_node.engines.tensorrt.progress import BuildProgress
    from perception_node.selection import SelectedPipeline

DRAIN_TIMEOUT_S = 1.0
BUILD_LOG_PERIOD_S = 5.0
IMAGE_TYPES = {"raw": Image, "compressed": CompressedImage}


class PerceptionNode(LifecycleNode):
    """Classifies the newest image of one camera.

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
        follow_changes(self, lambda: self.config, self._replace_config)
        self.counters = FrameCounters()
        self._pipeline: SelectedPipeline | None = None
        self._outputs: Outputs | None = None
        self._worker: FrameWorker | None = None
        self._subscription: Any = None
        self._models_loaded = 0
        self._build_throttle = Throttle(BUILD_LOG_PERIOD_S)
        self._last_image_s = 0.0
        self._reported = self.counters.snapshot()
        self._diagnostics = DiagnosticsPublisher(
            self, self.config.diagnostics_period_s, self._statuses
        )

    @guarded
    def on_configure(self, _state: LifecycleState) -> None:
        """Load and warm up the model, create the publishers, announce the labels."""
        pipeline = load_pipeline(self.config, self._log_build)
        self._pipeline = pipeline
        self._outputs = Outputs(self, pipeline, lambda: self.config)
        self._models_loaded += 1
        self._outputs.announce(self._models_loaded)
        freeze_garbage()
        self.get_logger().info(
            f"model {pipeline.bundle.manifest.name} ({pipeline.bundle.path}) "
            f"runs on {pipeline.description} ({pipeline.reason})"
        )

    @guarded
    def on_activate(self, state: LifecycleState) -> None:
        """Subscribe to the camera and start the worker."""
        if self._pipeline is None or self._outputs is None:
            msg = "the engine was lost; clean up and configure again"
            raise EngineError(msg)
        config = self.config
        reader = ImageReader(
            config.image_transport, config.max_image_pixels, self._pipeline.smallest_side
        )
        self._subscription = self.create_subscription(
            IMAGE_TYPES[config.image_transport],
            self._image_topic(),
            self._on_image,
            image_qos(config.image_qos),
            qos_overriding_options=image_overrides(),
            raw=True,
        )
        self._worker = FrameWorker(reader.read, self._outputs, self.counters)
        self._worker.start()
        self._last_image_s = time.monotonic()
        super().on_activate(state)
        self.get_logger().info(f"active: waiting for images on {self._image_topic()}")

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
        self._stop_work()
        if self._outputs is not None:
            self._outputs.destroy()
            self._outputs = None
        if self._pipeline is not None:
            self._pipeline.close()
            self._pipeline = None
            unfreeze_garbage()

    def _stop_work(self) -> None:
        if self._subscription is not None:
            self.destroy_subscription(self._subscription)
            self._subscription = None
        if self._worker is None:
            return
        if not self._worker.stop(DRAIN_TIMEOUT_S):
            # The thread cannot be ended; it keeps its engine, nobody else may use that one.
            self.get_logger().error("the engine hangs and is given up; clean up and configure")
            self._pipeline = None
        self._worker = None
        self.get_logger().info(f"frames: {self.counters.snapshot()}")

    def _on_image(self, message: bytes) -> None:
        """Leave the image for the worker; runs on the executor's thread."""
        self._last_image_s = time.monotonic()
        if self._worker is not None:
            self._worker.submit(message)

    def _image_topic(self) -> str:
        """Return the resolved topic; a transport's name goes behind the remapped base."""
        base = str(self.resolve_topic_name("image"))
        return base if self.config.image_transport == "raw" else f"{base}/compressed"

    def _replace_config(self, config: NodeConfig) -> None:
        is_news = config.threshold != self.config.threshold
        self.config = config
        if self._outputs is not None and is_news:
            self._outputs.announce(self._models_loaded)  # the latched labels state it

    def _log_build(self, progress: BuildProgress) -> None:
        """Say every few seconds that the plan is still being built; nothing else answers."""
        if self._build_throttle.is_due("build"):
            self.get_logger().info(
                f"building the TensorRT plan: {progress.phase}, {progress.elapsed_s:.0f} s"
            )

    def _statuses(self) -> list[health.Status]:
        """Describe the node for /diagnostics."""
        if self._pipeline is None or self._outputs is None:
            return [health.inactive_status("not configured")]
        engine = health.engine_status(
            self._pipeline.bundle.manifest.name,
            self._pipeline.description,
            self._pipeline.reason,
            self._pipeline.lost,
        )
        if self._worker is None:
            return [health.inactive_status("inactive"), engine]
        counts, before = self.counters.snapshot(), self._reported
        self._reported = counts
        silent_s = time.monotonic() - self._last_image_s
        camera = health.input_status(
            self._image_topic(), silent_s, self.config.image_timeout_s, counts, before
        )
        inference = health.inference_status(counts, before, self._outputs.last_infer_ms)
        return [camera, inference, engine]
