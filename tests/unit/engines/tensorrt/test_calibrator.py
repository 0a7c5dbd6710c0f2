# SPDX-License-Identifier: Apache-2.0
"""The classic calibration, asked as TensorRT asks: it swallows errors and copies nothing."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest

from perception_node.engines.plans import BuildOptions
from perception_node.engines.tensorrt.api import TensorRt, load_tensorrt
from perception_node.engines.tensorrt.builder import build_plan
from perception_node.engines.tensorrt.calibration_cache import new_cache
from perception_node.engines.tensorrt.calibrator import make_calibrator
from perception_node.errors import CalibrationError, EngineError, EnvironmentLacks
from tests.standin_cuda import StandinCuda
from tests.tensorrt_versions import VERSIONS, StandinVersion, has

WITH = [version for version in VERSIONS if has(version, "IBuilderConfig.int8_calibrator")]
WITHOUT = [version for version in VERSIONS if version not in WITH]
SHAPE = (1, 3, 2, 2)
CACHE = new_cache({"image": 0.5, "features": 0.25}).to_bytes()


def images(count):
    return [np.full(SHAPE, value, np.float32) for value in range(count)]


@pytest.fixture
def cuda():
    cuda = StandinCuda()
    yield cuda
    cuda.close()


@pytest.fixture(params=WITH)
def standin(request):
    return StandinVersion(request.param)


@pytest.fixture
def calibrate(standin):
    """Build with a calibrator and return it."""
    trt = TensorRt(standin.module, "tensorrt")

    def build(algorithm="minmax", **named):
        calibrator = make_calibrator(trt, algorithm, **named)
        try:
            build.built = build_plan(trt, b"onnx", "int8", BuildOptions(), calibrator=calibrator)
        finally:
            calibrator.close()
        return calibrator

    return build


def test_versions_with_calibrators_are_those_to_10():
    assert WITH
    assert all(version.startswith(("8.", "10.")) for version in WITH)
    assert all(version.startswith("11.") for version in WITHOUT)


@pytest.mark.parametrize("algorithm", ["entropy", "minmax"])
def test_every_image_is_given_to_tensorrt(calibrate, standin, cuda, algorithm):
    seen = []

    def watched():
        for image in images(3):
            yield image
            # TensorRT has read the image before it asks for the next one
            (addresses,) = standin.of("get_batch")[-1]
            content = ctypes.string_at(addresses[0], image.nbytes)
            seen.append(np.frombuffer(content, np.float32).reshape(SHAPE).copy())

    calibrator = calibrate(algorithm, images=watched(), cuda=cuda)
    assert calibrator.served == 3
    np.testing.assert_array_equal(seen, images(3))
    assert [len(addresses) for (addresses,) in standin.of("get_batch")] == [1, 1, 1]


def test_the_cache_that_tensorrt_writes_is_kept(calibrate, cuda):
    calibrator = calibrate("entropy", images=images(1), cuda=cuda)
    assert calibrator.written.startswith(b"TRT-")
    assert calibrator.written.endswith(b"-EntropyCalibration2\nimage: 3c810204\n")


@pytest.mark.parametrize("algorithm", ["entropy", "minmax"])
def test_with_a_cache_tensorrt_needs_no_image(calibrate, standin, algorithm):
    assert calibrate(algorithm, cache=CACHE).served == 0
    assert standin.of("calibrated from a cache") == [[]]
    assert calibrate.built.plan == b"ptrt plan"


def test_the_network_is_not_strongly_typed_and_may_be_int8(calibrate, standin):
    calibrate(cache=CACHE)
    assert [flag.name for (flag,) in standin.of("set_flag")] == ["FP16", "INT8"]
    ((flags,),) = standin.of("create_network")
    assert flags == 1 << standin.module.NetworkDefinitionCreationFlag.EXPLICIT_BATCH
    assert calibrate.built.is_strongly_typed is False


def test_its_batch_is_one_image(standin):
    trt = TensorRt(standin.module, "tensorrt")
    assert make_calibrator(trt, "minmax", cache=CACHE).native.get_batch_size() == 1


def test_an_error_of_the_reader_is_raised_after_the_build(calibrate, cuda):
    def broken():
        yield images(1)[0]
        msg = "cat.jpg changed"
        raise CalibrationError(msg)

    with pytest.raises(CalibrationError, match=r"cat\.jpg changed"):
        calibrate(images=broken(), cuda=cuda)


def test_ctrl_c_in_a_batch_is_not_swallowed(calibrate, cuda):
    def interrupted():
        yield images(1)[0]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(images=interrupted(), cuda=cuda)


@pytest.mark.parametrize("call", range(4))
def test_an_error_of_the_gpu_is_raised_after_the_build(calibrate, call):
    cuda = StandinCuda(fail_at=call)
    with pytest.raises(EngineError, match="the stand-in fails in"):
        calibrate(images=images(2), cuda=cuda)
    cuda.close()  # checks that nothing is left


def test_the_reason_is_told_also_where_tensorrt_makes_no_plan(cuda):
    standin = StandinVersion("10.3.0", fails=["build_serialized_network"])
    trt = TensorRt(standin.module, "tensorrt")
    calibrator = make_calibrator(trt, "minmax", images=[], cuda=cuda)
    with pytest.raises(CalibrationError, match="got no image"):
        build_plan(trt, b"onnx", "int8", BuildOptions(), calibrator=calibrator)


def test_no_images_are_refused(calibrate, cuda):
    with pytest.raises(CalibrationError, match="TensorRT got no image to calibrate with"):
        calibrate(images=[], cuda=cuda)


@pytest.mark.parametrize(
    ("image", "problem"),
    [
        (np.full(SHAPE, np.nan, np.float32), "no finite float32"),
        (np.full(SHAPE, np.inf, np.float32), "no finite float32"),
        (np.zeros(SHAPE, np.float64), "no finite float32"),
        (np.zeros((1, 3, 1, 1), np.float32), "another size"),
    ],
)
def test_an_image_that_would_spoil_the_scales_is_refused(calibrate, cuda, image, problem):
    with pytest.raises(CalibrationError, match=f"image 1 has .*{problem}"):
        calibrate(images=[images(1)[0], image], cuda=cuda)


@pytest.mark.parametrize("names", [[], ["image", "mask"]])
def test_a_list_of_another_length_is_never_returned(cuda, names):
    trt = TensorRt(StandinVersion("10.3.0").module, "tensorrt")
    calibrator = make_calibrator(trt, "minmax", images=images(1), cuda=cuda)
    assert calibrator.native.get_batch(names) is None
    with pytest.raises(CalibrationError, match=f"the model has {len(names)} inputs"):
        calibrator.check()


def test_the_cache_of_another_model_is_refused(calibrate, standin):
    foreign = new_cache({"image": 0.5, "other_model/conv1": 0.25}).to_bytes()
    with pytest.raises(CalibrationError, match=r"no tensor 'other_model/conv1'; run perception"):
        calibrate(cache=foreign)
    assert standin.of("build_serialized_network") == []


def test_the_cache_of_another_tensorrt_is_refused(calibrate):
    with pytest.raises(CalibrationError, match="written by TensorRT 8501, here is"):
        calibrate(cache=CACHE.replace(b"TRT-0-", b"TRT-8501-"))


def test_a_cache_that_tensorrt_does_not_take_is_an_error(standin):
    trt = TensorRt(standin.module, "tensorrt")
    calibrator = make_calibrator(trt, "minmax", cache=CACHE)
    assert calibrator.native.get_batch(["image"]) is None
    with pytest.raises(CalibrationError, match="did not take the calibration cache"):
        calibrator.check()


@pytest.mark.parametrize("version", WITHOUT)
def test_from_11_on_there_are_none(version):
    trt = TensorRt(StandinVersion(version).module, "tensorrt")
    with pytest.raises(
        EnvironmentLacks, match=f"tensorrt {version} has no calibrators.*--classic"
    ):
        make_calibrator(trt, "minmax", cache=CACHE)


def test_tensorrt_for_rtx_has_none():
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
    with pytest.raises(EnvironmentLacks, match=r"tensorrt-rtx .* has no calibrators"):
        make_calibrator(load_tensorrt("tensorrt-rtx"), "minmax", cache=CACHE)


@pytest.mark.parametrize(
    "named", [{}, {"images": [], "cache": CACHE}, {"images": []}], ids=["none", "both", "no CUDA"]
)
def test_a_calibrator_has_exactly_one_source(standin, named):
    with pytest.raises(ValueError, match="either images and CUDA, or a cache"):
        make_calibrator(TensorRt(standin.module, "tensorrt"), "minmax", **named)
