# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest

from perception_node.config.sections import ModelConfig
from perception_node.engines.loading import Phases
from perception_node.engines.plans import BuildOptions, NewPlan, PlanStore
from perception_node.engines.registry import Order
from perception_node.engines.tensorrt import loading
from perception_node.engines.tensorrt.build import fingerprint_of
from perception_node.engines.tensorrt.loading import load_engine
from perception_node.errors import (
    EngineBuildError,
    EnvironmentLacks,
    PlanIntegrityError,
    PlanMismatch,
    PlanMissing,
    UngatedModel,
)
from perception_node.model.bundle import load_bundle
from tests.builders import color_network, make_bundle
from tests.gate_builders import gate, int8_bundle
from tests.standin_cuda import StandinCuda, standin_gpu
from tests.standin_tensorrt import standin_tensorrt


@pytest.fixture
def bundle(color_bundle):
    return load_bundle(color_bundle)


class Robot:
    """A machine with stand-ins for GPU and TensorRT; a plan is the ONNX model."""

    def __init__(self, folder):
        self.trt = standin_tensorrt()
        self.store = PlanStore(folder)

    def build(self, bundle, precision="fp16", *_arguments, **_options):
        fingerprint = fingerprint_of(bundle, precision, self.trt, standin_gpu(), BuildOptions(64))
        name, plan = bundle.manifest.name, bundle.read()
        return self.store.build_once(name, fingerprint, lambda: NewPlan(plan, {}))

    def load(self, bundle, precision="fp16", *, build_missing=False, **options):
        config = ModelConfig(
            plan_store=str(self.store.folder), build_missing_plan=build_missing, **options
        )
        return load_engine(Order(bundle, precision, config, Phases()))


@pytest.fixture
def robot(tmp_path, monkeypatch):
    robot = Robot(tmp_path / "plans")
    monkeypatch.setattr(loading, "find_gpu", standin_gpu)
    monkeypatch.setattr(loading, "load_tensorrt", lambda: robot.trt)
    monkeypatch.setattr(loading, "PyCuda", StandinCuda)
    monkeypatch.setattr(loading, "ensure_plan", robot.build)
    return robot


def test_a_stored_plan_runs_whatever_options_it_was_built_with(robot, bundle):
    robot.build(bundle)
    engine = robot.load(bundle)
    engine.input.fill(0.0)
    engine.input[0, 1] = 1.0
    engine.infer()
    assert np.argmax(engine.output) == 1
    assert engine.description.startswith("TensorRT 10.3.0, Stand-in")
    engine.close()


def test_without_a_gpu_nothing_else_is_looked_at(robot, bundle, monkeypatch):
    monkeypatch.setattr(loading, "find_gpu", lambda: None)
    monkeypatch.setattr(loading, "load_tensorrt", None)
    with pytest.raises(EnvironmentLacks, match="no NVIDIA GPU here"):
        robot.load(bundle)


def test_a_missing_plan_is_built_only_with_permission(robot, bundle):
    with pytest.raises(PlanMissing, match="perception build BUNDLE --precision fp16"):
        robot.load(bundle)
    robot.load(bundle, build_missing=True).close()
    robot.load(bundle).close()


def test_a_plan_of_other_weights_is_not_run(robot, bundle, tmp_path):
    robot.build(bundle)
    other = load_bundle(make_bundle(tmp_path / "other", color_network(gain=7.0)))
    with pytest.raises(PlanMismatch, match="onnx_sha256: built for"):
        robot.load(other)


def test_a_changed_plan_is_not_loaded(robot, bundle):
    stored = robot.build(bundle)
    plan = stored.path.with_name(stored.plan_file)
    plan.write_bytes(plan.read_bytes()[:-1] + b"\0")
    with pytest.raises(PlanIntegrityError):
        robot.load(bundle)


def test_an_int8_plan_that_was_built_all_the_same_is_not_run_unless_that_is_allowed(
    robot, tmp_path
):
    bundle = int8_bundle(tmp_path / "colors")
    robot.build(bundle, "int8")
    with pytest.raises(UngatedModel, match=r"model\.int8\.onnx: its accuracy was never measured"):
        robot.load(bundle, "int8")
    robot.load(bundle, "int8", allow_ungated=True).close()
    robot.load(gate(bundle, tmp_path), "int8").close()


def test_a_bundle_without_an_int8_model_says_how_to_make_one(robot, bundle):
    with pytest.raises(EngineBuildError, match=r"int8\.onnx: missing; .*perception calibrate"):
        robot.load(bundle, "int8")
