# SPDX-License-Identifier: Apache-2.0
"""The builder against modules with the names and enum values of every version."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from perception_node.engines.plans import BuildOptions
from perception_node.engines.tensorrt.api import TensorRt
from perception_node.engines.tensorrt.builder import build_plan
from perception_node.engines.tensorrt.inspection import Layer
from perception_node.engines.tensorrt.progress import ProgressReporter, make_monitor
from perception_node.errors import EngineBuildError
from tests.tensorrt_versions import VERSIONS, StandinVersion, has

TYPED = ("10.13.3.9", "10.16.1.11")
PRECISIONS = ("fp32", "fp16", "int8")


def is_typed(version):
    return version.startswith("11") or version in TYPED


def build(standin, precision="fp16", options=None, **named):
    trt = TensorRt(standin.module, "tensorrt")
    return build_plan(trt, b"onnx", precision, options or BuildOptions(), **named)


@pytest.fixture(params=VERSIONS)
def version(request):
    return request.param


@pytest.fixture
def standin(version):
    return StandinVersion(version)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_it_builds_with_the_names_of_every_version(standin, version, precision):
    built = build(standin, precision)
    assert built.plan == b"ptrt plan"
    assert built.is_strongly_typed == is_typed(version)
    assert built.layers == (Layer("conv", "Convolution", "fp32"),)
    assert standin.of("parse") == [[b"onnx"]]


def test_networks_get_the_flags_of_their_version(standin, version):
    build(standin)
    flag = standin.module.NetworkDefinitionCreationFlag
    expected = 1 << flag.EXPLICIT_BATCH if has_flag(version, "EXPLICIT_BATCH") else 0
    if is_typed(version):
        expected |= 1 << flag.STRONGLY_TYPED
    assert standin.of("create_network") == [[expected]]


def has_flag(version, name):
    return has(version, f"NetworkDefinitionCreationFlag.{name}")


@pytest.mark.parametrize(
    ("precision", "flags"), [("fp32", []), ("fp16", ["FP16"]), ("int8", ["FP16", "INT8"])]
)
def test_precision_is_a_flag_only_where_networks_are_not_typed(standin, version, precision, flags):
    build(standin, precision)
    set_flags = [flag.name for (flag,) in standin.of("set_flag")]
    assert set_flags == ([] if is_typed(version) else flags)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_only_fp32_does_without_tf32(standin, precision):
    build(standin, precision)
    cleared = [flag.name for (flag,) in standin.of("clear_flag")]
    assert cleared == (["TF32"] if precision == "fp32" else [])


def test_the_workspace_is_limited(standin):
    build(standin, options=BuildOptions(workspace_mib=256))
    pool = standin.module.MemoryPoolType.WORKSPACE
    assert standin.of("set_memory_pool_limit") == [[pool, 256 << 20]]


@pytest.mark.parametrize("level", [None, 0, 5])
def test_the_optimization_level_is_set_only_if_given(standin, level):
    build(standin, options=BuildOptions(optimization_level=level))
    ((_, config),) = standin.of("build_serialized_network")
    assert config.builder_optimization_level == level
    assert config.profiling_verbosity.name in {"DETAILED", "VERBOSE"}


def test_the_timing_cache_is_read_and_returned(standin):
    built = build(standin, timing_cache=b"old")
    assert standin.of("create_timing_cache") == [[b"old"]]
    assert built.timing_cache == b"timings"


@pytest.mark.parametrize("refusal", ["create_timing_cache", "set_timing_cache"])
def test_a_timing_cache_of_another_gpu_is_no_reason_to_fail(version, refusal):
    standin = StandinVersion(version, fails=[refusal])
    assert build(standin, timing_cache=b"other").timing_cache == b""
    assert standin.of("create_timing_cache") == [[b"other"], [b""]]


def test_rtx_has_no_timing_cache():
    standin = StandinVersion("11.4.0.106")
    trt = TensorRt(standin.module, "tensorrt-rtx")
    assert build_plan(trt, b"", "fp16", BuildOptions(), timing_cache=b"x").timing_cache == b""
    assert standin.of("create_timing_cache") == []


@pytest.mark.parametrize(
    ("method", "problem"),
    [
        ("create_network", "no network"),
        ("create_builder_config", "no configuration"),
        ("build_serialized_network", "no plan"),
    ],
)
def test_none_is_an_error_with_the_reason_from_the_log(version, method, problem):
    def log(logger):
        logger.log(SimpleNamespace(name="ERROR"), "out of\nmemory")

    standin = StandinVersion(version, fails=[method], log=log)
    with pytest.raises(EngineBuildError, match=f"{version} made {problem}: ") as caught:
        build(standin)
    assert "\n" not in str(caught.value)
    if method == "build_serialized_network":
        assert str(caught.value).endswith("out of memory")


def test_a_model_that_cannot_be_parsed_names_the_node(version):
    with pytest.raises(EngineBuildError, match="UNSUPPORTED_NODE at node 3: Assertion failed: no"):
        build(StandinVersion(version, fails=["parse"]))


def test_errors_of_an_earlier_build_are_not_told_again():
    standin = StandinVersion("10.3.0", fails=["build_serialized_network"])
    trt = TensorRt(standin.module, "tensorrt")
    trt.logger.log(SimpleNamespace(name="ERROR"), "long ago")
    with pytest.raises(EngineBuildError, match="logged no reason"):
        build_plan(trt, b"", "fp16", BuildOptions())


def test_progress_is_reported_where_tensorrt_reports_it(standin, version):
    reports = []
    reporter = ProgressReporter(reports.append, threading.Event())
    trt = TensorRt(standin.module, "tensorrt")
    build_plan(trt, b"", "fp16", BuildOptions(), monitor=make_monitor(trt, reporter))
    assert bool(reports) == has(version, "IProgressMonitor")


def test_a_cancelled_build_makes_no_plan():
    standin = StandinVersion("10.3.0")
    trt = TensorRt(standin.module, "tensorrt")
    cancel = threading.Event()
    cancel.set()
    monitor = make_monitor(trt, ProgressReporter(lambda _: None, cancel))
    with pytest.raises(EngineBuildError, match="no plan"):
        build_plan(trt, b"", "fp16", BuildOptions(), monitor=monitor)
