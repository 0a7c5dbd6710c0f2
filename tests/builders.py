# SPDX-License-Identifier: Apache-2.0
"""Small real things for tests: images, a network that sees colours, bundles, messages, bags."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
from onnx import TensorProto, helper
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from perception_node.model.bundle import Input, Manifest, Output, Preprocessing, write_bundle

ROOT = Path(__file__).resolve().parent.parent
SAMPLE_BAG = ROOT / "samples/photos"
TYPES = get_typestore(Stores.ROS2_JAZZY)

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)  # RGB
LABELS = ("red", "green", "blue")
SIDE = 8
START_NS = 1_700_000_000_000_000_000

MANIFEST = Manifest(
    name="colors",
    license="Apache-2.0",
    input=Input("image", SIDE, SIDE),
    preprocessing=Preprocessing(
        color="RGB",
        resize="stretch",
        shorter_side=0,
        interpolation="bilinear",
        scale=1 / 255,
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
    ),
    output=Output("logits", "logits", len(LABELS)),
    provenance={"made": "by a test"},
)


def color_network(
    gain: float = 12.0,
    *,
    shape=(1, 3, SIDE, SIDE),
    classes: int = len(LABELS),
    input_type: int = TensorProto.FLOAT,
    output: str = "logits",
    batch: int | str = 1,
    softmax: bool = False,
) -> bytes:
    """Return an ONNX model: logit i is ``gain`` times the mean of colour plane i."""
    weights = np.zeros((shape[1], classes), np.float32)
    np.fill_diagonal(weights, gain)
    last = "raw" if softmax else output
    pooled = "image" if input_type == TensorProto.FLOAT else "float"
    nodes = [
        helper.make_node("ReduceMean", [pooled], ["means"], axes=[2, 3], keepdims=0),
        helper.make_node("MatMul", ["means", "weights"], [last]),
    ]
    if pooled == "float":
        nodes.insert(0, helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT))
    if softmax:
        nodes.append(helper.make_node("Softmax", ["raw"], [output], axis=1))
    graph = helper.make_graph(
        nodes,
        "colors",
        [helper.make_tensor_value_info("image", input_type, [batch, *shape[1:]])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [batch, classes])],
        [helper.make_tensor("weights", TensorProto.FLOAT, weights.shape, weights.ravel())],
    )
    return to_onnx(graph)


def to_onnx(graph) -> bytes:
    """Return a graph as a model that old and new ONNX Runtimes read."""
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def make_bundle(
    folder: Path,
    model: bytes | None = None,
    manifest: Manifest = MANIFEST,
    labels: tuple[str, ...] = LABELS,
) -> Path:
    """Write a bundle, by default one that tells red, green and blue apart."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "model.onnx").write_bytes(color_network() if model is None else model)
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in labels))
    write_bundle(folder, manifest)
    return folder


def with_preprocessing(**changes) -> Manifest:
    return replace(MANIFEST, preprocessing=replace(MANIFEST.preprocessing, **changes))


def solid(color, height: int = 48, width: int = 64):
    """Return an RGB image of one colour."""
    return np.full((height, width, 3), color, np.uint8)


def quadrants(height: int = 48, width: int = 64):
    """Return an RGB image: red and green above, blue and white below."""
    image = np.empty((height, width, 3), np.uint8)
    image[: height // 2, : width // 2] = RED
    image[: height // 2, width // 2 :] = GREEN
    image[height // 2 :, : width // 2] = BLUE
    image[height // 2 :, width // 2 :] = WHITE
    return image


def smooth(height: int = 120, width: int = 160, seed: int = 0):
    """Return a colourful RGB image without hard edges."""
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def encode(rgb, extension: str = ".jpg", *parameters: int) -> bytes:
    """Return an RGB image as the bytes of a JPEG or PNG file."""
    done, data = cv2.imencode(extension, np.ascontiguousarray(rgb[..., ::-1]), list(parameters))
    assert done
    return data.tobytes()


def _header(stamp_ns: int, frame_id: str):
    time = TYPES.types["builtin_interfaces/msg/Time"](
        sec=stamp_ns // 10**9, nanosec=stamp_ns % 10**9
    )
    return TYPES.types["std_msgs/msg/Header"](stamp=time, frame_id=frame_id)


def image_message(
    pixels,
    encoding: str = "rgb8",
    *,
    stamp_ns: int = START_NS,
    frame_id: str = "camera",
    little_endian: bool = True,
    **fields,
) -> bytes:
    """Serialize a sensor_msgs/Image with the serializer of rosbags."""
    values = {
        "height": pixels.shape[0],
        "width": pixels.shape[1],
        "step": pixels.strides[0],
        "is_bigendian": 0,
        "data": np.frombuffer(pixels.tobytes(), np.uint8),
        **fields,
    }
    message = TYPES.types["sensor_msgs/msg/Image"](
        header=_header(stamp_ns, frame_id), encoding=encoding, **values
    )
    kind = "sensor_msgs/msg/Image"
    return bytes(TYPES.serialize_cdr(message, kind, little_endian=little_endian))


def compressed_message(
    data: bytes,
    *,
    stamp_ns: int = START_NS,
    frame_id: str = "camera",
    little_endian: bool = True,
    format_name: str = "jpeg",
) -> bytes:
    """Serialize a sensor_msgs/CompressedImage with the serializer of rosbags."""
    kind = "sensor_msgs/msg/CompressedImage"
    message = TYPES.types[kind](
        header=_header(stamp_ns, frame_id),
        format=format_name,
        data=np.frombuffer(data, np.uint8),
    )
    return bytes(TYPES.serialize_cdr(message, kind, little_endian=little_endian))


def string_message(text: str) -> bytes:
    kind = "std_msgs/msg/String"
    return bytes(TYPES.serialize_cdr(TYPES.types[kind](data=text), kind))


def write_bag(folder: Path, messages, storage: StoragePlugin = StoragePlugin.MCAP) -> Path:
    """Write (topic, type, time_ns, serialized message) rows as a bag."""
    with Writer(folder, version=9, storage_plugin=storage) as writer:
        connections = {}
        for topic, kind, time_ns, data in messages:
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=TYPES)
            writer.write(connections[topic], time_ns, data)
    return folder


def put_command(folder, name, script):
    """Make a program of the shell in ``folder``."""
    file = folder / name
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)


def perception(*arguments, **options):
    """Run the real command in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "perception_node.cli", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        **options,
    )
