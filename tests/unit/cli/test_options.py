# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import argparse

from perception_node.cli import bench, bench_plan
from perception_node.cli.options import MODEL_PARAMETERS, add_model_arguments, to_config

GIVEN = {
    "model": "a",
    "top_k": 3,
    "threshold": 0.5,
    "threads": 2,
    "engine": "onnxruntime",
    "precision": "int8",
    "allow_ungated": True,
    "plan_store": "/b",
    "configure_timeout_s": 7.0,
}
WORDS = [
    *("--model", "a", "--top-k", "3", "--threshold", "0.5", "--threads", "2"),
    *("--engine", "onnxruntime", "--precision", "int8", "--allow-ungated"),
    *("--plan-store", "/b", "--configure-timeout", "7"),
]


def test_every_option_of_the_model_reaches_the_pipeline():
    parser = argparse.ArgumentParser()
    add_model_arguments(parser)
    config = to_config(parser.parse_args(WORDS))
    assert {name: config.values()[name] for name in MODEL_PARAMETERS} == GIVEN


def test_every_option_of_the_model_reaches_a_benchmark():
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    assert bench_plan._read_parameters(parser.parse_args(WORDS)) == GIVEN
    assert bench_plan._read_parameters(parser.parse_args([])) == {}
