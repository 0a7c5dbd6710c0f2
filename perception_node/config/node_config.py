# SPDX-License-Identifier: Apache-2.0
"""The node's configuration: one frozen record.

ROS parameters, ``launch/params/perception.yaml`` and the table in the README are generated
from it (``tools/generate_parameters.py``), so a parameter is described here and nowhere else.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

from perception_node.config.parameter import When, check, parameter
from perception_node.errors import ConfigError
from perception_node.system.realtime import RealTimeRequest, parse_cpus

QOS_NAMES = ("sensor_data", "default", "system_default")
MAX_CAMERAS = 8
MAX_DEADLINE_MS = 60_000


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Every parameter of the node, with its default."""

    model: str = parameter(
        "",
        "Folder of the model bundle, or the name of one that comes with the package; "
        "empty for efficientnet_lite0.",
        when=When.START,
    )
    engine: str = parameter(
        "auto",
        "tensorrt, onnxruntime, or auto: TensorRT where a GPU and a plan for it are here, "
        "ONNX Runtime on the CPU otherwise.",
        choices=("auto", "tensorrt", "onnxruntime"),
    )
    precision: str = parameter(
        "fp16",
        "Precision of the model. On the CPU, int8 runs model.int8.cpu.onnx (perception calibrate "
        "makes it) and the others are float32, as is what stands by for TensorRT.",
        choices=("fp32", "fp16", "int8"),
    )
    allow_ungated: bool = parameter(
        False,
        "Run an int8 model whose accuracy was not measured or is too low (perception evaluate).",
        when=When.START,
    )
    build_missing_plan: bool = parameter(
        False,
        "Build the TensorRT plan while configuring where there is none, which takes minutes; "
        "false leaves it to perception build.",
        when=When.START,
    )
    plan_store: str = parameter(
        "",
        "Folder of the TensorRT plans; empty for ~/.cache/perception_node/plans.",
        when=When.START,
    )
    configure_timeout_s: float = parameter(
        30.0,
        "Loading and warming up the model may take so long, without the build of a plan; then "
        "configuring fails.",
        lowest=0.1,
        highest=86_400.0,
    )
    engine_timeout_ms: int = parameter(
        500,
        "An engine that does not answer for so long hangs, and another takes over; time in which "
        "a busy machine kept it from its work does not count.",
        lowest=1,
        highest=60_000,
    )
    exhausted_exit_s: float = parameter(
        0.0,
        "Once no engine has been left for so long, the process ends with exit code 1, so that "
        "respawn starts it again (the launch file sets 30); 0 never ends it.",
        lowest=0.0,
        highest=3600.0,
    )
    threads: int = parameter(
        0, "Inference threads on the CPU; 0 takes half the cores, at most 4.", lowest=0, highest=64
    )
    autostart: bool = parameter(
        False,
        "Configure and activate at start; false leaves it to a lifecycle manager.",
        when=When.START,
    )
    image_topics: tuple[str, ...] = parameter(
        ("image",),
        f"Topics of the cameras, 1 to {MAX_CAMERAS}. Results of one camera are on ~/; those of "
        "several are in each camera's namespace.",
    )
    deadline_ms: int = parameter(
        100,
        "Nothing older is published: the age of an image, from its stamp to its classification.",
        lowest=1,
        highest=MAX_DEADLINE_MS,
        when=When.LIVE,
    )
    camera_deadlines_ms: tuple[int, ...] = parameter(
        (0,),
        "Deadlines of their own for cameras, in the order of image_topics; 0 takes deadline_ms.",
        lowest=0,
        highest=MAX_DEADLINE_MS,
        when=When.LIVE,
    )
    age_reference: str = parameter(
        "stamp",
        "Where the age of an image begins: stamp is its header.stamp on the node's clock; arrival "
        "is when it reached the node, for cameras with bad clocks and bags without /clock.",
        choices=("stamp", "arrival"),
    )
    max_rate_hz: float = parameter(
        0.0,
        "Classify at most so many images per second of each camera; 0 sets no limit.",
        lowest=0.0,
        highest=1000.0,
        when=When.LIVE,
    )
    lazy: bool = parameter(
        False,
        "Subscribe to a camera only while somebody listens to its classification, overlay or "
        "latency, and one second longer.",
    )
    image_transport: str = parameter(
        "raw",
        "What the camera sends: raw subscribes to image, compressed to image/compressed.",
        choices=("raw", "compressed"),
    )
    image_qos: str = parameter(
        "sensor_data",
        "QoS profile of the image subscription; its depth is always 1.",
        choices=QOS_NAMES,
    )
    classification_qos: str = parameter(
        "default", "QoS profile of ~/classification.", choices=QOS_NAMES
    )
    max_image_pixels: int = parameter(
        4096 * 4096,
        "Larger images are dropped before they are decoded.",
        lowest=1,
        highest=1 << 28,
    )
    damaged_images: str = parameter(
        "drop",
        "A JPEG that is cut short or damaged: drop gives no result for it; use classifies what "
        "can be decoded of it, where the rest is grey or wrong.",
        choices=("drop", "use"),
    )
    top_k: int = parameter(
        5, "At most this many hypotheses are published.", lowest=1, highest=1000, when=When.LIVE
    )
    threshold: float = parameter(
        0.0, "Hypotheses with a lower score are left out.", lowest=0.0, highest=1.0, when=When.LIVE
    )
    overlay_rate_hz: float = parameter(
        5.0,
        "Draw and publish at most so many pictures per second on ~/overlay of each camera; 0 "
        "draws every image that is classified.",
        lowest=0.0,
        highest=1000.0,
        when=When.LIVE,
    )
    class_id_format: str = parameter(
        "index",
        "class_id in results: the class's index (as in ~/label_info) or its name.",
        choices=("index", "name"),
    )
    image_timeout_s: float = parameter(
        2.0,
        "Without an image for this long, /diagnostics reports the input as an error.",
        lowest=0.1,
        highest=3600.0,
    )
    warn_rate_hz: float = parameter(
        0.0,
        "Below this rate of images, /diagnostics warns; 0 does not look.",
        lowest=0.0,
        highest=1000.0,
    )
    error_rate_hz: float = parameter(
        0.0,
        "Below this rate of images, /diagnostics reports an error; 0 does not look.",
        lowest=0.0,
        highest=1000.0,
    )
    stuck_after: int = parameter(
        30,
        "After so many identical images in a row, /diagnostics warns that the camera is stuck; "
        "0 does not look.",
        lowest=0,
        highest=100_000,
    )
    warn_missed_percent: float = parameter(
        5.0,
        "From this share of images that missed the deadline on, /diagnostics warns.",
        lowest=0.0,
        highest=100.0,
    )
    error_missed_percent: float = parameter(
        50.0,
        "From this share of images that missed the deadline on, /diagnostics reports an error.",
        lowest=0.0,
        highest=100.0,
    )
    diagnostics_period_s: float = parameter(
        1.0,
        "Time between two messages on /diagnostics.",
        lowest=0.1,
        highest=60.0,
        when=When.START,
    )
    executor: str = parameter(
        "single_threaded",
        "Deprecated, has no effect: images no longer come through an executor.",
        choices=("single_threaded", "events"),
        when=When.START,
    )
    scheduling_policy: str = parameter(
        "other",
        "Scheduling of the node's threads while it is active; fifo and rr are real-time and need "
        "the right to it (the log says how to get it).",
        choices=("other", "fifo", "rr"),
    )
    scheduling_priority: int = parameter(
        50, "Priority of the threads with fifo or rr.", lowest=1, highest=99
    )
    worker_cpus: str = parameter(
        "",
        "CPUs of the worker, which is the frame loop with its engine, such as 0,2-3 (one alone: "
        "2-2); empty for all.",
    )
    executor_cpus: str = parameter(
        "", "CPUs of the executor, which answers services and parameters; empty for all."
    )
    lock_memory: bool = parameter(
        False,
        "Keep the process's memory in RAM while the node is active (mlockall).",
    )
    freeze_garbage: bool = parameter(
        True,
        "Take what configuring made out of the garbage collector's sight while active.",
    )
    disable_garbage_collection: bool = parameter(
        False,
        "Do not collect garbage while active; what the node itself makes needs no collector.",
    )

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ConfigError: a value has the wrong type, is out of range or not among its choices.

        """
        for field in fields(self):
            check(field, getattr(self, field.name))
        self._check_cameras()

    def deadline_ns(self, camera: int) -> int:
        """Return the deadline of a camera, by its place in ``image_topics``."""
        own = self.camera_deadlines_ms
        own_ms = own[camera] if camera < len(own) else 0
        return (own_ms or self.deadline_ms) * 1_000_000

    def real_time(self) -> RealTimeRequest:
        """Return the settings that need the system's consent."""
        return RealTimeRequest(
            policy=self.scheduling_policy,
            priority=self.scheduling_priority,
            worker_cpus=parse_cpus(self.worker_cpus),
            executor_cpus=parse_cpus(self.executor_cpus),
            lock_memory=self.lock_memory,
            freeze_garbage=self.freeze_garbage,
            disable_garbage_collection=self.disable_garbage_collection,
        )

    def with_values(self, values: dict[str, Any]) -> NodeConfig:
        """Return a copy with some parameters changed.

        Raises:
            ConfigError: see ``__post_init__``.

        """
        return replace(self, **values)

    def _check_cameras(self) -> None:
        topics = self.image_topics
        if not 1 <= len(topics) <= MAX_CAMERAS or len(set(topics)) != len(topics) or "" in topics:
            msg = f"parameter image_topics must be 1 to {MAX_CAMERAS} different topics"
            raise ConfigError(f"{msg}, found {list(topics)}")
        if len(self.camera_deadlines_ms) > len(topics):
            msg = "parameter camera_deadlines_ms has more entries than image_topics"
            raise ConfigError(msg)
        parse_cpus(self.worker_cpus, "parameter worker_cpus")
        parse_cpus(self.executor_cpus, "parameter executor_cpus")
