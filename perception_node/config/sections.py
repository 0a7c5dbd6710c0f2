# SPDX-License-Identifier: Apache-2.0
"""The sections of the node's configuration. A parameter is described here and nowhere else."""
# Annotations are not postponed: the choices are read from them.

from dataclasses import dataclass
from typing import Literal

from perception_node.config.cpus import parse_cpus
from perception_node.config.parameter import Section, When, parameter
from perception_node.config.sample_range import parse_range_16, parse_range_32
from perception_node.errors import ConfigError

MAX_CAMERAS = 8
MAX_DEADLINE_MS = 60_000
MAX_PRIORITY = 99

AgeReference = Literal["stamp", "arrival"]
ClassIdFormat = Literal["index", "name"]
DamagedImages = Literal["drop", "use"]
EngineChoice = Literal["auto", "tensorrt", "onnxruntime"]
ExecutorName = Literal["single_threaded", "events"]
Precision = Literal["fp32", "fp16", "int8"]
QosName = Literal["sensor_data", "default", "system_default"]
SchedulingPolicy = Literal["other", "fifo", "rr"]
Transport = Literal["raw", "compressed"]


@dataclass(frozen=True, slots=True)
class ModelConfig(Section):
    """Which model runs, on what, and how long that may take."""

    model: str = parameter(
        "",
        "Folder of the model bundle, or the name of one that comes with the package; "
        "empty for efficientnet_lite0.",
        when=When.START,
    )
    engine: EngineChoice = parameter(
        "auto",
        "tensorrt, onnxruntime, or auto: TensorRT where a GPU and a plan for it are here, "
        "ONNX Runtime on the CPU otherwise.",
    )
    precision: Precision = parameter(
        "fp16",
        "Precision of the model; one that came as int8 is int8, whatever is set. On the CPU, int8 "
        "runs model.int8.cpu.onnx (perception calibrate makes it) and the others are float32, as "
        "is what stands by for TensorRT.",
    )
    allow_ungated: bool = parameter(
        False,
        "Run an int8 model whose accuracy was not measured or is too low (perception evaluate).",
        when=When.START,
    )
    build_missing_plan: bool = parameter(
        False,
        "Build the TensorRT plan while configuring where there is none, which takes "
        "minutes; false leaves it to perception build.",
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
        limits=(0.1, 86_400.0),
    )
    engine_timeout_ms: int = parameter(
        500,
        "An engine that does not answer for so long hangs, and another takes over; time in which "
        "a busy machine kept it from its work does not count.",
        limits=(1, 60_000),
    )
    exhausted_exit_s: float = parameter(
        0.0,
        "Once no engine has been left for so long, the process ends with exit code 1, so that "
        "respawn starts it again (the launch file sets 30); 0 never ends it.",
        limits=(0.0, 3600.0),
    )
    threads: int = parameter(
        0, "Inference threads on the CPU; 0 takes half the cores, at most 4.", limits=(0, 64)
    )
    autostart: bool = parameter(
        False,
        "Configure and activate at start; false leaves it to a lifecycle manager.",
        when=When.START,
    )


@dataclass(frozen=True, slots=True)
class CameraConfig(Section):
    """Which images are taken, and how."""

    image_topics: tuple[str, ...] = parameter(
        ("image",),
        f"Topics of the cameras, 1 to {MAX_CAMERAS}. Results of one camera are on ~/; those of "
        "several are in each camera's namespace, or behind its topic's name where they share one.",
    )
    max_rate_hz: float = parameter(
        0.0,
        "Classify at most so many images per second of each camera; 0 sets no limit.",
        limits=(0.0, 1000.0),
        when=When.LIVE,
    )
    lazy: bool = parameter(
        False,
        "Subscribe to a camera only while somebody listens to its classification, "
        "overlay or latency, and one second longer.",
    )
    image_transport: Transport = parameter(
        "raw", "What the camera sends: raw subscribes to image, compressed to image/compressed."
    )
    image_qos: QosName = parameter(
        "sensor_data", "QoS profile of the image subscription; its depth is always 1."
    )
    max_image_pixels: int = parameter(
        4096 * 4096, "Larger images are dropped before they are decoded.", limits=(1, 1 << 28)
    )
    damaged_images: DamagedImages = parameter(
        "drop",
        "A JPEG that is cut short or damaged: drop gives no result for it; use classifies what "
        "can be decoded of it, where the rest is grey or wrong.",
    )

    mono16_range: str = parameter(
        "full",
        "Which values of 16-bit images (mono16, 16UC1, bayer_*16, rgb16, PNG) are black and "
        "white: full is 0,65535; MIN,MAX such as 0,4095 for 12 bits; auto is the 1st to 99th "
        "percentile, slowly followed.",
    )
    mono32_range: str = parameter(
        "",
        "Which values of 32FC1 images are black and white: MIN,MAX such as 0.3,10, or auto as "
        "for mono16_range; empty refuses such images.",
    )

    def check_further(self) -> None:
        """Require at least one topic, none of them twice, and ranges that are ranges."""
        parse_range_16(self.mono16_range)
        if self.mono32_range:
            parse_range_32(self.mono32_range)
        topics = self.image_topics
        if not 1 <= len(topics) <= MAX_CAMERAS or len(set(topics)) != len(topics) or "" in topics:
            msg = f"parameter image_topics must be 1 to {MAX_CAMERAS} different topics"
            raise ConfigError(f"{msg}, found {list(topics)}")


@dataclass(frozen=True, slots=True)
class LatencyConfig(Section):
    """How old a result may be."""

    deadline_ms: int = parameter(
        100,
        "Nothing older is published: the age of an image, from its stamp to its classification.",
        limits=(1, MAX_DEADLINE_MS),
        when=When.LIVE,
    )
    camera_deadlines_ms: tuple[int, ...] = parameter(
        (0,),
        "Deadlines of their own for cameras, in the order of image_topics; 0 takes deadline_ms.",
        limits=(0, MAX_DEADLINE_MS),
        when=When.LIVE,
    )
    age_reference: AgeReference = parameter(
        "stamp",
        "Where the age of an image begins: stamp is its header.stamp on the node's clock; arrival "
        "is when it reached the node, for cameras with bad clocks and bags without /clock.",
    )

    def deadline_ns(self, camera: int) -> int:
        """Return the deadline of a camera, by its place in ``image_topics``."""
        own = self.camera_deadlines_ms
        own_ms = own[camera] if camera < len(own) else 0
        return (own_ms or self.deadline_ms) * 1_000_000


@dataclass(frozen=True, slots=True)
class OutputConfig(Section):
    """What is published."""

    classification_qos: QosName = parameter("default", "QoS profile of ~/classification.")
    top_k: int = parameter(
        5, "At most this many hypotheses are published.", limits=(1, 1000), when=When.LIVE
    )
    threshold: float = parameter(
        0.0, "Hypotheses with a lower score are left out.", limits=(0.0, 1.0), when=When.LIVE
    )
    overlay_rate_hz: float = parameter(
        5.0,
        "Draw and publish at most so many pictures per second on ~/overlay of each camera; 0 "
        "draws every image that is classified.",
        limits=(0.0, 1000.0),
        when=When.LIVE,
    )
    class_id_format: ClassIdFormat = parameter(
        "index", "class_id in results: the class's index (as in ~/label_info) or its name."
    )


@dataclass(frozen=True, slots=True)
class HealthConfig(Section):
    """When ``/diagnostics`` warns."""

    image_timeout_s: float = parameter(
        2.0,
        "Without an image for this long, /diagnostics reports the input as an error.",
        limits=(0.1, 3600.0),
    )
    warn_rate_hz: float = parameter(
        0.0,
        "Below this rate of images, /diagnostics warns; 0 does not look.",
        limits=(0.0, 1000.0),
    )
    error_rate_hz: float = parameter(
        0.0,
        "Below this rate of images, /diagnostics reports an error; 0 does not look.",
        limits=(0.0, 1000.0),
    )
    stuck_after: int = parameter(
        30,
        "After so many identical images in a row, /diagnostics warns that the camera is stuck; "
        "0 does not look.",
        limits=(0, 100_000),
    )
    warn_missed_percent: float = parameter(
        5.0,
        "From this share of images that missed the deadline on, /diagnostics warns.",
        limits=(0.0, 100.0),
    )
    error_missed_percent: float = parameter(
        50.0,
        "From this share of images that missed the deadline on, /diagnostics reports an error.",
        limits=(0.0, 100.0),
    )
    diagnostics_period_s: float = parameter(
        1.0, "Time between two messages on /diagnostics.", limits=(0.1, 60.0), when=When.START
    )


@dataclass(frozen=True, slots=True)
class RealTimeConfig(Section):
    """What the node's threads and its memory ask of the system."""

    executor: ExecutorName = parameter(
        "single_threaded",
        "Deprecated, has no effect: images no longer come through an executor.",
        when=When.START,
    )
    scheduling_policy: SchedulingPolicy = parameter(
        "other",
        "Scheduling of the node's threads while it is active; fifo and rr are real-time and need "
        "the right to it (the log says how to get it).",
    )
    scheduling_priority: int = parameter(
        50, "Priority of the threads with fifo or rr.", limits=(1, MAX_PRIORITY)
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
        False, "Keep the process's memory in RAM while the node is active (mlockall)."
    )
    freeze_garbage: bool = parameter(
        True, "Take what configuring made out of the garbage collector's sight while active."
    )
    disable_garbage_collection: bool = parameter(
        False,
        "Do not collect garbage while active; what the node itself makes needs no collector.",
    )

    def check_further(self) -> None:
        """Require CPUs as ``parse_cpus`` reads them."""
        parse_cpus(self.worker_cpus, "parameter worker_cpus")
        parse_cpus(self.executor_cpus, "parameter executor_cpus")
