# SPDX-License-Identifier: Apache-2.0
"""The classic int8 of TensorRT 8.6 to 10.x: it asks a calibrator for images or for a cache.

TensorRT's own way since is a model with Q/DQ nodes; this one is kept for Jetsons where it is
faster. TensorRT swallows what a calibrator raises and takes it for the end of the images: the
engine would be badly calibrated and nobody told. So nothing is raised to TensorRT here; what went
wrong is kept and raised when the build is over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from perception_node.engines.tensorrt.calibration_cache import (
    ANY_VERSION,
    CalibrationCache,
    parse_cache,
    version_number,
)
from perception_node.errors import CalibrationError, EnvironmentLacks, quote

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from typing import TypeVar

    from numpy.typing import NDArray

    from perception_node.engines.tensorrt.api import (
        IInt8Calibrator,
        ILayer,
        INetworkDefinition,
        TensorRt,
    )
    from perception_node.engines.tensorrt.calibration_cache import Algorithm
    from perception_node.engines.tensorrt.cuda.interface import Cuda, DeviceMemory, HostMemory

    T = TypeVar("T")

BATCH_SIZE = 1  # of networks with fixed shapes, whatever theirs is


class Calibrator:
    """One calibration: what TensorRT asks, answered from images or from a cache.

    Attributes:
        native: what TensorRT is given; it must live as long as the build.
        served: number of images that TensorRT took.
        written: the cache that TensorRT wrote, None if it has not.

    """

    native: IInt8Calibrator

    def __init__(
        self, images: Iterator[NDArray[np.float32]] | None, cache: bytes | None, cuda: Cuda | None
    ) -> None:
        """``make_calibrator`` is the way to make one."""
        self.served = 0
        self.written: bytes | None = None
        self._images = images
        self._cache = cache
        self._cuda = cuda
        self._memory: tuple[HostMemory, DeviceMemory] | None = None
        self._problem: BaseException | None = None

    def check_network(self, names: Collection[str]) -> None:
        """Refuse a cache that names tensors which a network does not have.

        Args:
            names: of all tensors of the network, see ``tensor_names``.

        Raises:
            CalibrationError: it is the cache of another model.

        """
        if self._cache is None:
            return
        foreign = [name for name in parse_cache(self._cache).scales if name not in names]
        if foreign:
            msg = (
                f"the calibration cache is of another model: this one has no tensor "
                f"{quote(foreign[0])}; run perception calibrate for this model"
            )
            raise CalibrationError(msg)

    def check(self) -> None:
        """Raise what went wrong while TensorRT built; call it after the build, plan or none.

        Raises:
            CalibrationError: TensorRT did not take the cache, or got no image.

        """
        if self._problem is not None:
            raise self._problem
        if self._images is not None and self.served == 0:
            msg = "TensorRT got no image to calibrate with; give it some"
            raise CalibrationError(msg)

    def close(self) -> None:
        """Free the memory of the GPU, on the thread that built."""
        memory, self._memory = self._memory, None
        for part in memory or ():
            part.free()

    def next_batch(self, names: list[str]) -> list[int] | None:
        """Return the address of the next image for each input, None when there are no more."""
        return self._keeping_problems(lambda: self._next_batch(names))

    def read_cache(self) -> bytes | None:
        """Return the cache, bytes that live as long as this object, or None without one."""
        return self._cache

    def write_cache(self, content: memoryview) -> None:
        """Keep what TensorRT found; its memory is TensorRT's and is gone after this call."""
        self._keeping_problems(lambda: self._keep(bytes(content)))

    def _keep(self, content: bytes) -> None:
        self.written = content

    def _keeping_problems(self, work: Callable[[], T]) -> T | None:
        if self._problem is not None:
            return None
        try:
            return work()
        except BaseException as error:  # noqa: BLE001 - raised by check(), also an interrupt
            self._problem = error
            return None

    def _next_batch(self, names: list[str]) -> list[int] | None:
        if self._images is None or self._cuda is None:
            msg = "TensorRT did not take the calibration cache; run perception calibrate again"
            raise CalibrationError(msg)
        if len(names) != 1:  # TensorRT would read past the end of a list that is too short
            msg = f"the model has {len(names)} inputs, and images are one; import it again"
            raise CalibrationError(msg)
        image = next(self._images, None)
        if image is None:
            return None
        address = self._upload(self._cuda, image)
        self.served += 1
        return [address]

    def _upload(self, cuda: Cuda, image: NDArray[np.float32]) -> int:
        if image.dtype != np.float32 or not np.isfinite(image).all():
            msg = f"image {self.served} has values that are no finite float32; leave it out"
            raise CalibrationError(msg)
        content = np.ascontiguousarray(image).reshape(-1).view(np.uint8)
        if self._memory is None:
            device = cuda.device_memory(content.size)
            try:
                self._memory = cuda.host_memory(content.size, mapped=False), device
            except BaseException:
                device.free()
                raise
        host, device = self._memory
        if content.size != device.size:
            msg = f"image {self.served} has another size than those before it; leave it out"
            raise CalibrationError(msg)
        host.array[:] = content
        cuda.upload(device.address, host.array)
        cuda.synchronize()  # TensorRT reads on a stream of its own
        return device.address


def make_calibrator(
    trt: TensorRt,
    algorithm: Algorithm,
    *,
    images: Iterable[NDArray[np.float32]] | None = None,
    cache: bytes | None = None,
    cuda: Cuda | None = None,
) -> Calibrator:
    """Return a calibrator for one build, from images or from a cache.

    Args:
        trt: which TensorRT; it must have calibrators.
        algorithm: how TensorRT finds ranges in images.
        images: inputs of the model, float32 (1, 3, height, width), all of one size.
        cache: scales that are known; TensorRT then asks for no image.
        cuda: of the thread that will build; for images only.

    Raises:
        EnvironmentLacks: this TensorRT has no calibrators.
        CalibrationError: the cache is none, or of another TensorRT.

    """
    check_has_calibrators(trt)
    if (images is None) == (cache is None) or (images is not None and cuda is None):
        msg = "a calibrator needs either images and CUDA, or a cache"
        raise ValueError(msg)
    fitting = None if cache is None else _fit_header(trt, algorithm, parse_cache(cache))
    calibrator = Calibrator(None if images is None else iter(images), fitting, cuda)
    calibrator.native = _make_native(trt, algorithm, calibrator)
    return calibrator


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


def tensor_names(network: INetworkDefinition) -> set[str]:
    """Return the names of a network's inputs and of all that its layers compute."""
    names = {network.get_input(index).name for index in range(network.num_inputs)}
    for index in range(network.num_layers):
        layer: ILayer = network.get_layer(index)
        names.update(layer.get_output(number).name for number in range(layer.num_outputs))
    return names


_NATIVE: dict[Algorithm, str] = {
    "entropy": "IInt8EntropyCalibrator2",
    "minmax": "IInt8MinMaxCalibrator",
}


def _fit_header(trt: TensorRt, algorithm: Algorithm, cache: CalibrationCache) -> bytes:
    """Return the cache as this TensorRT takes it; one that another TensorRT wrote is refused."""
    here = version_number(trt.version)
    if cache.version not in {ANY_VERSION, here}:
        msg = (
            f"the calibration cache was written by TensorRT {cache.version}, here is {here}; "
            f"run perception calibrate"
        )
        raise CalibrationError(msg)
    return CalibrationCache(here, algorithm, cache.scales).to_bytes()


def _make_native(trt: TensorRt, algorithm: Algorithm, calibrator: Calibrator) -> IInt8Calibrator:
    base: Any = getattr(trt.module, _NATIVE[algorithm])

    class Native(base):  # type: ignore[misc] # known only when TensorRT is imported
        """Passes TensorRT's questions on; nothing may be raised to it."""

        def __init__(self) -> None:
            base.__init__(self)  # without it the interpreter crashes

        def get_batch_size(self) -> int:
            return BATCH_SIZE

        def get_batch(self, names: list[str]) -> list[int] | None:
            return calibrator.next_batch(names)

        def read_calibration_cache(self) -> bytes | None:
            return calibrator.read_cache()

        def write_calibration_cache(self, cache: memoryview) -> None:
            calibrator.write_cache(cache)

    return Native()
