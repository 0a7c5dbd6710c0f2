# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import sys
import threading

import numpy as np
import pytest

from perception_node.engines.half_precision import to_half_precision
from perception_node.engines.plans import BuildOptions, PlanStore
from perception_node.engines.tensorrt import build as build_module
from perception_node.engines.tensorrt import machine
from perception_node.engines.tensorrt.acceptance import TOLERANCES
from perception_node.engines.tensorrt.api import TensorRt, load_tensorrt
from perception_node.engines.tensorrt.build import ensure_plan, fingerprint_of, require_gate
from perception_node.engines.tensorrt.machine import differences_to_this_machine
from perception_node.errors import (
    EngineBuildError,
    EngineError,
    EnvironmentLacks,
    PlanMismatch,
    PlanMissing,
    UngatedModel,
)
from perception_node.installing import MissingPackage
from perception_node.model.bundle import load_bundle
from tests.builders import MANIFEST, make_bundle
from tests.calibration_builders import quantize
from tests.gate_builders import gate, int8_bundle
from tests.standin_cuda import StandinCuda, standin_gpu
from tests.standin_tensorrt import standin_engine
from tests.tensorrt_builders import resnet18
from tests.tensorrt_versions import StandinVersion

LAYER = {"Name": "means", "LayerType": "CaskGemm", "Inputs": [{"Format/Datatype": "Half"}]}
INSPECTION = {"Layers": [LAYER]}


@pytest.fixture
def store(tmp_path):
    return PlanStore(tmp_path / "plans")


@pytest.fixture
def bundle(color_bundle):
    return load_bundle(color_bundle)


@pytest.fixture
def rtx(monkeypatch):
    """The real TensorRT-RTX on a machine without a GPU, where it builds all the same."""
    pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
    monkeypatch.setattr(build_module, "find_gpu", lambda: None)
    return load_tensorrt("tensorrt-rtx")


@pytest.mark.usefixtures("rtx")
def test_rtx_builds_and_stores_a_plan_that_is_not_accepted(bundle, store):
    plan = ensure_plan(bundle, "fp16", "tensorrt-rtx", store)
    assert plan.read().startswith(b"vtrt")
    assert plan.fingerprint.gpu == ""
    assert plan.details["acceptance"] == {"done": False, "why": "no NVIDIA GPU here"}
    assert plan.details["network_layers"]["MatrixMultiply"] == {"fp16": 1}
    assert plan.details["strongly_typed"] is True


def test_it_is_found_again_by_its_fingerprint(rtx, bundle, store):
    plan = ensure_plan(bundle, "fp16", "tensorrt-rtx", store)
    assert store.find("colors", fingerprint_of(bundle, "fp16", rtx, None)) == plan
    with pytest.raises(PlanMissing):
        store.find("colors", fingerprint_of(bundle, "fp32", rtx, None))


def test_a_plan_built_without_a_gpu_never_fits_one(rtx, bundle, store):
    ensure_plan(bundle, "fp16", "tensorrt-rtx", store)
    with pytest.raises(PlanMismatch, match="gpu: built for none, here Stand-in"):
        store.find("colors", fingerprint_of(bundle, "fp16", rtx, standin_gpu()))


@pytest.mark.usefixtures("rtx")
def test_int8_needs_a_calibrated_model(bundle, store):
    with pytest.raises(EngineBuildError, match=r"model\.int8\.onnx: missing; .*build fp16"):
        ensure_plan(bundle, "int8", "tensorrt-rtx", store)


@pytest.mark.usefixtures("rtx")
def test_int8_is_built_from_the_calibrated_model(tmp_path, store):
    folder = tmp_path / "resnet"
    folder.mkdir()
    model = resnet18(classes=3, side=8, width=8)
    batch = np.random.default_rng(0).normal(0, 1, (1, 3, 8, 8)).astype(np.float32)
    (folder / "model.int8.onnx").write_bytes(quantize(model, [batch]))
    bundle = load_bundle(make_bundle(folder, model, MANIFEST))
    with pytest.raises(UngatedModel, match=r"model\.int8\.onnx: its accuracy was never measured"):
        ensure_plan(bundle, "int8", "tensorrt-rtx", store)
    plan = ensure_plan(bundle, "int8", "tensorrt-rtx", store, allow_ungated=True)
    assert plan.details["model_file"] == "model.int8.onnx"
    assert plan.details["network_layers"]["Convolution"] == {"int8": 20}
    assert plan.fingerprint.onnx_sha256 == bundle.files["model.int8.onnx"]


@pytest.mark.usefixtures("rtx")
def test_int8_that_passed_the_gate_is_built_without_being_asked_to(tmp_path, store):
    bundle = gate(int8_bundle(tmp_path / "colors"), tmp_path)
    require_gate(bundle, "int8", allow_ungated=False)
    with pytest.raises(EngineBuildError, match="int8 was asked for"):
        ensure_plan(bundle, "int8", "tensorrt-rtx", store)  # as far as the builder


@pytest.mark.usefixtures("rtx")
def test_a_float16_model_of_the_bundle_is_used_as_it_is(tmp_path, store, bundle):
    half = to_half_precision(bundle.read())
    folder = tmp_path / "half"
    folder.mkdir()
    (folder / "model.fp16.onnx").write_bytes(half)
    plan = ensure_plan(load_bundle(make_bundle(folder)), "fp16", "tensorrt-rtx", store)
    assert plan.details["model_file"] == "model.fp16.onnx"
    assert plan.details["parsed_sha256"] == plan.fingerprint.onnx_sha256


@pytest.mark.usefixtures("rtx")
def test_a_float16_model_that_computes_in_float32_is_refused(tmp_path, store, bundle):
    folder = tmp_path / "lie"
    folder.mkdir()
    (folder / "model.fp16.onnx").write_bytes(bundle.read())
    lying = load_bundle(make_bundle(folder))
    with pytest.raises(
        EngineBuildError, match="fp16 was asked for, but these layers are not: node_of_logits"
    ):
        ensure_plan(lying, "fp16", "tensorrt-rtx", store)
    assert store.entries() == []


@pytest.mark.usefixtures("rtx")
def test_what_it_does_is_reported(bundle, store):
    reports = []
    ensure_plan(bundle, "fp16", "tensorrt-rtx", store, report=reports.append)
    phases = [report.phase for report in reports]
    assert phases[0] == "converting the model to float16"
    assert phases[-1] == "inspecting the plan"
    assert len(set(phases)) > 4


@pytest.mark.usefixtures("rtx")
def test_a_cancelled_build_leaves_the_store_as_it_was(bundle, store):
    cancel = threading.Event()
    cancel.set()
    with pytest.raises(EngineBuildError, match="cancelled"):
        ensure_plan(bundle, "fp16", "tensorrt-rtx", store, cancel=cancel)
    assert store.entries() == []


@pytest.mark.usefixtures("rtx")
def test_it_is_built_once_and_again_only_by_force(bundle, store):
    reports = []

    def build(**named):
        return ensure_plan(bundle, "fp16", "tensorrt-rtx", store, report=reports.append, **named)

    first = build()
    reports.clear()
    assert build() == first
    assert reports == []
    build(force=True)
    assert reports


@pytest.mark.usefixtures("rtx")
def test_without_the_onnx_package_it_says_so(bundle, store, monkeypatch):
    monkeypatch.setitem(sys.modules, "perception_node.engines.half_precision", None)
    with pytest.raises(MissingPackage):
        ensure_plan(bundle, "fp16", "tensorrt-rtx", store)


@pytest.mark.usefixtures("rtx")
def test_tensorrt_itself_needs_a_gpu(bundle, store, monkeypatch):
    trt = TensorRt(StandinVersion("10.3.0").module, "tensorrt")
    monkeypatch.setattr(build_module, "load_tensorrt", lambda _backend: trt)
    with pytest.raises(EnvironmentLacks, match="no NVIDIA GPU here"):
        ensure_plan(bundle, "fp16", "tensorrt", store)


@pytest.fixture
def robot(monkeypatch, bundle):
    """A machine with a stand-in for GPU and TensorRT; a plan is the ONNX model, and runs."""

    class Robot:
        standin = StandinVersion("10.3.0", plan=bundle.read())
        inspection = INSPECTION
        output_factor = 1.0

        def load(self, made_from, plan, _trt, cuda, *, precision, debug):
            assert plan == made_from.read()
            assert precision in {"fp16", "fp32"}
            engine = standin_engine(made_from, cuda, debug=debug)
            if self.output_factor != 1.0:
                infer = engine.infer

                def scaled():
                    infer()
                    engine.output *= self.output_factor

                engine.infer = scaled
            return engine

    robot = Robot()
    robot.trt = TensorRt(robot.standin.module, "tensorrt")
    monkeypatch.setattr(build_module, "find_gpu", standin_gpu)
    monkeypatch.setattr(build_module, "load_tensorrt", lambda _backend: robot.trt)
    monkeypatch.setattr(build_module, "PyCuda", StandinCuda)
    monkeypatch.setattr(build_module, "inspect_plan", lambda _trt, _plan: robot.inspection)
    monkeypatch.setattr(build_module, "TensorRtEngine", robot.load)
    return robot


def test_a_plan_is_built_run_compared_and_stored(robot, bundle, store):
    plan = ensure_plan(bundle, "fp16", "tensorrt", store)
    acceptance = plan.details["acceptance"]
    assert acceptance["done"] is True
    assert acceptance["difference"] < acceptance["tolerance"] == TOLERANCES["fp16"]
    assert plan.details["engine_layers"] == {"MatrixMultiply": {"fp16": 1}}
    assert plan.details["inspection"] == INSPECTION
    assert plan.fingerprint == fingerprint_of(bundle, "fp16", robot.trt, standin_gpu())
    assert plan.fingerprint.gpu == "Stand-in"


def test_before_10_12_tensorrt_gets_the_float32_model(robot, bundle, store):
    ensure_plan(bundle, "fp16", "tensorrt", store)
    assert robot.standin.of("parse") == [[bundle.read()]]


def test_a_plan_that_computes_something_else_is_not_stored(robot, bundle, store):
    robot.output_factor = 1.5
    with pytest.raises(EngineBuildError, match="differs from the model's"):
        ensure_plan(bundle, "fp16", "tensorrt", store)
    assert store.entries() == []


def test_a_plan_that_is_silently_float32_is_not_stored(robot, bundle, store):
    robot.inspection = {"Layers": [{**LAYER, "Inputs": [{"Format/Datatype": "Float"}]}]}
    with pytest.raises(
        EngineBuildError, match="fp16 was asked for, but these layers are not: means"
    ):
        ensure_plan(bundle, "fp16", "tensorrt", store)
    assert store.entries() == []


def test_a_plan_that_does_not_say_its_precision_is_not_stored(robot, bundle, store):
    robot.inspection = {"Layers": ["means"]}
    with pytest.raises(EngineBuildError, match="nothing shows whether fp16 was built"):
        ensure_plan(bundle, "fp16", "tensorrt", store)


def test_the_timing_cache_is_used_by_the_next_build(robot, bundle, store):
    ensure_plan(bundle, "fp16", "tensorrt", store)
    ensure_plan(bundle, "fp32", "tensorrt", store)
    assert robot.standin.of("create_timing_cache") == [[b""], [b"timings"]]


def test_what_is_missing_to_run_it_is_said_before_the_build(robot, bundle, store, monkeypatch):
    def fail():
        msg = "No module named 'pycuda'"
        raise EnvironmentLacks(msg)

    monkeypatch.setattr(build_module, "PyCuda", fail)
    with pytest.raises(EnvironmentLacks, match="pycuda"):
        ensure_plan(bundle, "fp16", "tensorrt", store)
    assert robot.standin.of("parse") == []


@pytest.mark.usefixtures("robot")
def test_an_engine_that_fails_is_not_stored(bundle, store, monkeypatch):
    def fail(*_, **__):
        msg = "out of memory"
        raise EngineError(msg)

    monkeypatch.setattr(build_module, "TensorRtEngine", fail)
    with pytest.raises(EngineError, match="out of memory"):
        ensure_plan(bundle, "fp16", "tensorrt", store)
    assert store.entries() == []


def test_other_options_are_another_plan(robot, bundle):
    one = fingerprint_of(bundle, "fp16", robot.trt, standin_gpu())
    other = fingerprint_of(bundle, "fp16", robot.trt, standin_gpu(), BuildOptions(256))
    assert one.differences(other) == ["options.workspace_mib: built for 512, here 256"]


def test_a_plan_of_this_machine_differs_in_nothing(robot, bundle, monkeypatch):
    monkeypatch.setattr(machine, "find_gpu", standin_gpu)
    monkeypatch.setattr(machine, "load_tensorrt", lambda _backend: robot.trt)
    fingerprint = fingerprint_of(bundle, "fp16", robot.trt, standin_gpu())
    assert differences_to_this_machine(fingerprint) == []
    monkeypatch.setattr(machine, "find_gpu", lambda: standin_gpu(integrated=True))
    assert differences_to_this_machine(fingerprint) == ["gpu: built for Stand-in, here Orin"]


def test_a_tensorrt_that_cannot_be_imported_is_no_difference(robot, bundle, monkeypatch):
    def fail(_backend):
        raise EnvironmentLacks

    monkeypatch.setattr(machine, "find_gpu", standin_gpu)
    monkeypatch.setattr(machine, "load_tensorrt", fail)
    fingerprint = fingerprint_of(bundle, "fp16", robot.trt, standin_gpu())
    assert differences_to_this_machine(fingerprint) == []


@pytest.mark.usefixtures("robot")
def test_the_manifest_can_be_read_by_people_and_programs(bundle, store):
    plan = ensure_plan(bundle, "fp16", "tensorrt", store)
    data = json.loads(plan.path.read_bytes())
    assert data["details"]["acceptance"]["tolerance"] == TOLERANCES["fp16"]
    assert data["details"]["parsed_sha256"] == bundle.files["model.onnx"]
