# SPDX-License-Identifier: Apache-2.0
"""The classic int8 of TensorRT 8.6 to 10.x: it asks a calibrator for a cache of scales.

TensorRT's own way since is a model with Q/DQ nodes; this one is kept for Jetsons where it is
faster. TensorRT asks for images where it does not take the cache, and swallows what a calibrator
raises: so nothing is raised to it, and ``check`` says it when the build is over.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from perception_node.engines.tensorrt.calibration_cache import (
    ANY_VERSION,
    parse_cache,
    version_number,
)
from perception_node.errors import CalibrationError, EnvironmentLacks, quote

if TYPE_CHECKING:
    from perception_node.engines.tensorrt.api import (
        IInt8Calibrator,
        ILayer,
        INetworkDefinition,
        TensorRt,
    )
    from perception_node.engines.tensorrt.calibration_cache import Algorithm

BATCH_SIZE = 1  # of networks with fixed shapes, whatever theirs is

_NATIVE: dict[Algorithm, str] = {
    "entropy": "IInt8EntropyCalibrator2",
    "minmax": "IInt8MinMaxCalibrator",
}


class Calibrator:
    """The calibration of one build, from a cache.

    Attributes:
        native: what TensorRT is given; it must live as long as the build.

    """

    def __init__(self, trt: TensorRt, content: bytes) -> None:
        """Prepare for a TensorRT that ``check_has_calibrators`` has let through.

        Raises:
            CalibrationError: ``content`` is no cache, or another TensorRT's.

        """
        cache = parse_cache(content)
        here = version_number(trt.version)
        if cache.version not in {ANY_VERSION, here}:
            msg = (
                f"the calibration cache was written by TensorRT {cache.version}, here is {here}; "
                f"run perception calibrate"
            )
            raise CalibrationError(msg)
        self._scales = cache.scales
        fitting = replace(cache, version=here).to_bytes()
        self.native: IInt8Calibrator = _make_native(trt, cache.algorithm, fitting)

    def check_network(self, network: INetworkDefinition) -> None:
        """Refuse a cache that names tensors which a network does not have.

        Raises:
            CalibrationError: it is the cache of another model.

        """
        names = _tensor_names(network)
        foreign = [name for name in self._scales if name not in names]
        if foreign:
            msg = (
                f"the calibration cache is of another model: this one has no tensor "
                f"{quote(foreign[0])}; run perception calibrate for this model"
            )
            raise CalibrationError(msg)

    def check(self) -> None:
        """Raise what went wrong while TensorRT built; call it after the build, plan or none.

        Raises:
            CalibrationError: TensorRT did not take the cache.

        """
        if self.native.wanted_images:
            msg = "TensorRT did not take the calibration cache; run perception calibrate again"
            raise CalibrationError(msg)


def check_has_calibrators(trt: TensorRt) -> None:
    """Refuse a TensorRT without calibrators.

    Raises:
        EnvironmentLacks: it has none, and what to do instead.

    """
    names = ("IBuilderConfig.int8_calibrator", *_NATIVE.values())
    if not all(map(trt.has, names)):
        msg = (
            f"{trt.backend} {trt.version} has no calibrators, which TensorRT has up to 10.x; "
            f"build without --classic, from model.int8.onnx"
        )
        raise EnvironmentLacks(msg)


def _tensor_names(network: INetworkDefinition) -> set[str]:
    """Return the names of a network's inputs and of all that its layers compute."""
    names = {network.get_input(index).name for index in range(network.num_inputs)}
    for index in range(network.num_layers):
        layer: ILayer = network.get_layer(index)
        names.update(layer.get_output(number).name for number in range(layer.num_outputs))
    return names


def _make_native(trt: TensorRt, algorithm: Algorithm, cache: bytes) -> IInt8Calibrator:
    base: Any = getattr(trt.module, _NATIVE[algorithm])

    class Native(base):  # type: ignore[misc] # known only when TensorRT is imported
        """Answers TensorRT's questions; nothing may be raised to it."""

        wanted_images = False

        def __init__(self) -> None:
            base.__init__(self)  # without it the interpreter crashes

        def get_batch_size(self) -> int:
            return BATCH_SIZE

        def get_batch(self, _names: list[str]) -> None:
            Native.wanted_images = True

        def read_calibration_cache(self) -> bytes:
            return cache  # lives as long as this object

        def write_calibration_cache(self, _cache: memoryview) -> None:
            """Do nothing: there are no new scales."""

    return Native()
