#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measure what `perception import` takes: seconds, and memory of all its processes together.

    .venv/bin/python tools/measure_import.py               a vision transformer of 1.2 GB
    .venv/bin/python tools/measure_import.py MODEL.onnx    a file that is there

The transformer is as large as a ViT-L/16 and has random weights. Memory is the proportional set
size (PSS): what processes share counts once.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SIDE, PATCH, CLASSES = 224, 16, 1000
TOKENS = (SIDE // PATCH) ** 2
SETTINGS = "--color RGB --resize stretch --mean 0.5 --std 0.5 --output logits".split()
PAUSE_S = 0.02


class Transformer:
    """Nodes and weights of a vision transformer with one head."""

    def __init__(self, width: int, depth: int) -> None:
        """Make it; ``width`` is the number of channels, ``depth`` that of its blocks."""
        self.nodes: list[onnx.NodeProto] = []
        self.weights: list[onnx.TensorProto] = []
        self._random = np.random.default_rng(0)
        patches = self.weight(width, 3, PATCH, PATCH)
        image = self.add("Conv", "image", patches, strides=[PATCH, PATCH])
        rows = self.add("Reshape", image, self.constant([1, width, TOKENS]))
        tokens = self.add("Transpose", rows, perm=[0, 2, 1])
        for _ in range(depth):
            tokens = self.attend(tokens, width)
            inner = self.project(self.normalise(tokens, width), width, 4 * width)
            outer = self.project(self.add("Relu", inner), 4 * width, width)
            tokens = self.add("Add", tokens, outer)
        mean = self.add("ReduceMean", tokens, axes=[1], keepdims=0)
        self.scores = self.project(mean, width, CLASSES)

    def attend(self, tokens: str, width: int) -> str:
        """Add a block of attention."""
        normal = self.normalise(tokens, width)
        query, key, value = (self.project(normal, width, width) for _ in range(3))
        turned = self.add("Transpose", key, perm=[0, 2, 1])
        share = self.add("Softmax", self.add("MatMul", query, turned), axis=-1)
        mixed = self.project(self.add("MatMul", share, value), width, width)
        return self.add("Add", tokens, mixed)

    def normalise(self, tokens: str, width: int) -> str:
        """Add a normalisation of each token."""
        ones = numpy_helper.from_array(np.ones(width, np.float32), self.name())
        self.weights.append(ones)
        return self.add("LayerNormalization", tokens, ones.name)

    def project(self, tokens: str, inputs: int, outputs: int) -> str:
        """Add a multiplication by weights."""
        return self.add("MatMul", tokens, self.weight(inputs, outputs))

    def weight(self, *shape: int) -> str:
        """Add random weights and return their name."""
        values = self._random.standard_normal(shape, np.float32) * np.float32(shape[0] ** -0.5)
        self.weights.append(numpy_helper.from_array(values, self.name()))
        return self.weights[-1].name

    def constant(self, values: list[int]) -> str:
        """Add integers and return their name."""
        self.weights.append(numpy_helper.from_array(np.array(values, np.int64), self.name()))
        return self.weights[-1].name

    def add(self, operator: str, *inputs: str, **attributes: object) -> str:
        """Add a node and return the name of its output."""
        name = self.name()
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def name(self) -> str:
        """Return a name that nothing has."""
        return f"t{len(self.nodes)}_{len(self.weights)}"

    def save(self, path: Path) -> None:
        """Write it as one file."""
        graph = helper.make_graph(
            self.nodes,
            "transformer",
            [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, SIDE, SIDE])],
            [helper.make_tensor_value_info(self.scores, TensorProto.FLOAT, [1, CLASSES])],
            self.weights,
        )
        opset = [helper.make_opsetid("", 17)]
        onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), path)


def main() -> None:
    """Measure one import and print the result."""
    arguments = parse_arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = arguments.model
        if model is None:
            model = folder / "transformer.onnx"
            Transformer(arguments.width, arguments.depth).save(model)
        labels = folder / "labels.txt"
        labels.write_text("".join(f"class {number}\n" for number in range(CLASSES)))
        command = [sys.executable, "-m", "perception_node.cli", "import", str(model)]
        command += ["-o", str(folder / "bundle"), "--labels", str(labels), *SETTINGS]
        found = measure(command)
        size_mib = model.stat().st_size / (1 << 20)
    found = {"model_mib": size_mib, **found, "peak_to_size": found["peak_mib"] / size_mib}
    if arguments.json:
        print(json.dumps(found))
    else:
        print("\n".join(f"{key:<14}{value:.2f}" for key, value in found.items()))


def measure(command: list[str]) -> dict[str, float]:
    """Run a command; return its seconds, those of processors, and its height of memory."""
    start, peak_kib = time.monotonic(), 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        while process.poll() is None:
            peak_kib = max(peak_kib, sum(map(pss_kib, family(process.pid))))
            time.sleep(PAUSE_S)
    if process.returncode:
        sys.exit(f"measure_import: the import failed, exit code {process.returncode}")
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "wall_s": time.monotonic() - start,
        "cpu_s": used.ru_utime + used.ru_stime,
        "peak_mib": peak_kib / 1024,
    }


def family(pid: int) -> list[int]:
    """Return a process and all below it."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        texts = [(task / "children").read_text() for task in tasks]
    except OSError:  # it has ended
        return []
    children = [int(child) for text in texts for child in text.split()]
    return [pid, *(each for child in children for each in family(child))]


def pss_kib(pid: int) -> int:
    """Return the memory of a process; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("Pss:")), 0)


def parse_arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description="Measure what an import takes.")
    parser.add_argument("model", type=Path, nargs="?", help="ONNX with 1000 classes")
    parser.add_argument("--width", type=int, default=1024, help="of the transformer (1024)")
    parser.add_argument("--depth", type=int, default=24, help="its number of blocks (24)")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
