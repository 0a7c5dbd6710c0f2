# SPDX-License-Identifier: Apache-2.0
"""The node's configuration: one frozen record.

ROS parameters, ``launch/params/perception.yaml`` and the table in the README are generated
from it (``tools/generate_parameters.py``), so a parameter is described here and nowhere else.
"""

from __future__ import annotations

import math
from dataclasses import Field, dataclass, field, fields, replace
from typing import Any

from perception_node.errors import ConfigError

Value = bool | int | float | str


def _parameter(  # noqa: PLR0913 - these are the fields of a ROS parameter descriptor
    default: Value,
    description: str,
    *,
    lowest: float | None = None,
    highest: float | None = None,
    choices: tuple[str, ...] = (),
    live: bool = False,
) -> Any:  # noqa: ANN401 - dataclasses.field() hands out Any as well
    metadata = {
        "description": description,
        "lowest": lowest,
        "highest": highest,
        "choices": choices,
        "live": live,
    }
    return field(default=default, metadata=metadata)


QOS_NAMES = ("sensor_data", "default", "system_default")


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """Every parameter of the node, with its default."""

    model: str = _parameter(
        "",
        "Folder of the model bundle, or the name of one that comes with the package; "
        "empty for efficientnet_lite0.",
    )
    engine: str = _parameter(
        "auto",
        "tensorrt, onnxruntime, or auto: TensorRT where a GPU and a plan for it are here, "
        "ONNX Runtime on the CPU otherwise.",
        choices=("auto", "tensorrt", "onnxruntime"),
    )
    precision: str = _parameter(
        "fp16",
        "Precision of the model. On the CPU, int8 runs model.int8.cpu.onnx (perception calibrate "
        "makes it) and the others are float32, as is what stands by for TensorRT.",
        choices=("fp32", "fp16", "int8"),
    )
    allow_ungated: bool = _parameter(
        False,  # noqa: FBT003 - the parameter's default value
        "Run an int8 model whose accuracy was not measured or is too low (perception evaluate).",
    )
    build_missing_plan: bool = _parameter(
        False,  # noqa: FBT003 - the parameter's default value
        "Build the TensorRT plan while configuring where there is none, which takes minutes; "
        "false leaves it to perception build.",
    )
    plan_store: str = _parameter(
        "", "Folder of the TensorRT plans; empty for ~/.cache/perception_node/plans."
    )
    engine_timeout_ms: int = _parameter(
        500,
        "A frame that takes the TensorRT engine longer means that it hangs: ONNX Runtime takes "
        "over.",
        lowest=1,
        highest=60_000,
    )
    threads: int = _parameter(
        0, "Inference threads on the CPU; 0 takes half the cores, at most 4.", lowest=0, highest=64
    )
    autostart: bool = _parameter(
        False,  # noqa: FBT003 - the parameter's default value
        "Configure and activate at start; false leaves it to a lifecycle manager.",
    )
    image_transport: str = _parameter(
        "raw",
        "What the camera sends: raw subscribes to image, compressed to image/compressed.",
        choices=("raw", "compressed"),
    )
    image_qos: str = _parameter(
        "sensor_data",
        "QoS profile of the image subscription; its depth is always 1.",
        choices=QOS_NAMES,
    )
    classification_qos: str = _parameter(
        "default", "QoS profile of ~/classification.", choices=QOS_NAMES
    )
    max_image_pixels: int = _parameter(
        4096 * 4096,
        "Larger images are dropped before they are decoded.",
        lowest=1,
        highest=1 << 28,
    )
    top_k: int = _parameter(
        5, "At most this many hypotheses are published.", lowest=1, highest=1000, live=True
    )
    threshold: float = _parameter(
        0.0, "Hypotheses with a lower score are left out.", lowest=0.0, highest=1.0, live=True
    )
    class_id_format: str = _parameter(
        "index",
        "class_id in results: the class's index (as in ~/label_info) or its name.",
        choices=("index", "name"),
    )
    image_timeout_s: float = _parameter(
        2.0,
        "Without an image for this long, /diagnostics reports the input as an error.",
        lowest=0.1,
        highest=3600.0,
    )
    diagnostics_period_s: float = _parameter(
        1.0, "Time between two messages on /diagnostics.", lowest=0.1, highest=60.0
    )
    executor: str = _parameter(
        "single_threaded",
        "rclpy executor; events costs less CPU per frame where rclpy has it.",
        choices=("single_threaded", "events"),
    )

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ConfigError: a value has the wrong type, is out of range or not among its choices.

        """
        for parameter in fields(self):
            _check(parameter, getattr(self, parameter.name))

    def with_values(self, values: dict[str, Any]) -> NodeConfig:
        """Return a copy with some parameters changed.

        Raises:
            ConfigError: see ``__post_init__``.

        """
        return replace(self, **values)


def _check(parameter: Field[Any], value: Value) -> None:
    name, metadata = parameter.name, parameter.metadata
    expected = type(parameter.default)
    if type(value) is not expected:
        msg = f"parameter {name} must be a {expected.__name__}, found {value!r}"
        raise ConfigError(msg)
    if metadata["choices"] and value not in metadata["choices"]:
        msg = f"parameter {name} must be one of {', '.join(metadata['choices'])}, found {value!r}"
        raise ConfigError(msg)
    if metadata["lowest"] is None:
        return
    if not isinstance(value, str) and not metadata["lowest"] <= value <= metadata["highest"]:
        msg = (
            f"parameter {name} must be {metadata['lowest']} to {metadata['highest']}, "
            f"found {'NaN' if math.isnan(value) else value}"
        )
        raise ConfigError(msg)
