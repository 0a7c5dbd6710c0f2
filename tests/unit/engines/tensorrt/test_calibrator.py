# SPDX-License-Identifier: Apache-2.0
"""The classic calibration, asked as TensorRT asks: it swallows errors."""

from __future__ import annotations

import pytest

from perception_node.engines.plans import BuildOptions
from perception_node.engines.tensorrt.api import TensorRt, load_tensorrt
from perception_node.engines.tensorrt.builder import build_plan
from perception_node.engines.tensorrt.calibration_cache import CalibrationCache
from perception_node.engines.tensorrt.calibrator import Calibrator, check_has_calibrators
from perception_node.errors import CalibrationError, EnvironmentLacks
from tests.tensorrt_versions import VERSIONS, StandinVersion, has

WITH = [version for version in VERSIONS if has(version, "IBuilderConfig.int8_calibrator")]
WITHOUT = [version for version in VERSIONS if version not in WITH]
SCALES = {"image": 0.5, "features": 0.25}
CACHE = CalibrationCache(SCALES).to_bytes()


@pytest.fixture(params=WITH)
def standin(request):
    return StandinVersion(request.param)


@pytest.fixture
def build(standin):
    """Build with a calibrator and return the plan."""
    trt = TensorRt(standin.module, "tensorrt")

    def build(cache):
        return build_plan(trt, b"onnx", "int8", BuildOptions(), calibrator=Calibrator(trt, cache))

    return build


def test_versions_with_calibrators_are_those_to_10():
    assert WITH
    assert all(version.startswith(("8.", "10.")) for version in WITH)
    assert all(version.startswith("11.") for version in WITHOUT)


@pytest.mark.parametrize("algorithm", ["entropy", "minmax"])
def test_with_a_cache_tensorrt_needs_no_image(build, standin, algorithm):
    assert build(CalibrationCache(SCALES, algorithm).to_bytes()).plan == b"ptrt plan"
    assert standin.of("calibrated from a cache") == [[]]


def test_the_network_is_not_strongly_typed_and_may_be_int8(build, standin):
    assert build(CACHE).is_strongly_typed is False
    assert [flag.name for (flag,) in standin.of("set_flag")] == ["FP16", "INT8"]
    ((flags,),) = standin.of("create_network")
    assert flags == 1 << standin.module.NetworkDefinitionCreationFlag.EXPLICIT_BATCH


def test_its_batch_is_one_image(standin):
    trt = TensorRt(standin.module, "tensorrt")
    assert Calibrator(trt, CACHE).native.get_batch_size() == 1


def test_the_cache_of_another_model_is_refused(build, standin):
    foreign = CalibrationCache({"image": 0.5, "other_model/conv1": 0.25}).to_bytes()
    with pytest.raises(CalibrationError, match=r"no tensor 'other_model/conv1'; run perception"):
        build(foreign)
    assert standin.of("build_serialized_network") == []


def test_the_cache_of_another_tensorrt_is_refused(build):
    with pytest.raises(CalibrationError, match="written by TensorRT 8501, here is"):
        build(CACHE.replace(b"TRT-0-", b"TRT-8501-"))


@pytest.mark.parametrize("fails", [(), ("build_serialized_network",)], ids=["plan", "no plan"])
@pytest.mark.parametrize("version", WITH)
def test_a_cache_that_tensorrt_does_not_take_is_an_error(version, fails):
    trt = TensorRt(StandinVersion(version, fails=fails, takes_caches=False).module, "tensorrt")
    with pytest.raises(CalibrationError, match="did not take the calibration cache"):
        build_plan(trt, b"onnx", "int8", BuildOptions(), calibrator=Calibrator(trt, CACHE))


@pytest.mark.parametrize("version", WITHOUT)
def test_from_11_on_there_are_none(version):
    trt = TensorRt(StandinVersion(version).module, "tensorrt")
    with pytest.raises(
        EnvironmentLacks, match=f"tensorrt {version} has no calibrators.*--classic"
    ):
        check_has_calibrators(trt)


def test_tensorrt_for_rtx_has_none():
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
    with pytest.raises(EnvironmentLacks, match=r"tensorrt-rtx .* has no calibrators"):
        check_has_calibrators(load_tensorrt("tensorrt-rtx"))
