# SPDX-License-Identifier: Apache-2.0
"""Which layers int8 hurts most.

A layer's own error is that of the network's output when it alone is quantised, with the
activation behind it. It is measured in the flavour for ONNX Runtime, which quantises all that the
one for TensorRT does, and more, and which a CPU runs as it is.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from perception_node.calibration.calibrate import silent
from perception_node.calibration.quantization import (
    activations_of,
    quantizable,
    quantize_for_cpu,
)
from perception_node.engines.onnxruntime.session import open_session
from perception_node.errors import CalibrationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import onnx
    from numpy.typing import NDArray

    from perception_node.calibration.bias_correction import Means
    from perception_node.calibration.calibrate import Report
    from perception_node.calibration.ranges import Ranges
    from perception_node.untyped import OrtObject

MOST_IMAGES, FEWEST_IMAGES = 64, 8
RUNS = 3200  # of the network, about, for a ranking: a minute for a small one


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What one quantised layer costs.

    Attributes:
        convolution: name of its node.
        error: squared error of the network's output, relative to the output's own square.
        flips: number of images whose best class is another one.
        images: number of images it was measured on.

    """

    convolution: str
    error: float
    flips: int
    images: int


def rank_layers(
    prepared: onnx.ModelProto,
    ranges: Ranges,
    inputs: Iterable[NDArray[np.float32]],
    *,
    means: Means | None = None,
    report: Report = silent,
) -> list[Sensitivity]:
    """Return what each layer costs when it alone is quantised, worst first.

    The network runs some 3200 times, or 8 times for each layer if those are more than 400.
    The inputs are float32 (1, 3, height, width), the first 8 to 64 of which are used and kept;
    without ``means``, biases are not corrected.

    Raises:
        CalibrationError: there are no inputs.

    """
    names = quantizable(prepared)
    count = min(MOST_IMAGES, max(FEWEST_IMAGES, RUNS // len(names)))
    samples = list(islice(inputs, count))
    if not samples:
        msg = "there are no images to measure the layers on; give more"
        raise CalibrationError(msg)
    reference = _outputs(prepared.SerializeToString(), samples)
    found = []
    for done, name in enumerate(names, start=1):
        outputs = _outputs(_with_only(prepared, ranges, name, means), samples)
        found.append(_compare(name, outputs, reference))
        report("layers", done, len(names))
    return sorted(found, key=lambda each: -each.error)  # stable: the order of the model


def _with_only(
    prepared: onnx.ModelProto, ranges: Ranges, layer: str, means: Means | None
) -> bytes:
    """Return the model with one layer quantised, and the activation behind it."""
    alone = {layer, *activations_of(prepared, [layer])}
    others = [node.name for node in prepared.graph.node if node.name not in alone]
    return quantize_for_cpu(prepared, ranges, others, means=means)


def _compare(
    name: str, outputs: NDArray[np.float64], reference: NDArray[np.float64]
) -> Sensitivity:
    energy = max(float((reference**2).sum()), float(np.finfo(np.float64).tiny))
    flips = int((outputs.argmax(axis=1) != reference.argmax(axis=1)).sum())
    return Sensitivity(
        name, float(((outputs - reference) ** 2).sum()) / energy, flips, len(reference)
    )


def _outputs(model: bytes, samples: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    session = open_session(model)
    return np.concatenate([run_session(session, values) for values in samples]).astype(np.float64)


def run_session(session: OrtObject, values: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the output, float32 (1, classes), for an input (1, 3, height, width)."""
    output: NDArray[np.float32] = session.run(None, {session.get_inputs()[0].name: values})[0]
    return output
