# SPDX-License-Identifier: Apache-2.0
"""``ensure_plan(classic=True)``: int8 from ``model.onnx`` and ``calibration.cache``."""

from __future__ import annotations

import pytest

from perception_node.cli import main
from perception_node.config.sections import ModelConfig
from perception_node.engines.loading import Phases
from perception_node.engines.plans import NewPlan, PlanStore
from perception_node.engines.registry import Order
from perception_node.engines.tensorrt import build as build_module
from perception_node.engines.tensorrt import loading
from perception_node.engines.tensorrt.api import TensorRt
from perception_node.engines.tensorrt.build import ensure_plan, fingerprint_of
from perception_node.engines.tensorrt.calibration_cache import CalibrationCache
from perception_node.errors import (
    CalibrationError,
    EngineBuildError,
    EnvironmentLacks,
    PlanMismatch,
    PlanMissing,
    UngatedModel,
)
from perception_node.model.bundle import add_files, load_bundle
from tests.builders import make_bundle
from tests.standin_cuda import StandinCuda, standin_gpu
from tests.standin_tensorrt import standin_engine, standin_tensorrt
from tests.tensorrt_versions import StandinVersion

LAYER = {"Name": "conv", "LayerType": "CaskConvolution", "Inputs": [{"Format/Datatype": "Int8"}]}
CACHE = CalibrationCache({"image": 0.5, "features": 0.25}).to_bytes()


@pytest.fixture
def store(tmp_path):
    return PlanStore(tmp_path / "plans")


@pytest.fixture
def bundle(tmp_path):
    """A bundle with int8 files; the stand-in does not look into the model."""
    folder = tmp_path / "colors"
    folder.mkdir()
    made = load_bundle(make_bundle(folder))
    return add_files(made, {"model.int8.onnx": made.read(), "calibration.cache": CACHE})


@pytest.fixture
def robot(monkeypatch, bundle):
    """Make a machine with stand-ins for a GPU and a TensorRT of some version."""

    def make(version):
        standin = StandinVersion(version, plan=bundle.read())
        trt = TensorRt(standin.module, "tensorrt")
        monkeypatch.setattr(build_module, "find_gpu", standin_gpu)
        monkeypatch.setattr(build_module, "load_tensorrt", lambda _backend: trt)
        monkeypatch.setattr(build_module, "PyCuda", StandinCuda)
        monkeypatch.setattr(build_module, "inspect_plan", lambda _trt, _plan: {"Layers": [LAYER]})
        monkeypatch.setattr(
            build_module,
            "TensorRtEngine",
            lambda made_from, _plan, _trt, cuda, *, precision, debug: standin_engine(
                made_from, cuda, debug=debug and precision == "int8"
            ),
        )
        return standin

    return make


def build(bundle, store, precision="int8", *, allow_ungated=True, classic=True):
    return ensure_plan(
        bundle, precision, "tensorrt", store, allow_ungated=allow_ungated, classic=classic
    )


@pytest.mark.parametrize("version", ["8.6.1", "10.3.0", "10.16.1.11"])
def test_tensorrt_gets_the_float32_model_and_the_cache(robot, bundle, store, version):
    standin = robot(version)
    plan = build(bundle, store)
    assert standin.of("parse") == [[bundle.read()]]
    assert standin.of("calibrated from a cache") == [[]]
    assert plan.details["model_file"] == "model.onnx"
    assert plan.details["strongly_typed"] is False
    assert plan.fingerprint.onnx_sha256 == bundle.files["model.onnx"]
    assert plan.fingerprint.calibration_sha256 == bundle.files["calibration.cache"]


def test_another_calibration_is_another_plan(robot, bundle, store):
    robot("10.3.0")
    first = build(bundle, store)
    other = CalibrationCache({"image": 0.25, "features": 0.25}).to_bytes()
    second = build(add_files(bundle, {"calibration.cache": other}), store)
    assert first.fingerprint.key() != second.fingerprint.key()
    assert len(store.entries()) == 2


def test_the_accuracy_gate_holds(robot, bundle, store):
    robot("10.3.0")
    with pytest.raises(UngatedModel, match="never measured"):
        build(bundle, store, allow_ungated=False)


def test_without_a_cache_it_says_how_to_make_one(robot, store, tmp_path):
    robot("10.3.0")
    folder = tmp_path / "plain"
    folder.mkdir()
    plain = load_bundle(make_bundle(folder))
    plain = add_files(plain, {"model.int8.onnx": plain.read()})
    with pytest.raises(EngineBuildError, match=r"calibration\.cache: missing; .*perception calib"):
        build(plain, store)


def test_the_cache_of_another_model_is_refused_and_nothing_stored(robot, bundle, store):
    robot("10.3.0")
    foreign = CalibrationCache({"somewhere": 0.25}).to_bytes()
    with pytest.raises(CalibrationError, match="of another model"):
        build(add_files(bundle, {"calibration.cache": foreign}), store)
    assert store.entries() == []


def test_from_11_on_it_is_refused(robot, bundle, store):
    robot("11.0.0.114")
    with pytest.raises(EnvironmentLacks, match=r"11\.0\.0\.114 has no calibrators.*--classic"):
        build(bundle, store)


def test_it_is_for_int8(robot, bundle, store):
    robot("10.3.0")
    with pytest.raises(EngineBuildError, match="for int8, not fp16; leave out --classic"):
        build(bundle, store, "fp16")


def test_the_verb_has_it(robot, bundle, store, capsys):
    standin = robot("10.3.0")
    folder = ["--store", str(store.folder)]
    verb = ["build", str(bundle.path), "--precision", "int8", "--classic", "--allow-ungated"]
    assert main([*verb, *folder]) == 0, capsys.readouterr().err
    assert standin.of("calibrated from a cache") == [[]]


@pytest.fixture
def node(monkeypatch):
    """Make a machine that can run plans, which are ONNX models here."""
    trt = standin_tensorrt()
    monkeypatch.setattr(loading, "find_gpu", standin_gpu)
    monkeypatch.setattr(loading, "load_tensorrt", lambda: trt)
    monkeypatch.setattr(loading, "PyCuda", StandinCuda)
    return trt


def keep(store, bundle, trt, content, **named):
    fingerprint = fingerprint_of(bundle, "int8", trt, standin_gpu(), **named)
    store.build_once(bundle.manifest.name, fingerprint, lambda: NewPlan(content, {}))


def load(bundle, store):
    config = ModelConfig(plan_store=str(store.folder), allow_ungated=True)
    return loading.load_engine(Order(bundle, "int8", config, Phases()))


def test_the_node_runs_a_classic_plan_where_there_is_no_other(node, bundle, store):
    with pytest.raises(PlanMissing):
        load(bundle, store)
    keep(store, bundle, node, bundle.read(), classic=True)
    load(bundle, store).close()


def test_the_node_prefers_the_plan_of_the_int8_model(node, bundle, store, monkeypatch):
    plans = []
    monkeypatch.setattr(
        loading, "TensorRtEngine", lambda _bundle, plan, *_, **__: plans.append(plan)
    )
    keep(store, bundle, node, b"classic", classic=True)
    load(bundle, store)
    keep(store, bundle, node, b"typed")
    load(bundle, store)
    assert plans == [b"classic", b"typed"]


def test_a_classic_plan_of_another_calibration_is_not_run(node, bundle, store):
    keep(store, bundle, node, bundle.read(), classic=True)
    other = CalibrationCache({"image": 0.25}).to_bytes()
    with pytest.raises(PlanMismatch, match="calibration_sha256"):
        load(add_files(bundle, {"calibration.cache": other}), store)
