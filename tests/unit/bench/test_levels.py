# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import json
import os
import sys
import time
from dataclasses import asdict
from itertools import pairwise

import numpy as np
import pytest

from perception_node.bench.camera.load import Load, make_messages, read_load
from perception_node.bench.levels import paced
from perception_node.bench.levels.child_process import run_measurement
from perception_node.bench.levels.node_level import RunInterrupted
from perception_node.bench.levels.paced import Schedule, pace, read_config
from perception_node.bench.levels.paced_run import (
    STEADY,
    PacedRun,
    describe_model,
    measure_first_inference,
    measure_paced,
)
from perception_node.config.sections import ModelConfig
from perception_node.engines.onnxruntime import OnnxRuntimeEngine
from perception_node.engines.pipeline import Pipeline
from perception_node.engines.selection import load_pipeline
from perception_node.errors import ConfigError, EnvironmentLacks
from perception_node.model.bundle import load_bundle
from perception_node.wire.images import ImageReader

RATE_HZ, FRAMES = 200.0, 20
LOAD = Load(rate_hz=RATE_HZ, frames=FRAMES, warm_up_frames=3, width=64, height=48)
NEVER_MS = 60_000.0
RESOURCES = {
    "cpu_ms_per_frame",
    "page_faults_per_frame",
    "memory_mib",
    "involuntary_switches_per_frame",
}


@pytest.fixture
def parameters(color_bundle):
    return {"model": str(color_bundle), "engine": "onnxruntime", "threads": 1}


def require_run(run, stages, frames=FRAMES, rate_hz=RATE_HZ):
    assert set(run.stages) == stages
    assert {len(durations) for durations in run.stages.values()} == {frames}
    assert run.counts == {"sent": frames, "answered": frames, "missed": 0}
    assert set(run.resources) == RESOURCES
    assert run.resources["cpu_ms_per_frame"] > 0
    assert run.resources["memory_mib"] > 10
    np.testing.assert_allclose(run.timeline.times_s, np.arange(frames) / rate_hz, atol=1e-6)
    assert len(run.timeline.ages_ms) == frames
    assert min(run.timeline.ages_ms) > 0


def test_bare_inference_keeps_the_pace_of_the_camera(parameters):
    progress = []
    run = measure_paced(LOAD, "bare", NEVER_MS, parameters, on_progress=progress.append)
    assert run.subject == "bare"
    require_run(run, {"infer"})
    assert {step.total for step in progress} == {FRAMES}
    assert all(step.sent == step.answered <= FRAMES for step in progress)
    assert progress[0].sent >= 1


def test_all_can_be_missed(parameters):
    run = measure_paced(LOAD, "bare", 0.0, parameters)
    assert run.counts == {"sent": FRAMES, "answered": FRAMES, "missed": FRAMES}


def test_bare_inference_is_fed_with_a_real_picture(color_bundle):
    bundle = load_bundle(color_bundle)
    frame = ImageReader("raw", 1 << 24, 16).read(bytes(make_messages(LOAD)[0]))
    with Pipeline(bundle, OnnxRuntimeEngine(bundle, 1)) as pipeline:
        pipeline.run(frame, top_k=1, threshold=0.0)
        expected = pipeline.engine.output.copy()
        pipeline.engine.input.fill(0.0)
        paced._fill_input(pipeline, frame)
        assert paced._infer(pipeline) > 0
        np.testing.assert_array_equal(pipeline.engine.output, expected)
        assert np.ptp(expected) > 0


def test_the_engine_that_runs_can_be_called_alone(parameters):
    with load_pipeline(ModelConfig(**parameters)) as pipeline:
        assert pipeline.engine.call(paced._infer) > 0


def test_the_whole_pipeline_has_its_stages(parameters):
    run = measure_paced(LOAD, "pipeline", NEVER_MS, parameters)
    assert run.subject == "pipeline"
    parts = ("read", "preprocess", "infer", "postprocess")
    require_run(run, {*parts, "total"})
    means = {name: durations.summarize().mean_ms for name, durations in run.stages.items()}
    assert sum(means[name] for name in parts) < means["total"] * 1.01  # a histogram's precision
    total = run.stages["total"].summarize()
    assert total.max_ms == pytest.approx(max(run.timeline.ages_ms), rel=0.01)


def test_two_cameras_with_compressed_images(parameters):
    load = Load(
        rate_hz=RATE_HZ,
        frames=FRAMES,
        warm_up_frames=1,
        width=64,
        height=48,
        transport="compressed",
        cameras=2,
    )
    run = measure_paced(load, "pipeline", NEVER_MS, parameters)
    stages = {"decode", "preprocess", "infer", "postprocess", "total"}
    require_run(run, stages, 2 * FRAMES, 2 * RATE_HZ)


def test_the_model_is_described(parameters, color_bundle):
    model = describe_model(parameters)
    assert model["name"] == "colors"
    assert model["sha256"] == load_bundle(color_bundle).files["model.onnx"]
    assert model["engine"].startswith("ONNX Runtime")
    assert "1 thread" in model["engine"]


def test_the_first_inference_is_measured_without_a_warm_up(parameters):
    first_ns, steady_ns = measure_first_inference(LOAD, parameters)
    assert first_ns > 0
    assert steady_ns > 0
    assert STEADY.stop - STEADY.start == 30


def test_the_schedule_is_absolute():
    late, due_ns = [], []
    for due in pace(1000.0, 10):
        late.append(time.monotonic_ns() - due)
        due_ns.append(due)
        if len(late) == 3:
            time.sleep(0.005)  # makes the next ones late and moves none
    assert {b - a for a, b in pairwise(due_ns)} == {1_000_000}
    assert min(late) >= 0
    assert late[3] >= 4_000_000


def test_at_rate_0_a_frame_is_due_at_once():
    begin_ns = time.monotonic_ns()
    assert list(pace(0.0, 10))[-1] - begin_ns < 1_000_000_000


def test_a_rate_that_is_not_kept_is_told_and_the_waiting_is_missed():
    run = PacedRun("pipeline", ("total",), Schedule(100.0, 20, 0), 50.0)
    for number in range(20):
        run._add([number * 10_000_000, number * 20_000_000, 5_000_000])
    made = run._make_run({}, ("another",))
    assert made.remarks[0].startswith("pipeline kept up with 50.0 of 100.0 frames per second only")
    assert made.remarks[1:] == ("another",)
    assert made.counts == {"sent": 20, "answered": 20, "missed": 15}
    assert made.stages["total"].summarize().max_ms == pytest.approx(5.0, rel=1e-3)


def test_a_task_is_plain_and_comes_back(tmp_path, color_bundle):
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(b"")
    load = Load(images=tmp_path, width=32, height=32, transport="compressed")
    assert read_load(json.loads(json.dumps(asdict(load), default=str))) == load
    config = read_config(
        {"model": str(color_bundle), "image_topics": ["a/image", "b/image"], "use_sim_time": True}
    )
    assert config.cameras.image_topics == ("a/image", "b/image")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "no_such_model"}, ["no_such_model not found"]),
        ({"threads": -1}, ["threads"]),
    ],
)
def test_a_wrong_parameter_is_one_line(parameters, change, words):
    with pytest.raises(ConfigError) as caught:
        measure_paced(LOAD, "bare", NEVER_MS, {**parameters, **change})
    assert "\n" not in str(caught.value)
    assert all(word in str(caught.value) for word in words)


def test_a_process_that_dies_is_one_line():
    with pytest.raises(EnvironmentLacks, match=r"ended with code 1: .*no_such_module") as caught:
        run_measurement("perception_node.bench.no_such_module", {})
    assert "\n" not in str(caught.value)


def test_an_interruption_ends_the_process(parameters):
    """Were it not ended, this would last longer than a test may."""

    def interrupt(_progress):
        raise KeyboardInterrupt

    load = Load(rate_hz=10.0, frames=100_000, warm_up_frames=0, width=64, height=48)
    with pytest.raises(RunInterrupted) as caught:
        measure_paced(load, "bare", NEVER_MS, parameters, on_progress=interrupt)
    assert caught.value.run.counts["sent"] == len(caught.value.run.stages["infer"]) == 1


def test_what_a_library_prints_is_no_result(tmp_path, monkeypatch):
    (tmp_path / "noisy_level.py").write_text(
        "import os\n"
        "from perception_node.bench.levels.child_process import answer\n"
        "def work(task, write_row):\n"
        "    print('[1, 2]', flush=True)\n"
        "    os.write(1, b'{\"result\": 1}\\n')\n"
        "    write_row([3, 4])\n"
        "    return {'task': task}\n"
        "answer(work)\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    rows = []
    assert run_measurement("noisy_level", {"a": 1}, rows.append) == {"task": {"a": 1}}
    assert rows == [[3, 4]]
