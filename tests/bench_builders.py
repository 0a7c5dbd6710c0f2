# SPDX-License-Identifier: Apache-2.0
"""Reports as `perception bench` would write them, from made-up times."""

from __future__ import annotations

import math

import numpy as np

from perception_node.bench.reporting.durations import Durations
from perception_node.bench.reporting.measurement import Case, Report, Run, Timeline

MACHINE = {
    "cpu": "AMD EPYC",
    "architecture": "x86_64",
    "cores": 2,
    "usable_cores": 2,
    "virtual": True,
    "memory_mib": 24105,
    "kernel": "6.18.44",
    "load_average": 0.08,
    "versions": {"perception_node": "0.1.0", "Python": "3.11.7", "ONNX Runtime": "1.32.0"},
}
# p50 in ms of what a node does, after the measurements that the design rests on
STAGES = {
    "node": {
        "publish call": 0.45,
        "wait": 0.08,
        "read": 0.06,
        "preprocess": 0.4,
        "postprocess": 0.12,
        "publish": 0.25,
    },
    "naive": {"publish call": 0.45},
    "floor": {"publish call": 0.45},
}
OVERHEAD_MS = {"node": 1.9, "naive": 5.2, "floor": 1.5}


def make_report(*cases, seed=0, **fields):
    """Return a report; without cases, of one node case with baselines."""
    given = {"model": {"name": "efficientnet_lite0", "sha256": "ab" * 32, "engine": "CPU"}}
    return Report(
        **{
            "command": ["--size", "640x480"],
            "started_utc": "2026-11-22T20:00:00Z",
            "deadline_ms": 33.3,
            "machine": dict(MACHINE),
            "complete": True,
            **given,
            **fields,
        },
        cases=list(cases) or [make_node_case(seed=seed)],
    )


def make_load(size=(640, 480), rate_hz=30.0):
    width, height = size
    return {
        "name": f"{width}x{height} bgr8 raw at {rate_hz:g} Hz",
        "rate_hz": rate_hz,
        "width": width,
        "height": height,
        "encoding": "bgr8",
        "transport": "raw",
        "cameras": 1,
        "source": "samples",
    }


def make_node_case(size=(640, 480), frames=1000, repetitions=3, seed=0, **change):
    """Return runs in turns: bare, node, naive, floor, bare, node, ..."""
    source = np.random.default_rng(seed)
    runs = []
    for _ in range(repetitions):
        runs.append(make_bare_run(source, frames))
        runs += [
            make_node_run(source, subject, frames, pixels=size[0] * size[1], **change)
            for subject in ("node", "naive", "floor")
        ]
    return Case("node", make_load(size), [*runs, make_bare_run(source, frames)])


def make_bare_run(source, frames=1000, p50_ms=9.0):
    infer_ms = scatter(source, p50_ms, frames)
    resources = {"cpu_ms_per_frame": p50_ms * 1.02, "page_faults_per_frame": 0.1}
    times_s = [number / 30 for number in range(frames)]
    stages = {"infer": to_durations(infer_ms)}
    return Run("bare", stages, {}, resources, Timeline(times_s, list(infer_ms)))


def make_node_run(source, subject="node", frames=1000, *, pixels=640 * 480, slower=1.0, lost=0):
    """Return a run with ages of about 11 ms; `slower` is a factor on all, `lost` frames missed."""
    grow = (pixels / (640 * 480)) ** 0.5
    overhead_ms = scatter(source, OVERHEAD_MS[subject] * grow, frames, spread=0.15)
    infer_ms = scatter(source, 0.02 if subject == "floor" else 9.1, frames)
    ages_ms = slower * (overhead_ms + infer_ms)
    stages = {"end to end": ages_ms, "from schedule": ages_ms + scatter(source, 0.1, frames)}
    for name, p50_ms in STAGES[subject].items():
        stages[name] = scatter(source, p50_ms * grow, frames)
    if subject == "node":
        inside_ms = sum(stages[name] for name in list(STAGES["node"])[1:])
        own_ms = inside_ms - stages["wait"]
        stages |= {"infer": infer_ms, "overhead": ages_ms - infer_ms, "own code": own_ms}
        stages["transport"] = np.maximum(ages_ms - inside_ms - infer_ms, 0.05)
    if subject == "naive":
        stages["infer"] = infer_ms
    answered = np.ones(frames, bool)
    answered[source.choice(frames, lost, replace=False)] = False
    counts = {"sent": frames, "answered": frames - lost}
    counts["missed"] = int(np.sum(ages_ms[answered] > 33.3)) + lost
    if subject == "node":
        counts |= {"superseded": lost, "stale": 0, "late": 0, "malformed": 0, "failed": 0}
    cost_ms = {"node": 10.4, "naive": 24.0, "floor": 2.1}[subject] * slower
    resources = {
        "cpu_ms_per_frame": cost_ms * float(source.normal(1.0, 0.005)),
        "page_faults_per_frame": {"node": 0.4, "naive": 1500.0, "floor": 0.2}[subject],
        "memory_mib": 180.0,
        "involuntary_switches_per_frame": 0.3,
    }
    return Run(
        subject,
        {name: to_durations(values[answered]) for name, values in stages.items()},
        counts,
        resources,
        Timeline(
            [number / 30 for number in range(frames)],
            [
                float(age) if is_there else math.nan
                for age, is_there in zip(ages_ms, answered, strict=True)
            ],
        ),
    )


def make_startup_case(seconds=(1.9, 2.0, 2.1)):
    names = ("import", "configure", "activate", "start to active")
    runs = [
        Run("startup", {name: to_durations([1e3 * s]) for name in names}, {}, {}) for s in seconds
    ]
    return Case("startup", {}, runs)


def make_level_case(level, subject, stages, frames=1000, repetitions=3):
    source = np.random.default_rng(0)
    runs = []
    for _ in range(repetitions):
        times_ms = {name: scatter(source, p50_ms, frames) for name, p50_ms in stages.items()}
        main_ms = times_ms[next(reversed(stages))]
        timeline = Timeline([n / 30 for n in range(frames)], list(map(float, main_ms)))
        found = {name: to_durations(values) for name, values in times_ms.items()}
        runs.append(Run(subject, found, {}, {"cpu_ms_per_frame": 9.2}, timeline))
    return Case(level, make_load(), runs)


def scatter(source, p50_ms, count, spread=0.04):
    """Durations about a median: skewed to the right, neighbours alike, a few outliers."""
    slow = np.convolve(source.normal(0, 1, count + 29), np.full(30, 30**-0.5), "valid")
    noise = np.exp(spread * (0.6 * slow + 0.6 * np.abs(source.normal(0, 1, count)) - 0.4))
    noise[source.random(count) < 0.004] *= source.uniform(1.3, 1.9)
    return p50_ms * noise


def to_durations(times_ms):
    return Durations(int(time_ms * 1e6) for time_ms in times_ms)
