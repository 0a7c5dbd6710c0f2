# SPDX-License-Identifier: Apache-2.0
"""Whatever number an option is given: one line, or it is done; never a traceback, never a hang."""

from __future__ import annotations

import argparse
import json
from importlib import import_module

import pytest
import yaml

from perception_node.bench.hil.scenario_file import load_scenario
from perception_node.cli import MODULES, VERBS, main
from perception_node.config.node_config import ALL_PARAMETERS, NodeConfig
from perception_node.errors import ConfigError
from perception_node.replay.golden_file import read_golden
from perception_node.terminal.output import parse_count, parse_number

HUGE = "1" + "0" * 400
NUMBERS = [
    "nan",
    "inf",
    "-inf",
    "-1",
    "0",
    HUGE,
    f"-{HUGE}",
    "9" * 5000,
    "1e400",
    "9" * 18,
    "0x10",
]
NUMBERS += ["", " ", "1_0", "٣", "1\n2", "--", "1e-400", "-0.0"]
OPTIONS = {
    "classify x.png": (
        "--top-k",
        "--threshold",
        "--threads",
        "--configure-timeout",
        "--max-image-pixels",
        "--mono16-range",
    ),
    "play x": ("--rate", "--wait-for"),
    "demo": ("--rate",),
    "replay x --live": ("--rate", "--top-k", "--threshold", "--threads"),
    "replay x --golden y": ("--tolerance", "--tolerance=score", "--tolerance=top"),
    "build x": ("--workspace-mib", "--optimization-level"),
    "calibrate x --images y": ("--samples", "--keep-float"),
    "evaluate x --images y": ("--samples", "--max-drop", "--min-agreement"),
    "bench pipeline --bag x": (
        "--runs",
        "--deadline-ms",
        "--rate",
        "--frames",
        "--warm-up",
        "--cameras",
        "--top-k",
        "--threshold",
        "--threads",
        "--size",
        "--parameter=top_k",
        "--parameter=max_rate_hz",
        "--parameter=engine_timeout_ms",
    ),
    "bench compare x y": ("--max-regression",),
    "import x -o y": (
        "--mean",
        "--std",
        "--scale",
        "--size",
        "--resize=shorter-side:",
        "--resize=stretch:",
        "--crop-pct",
        "--fill",
        "--fix-input=x",
        "--thresholds",
    ),
    "serve --model x": (
        "--port",
        "--queue",
        "--deadline-ms",
        "--max-body-mib",
        "--request-timeout",
        "--viewers",
        "--top-k",
        "--threshold",
        "--threads",
    ),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("verb", OPTIONS)
def test_every_number_is_one_line(verb, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # none of the files is here, so nothing is done
    monkeypatch.setenv("ROS_DOMAIN_ID", "0")
    words = verb.split()
    for option in OPTIONS[verb]:
        name, _, field = option.partition("=")
        for number in NUMBERS:
            value = f"{field}{'' if field.endswith(':') else '='}{number}" if field else number
            if verb == "demo" and number in {"1_0", "٣"}:
                continue  # it would really run
            code = main([*words, f"{name}={value}"])
            shown = capsys.readouterr()
            assert code in {2, 3}, (option, number[:20], shown.out[:200])
            assert shown.err.startswith("perception: "), (option, number[:20])
            assert shown.err.count("\n") == 1, shown.err[:500]
            assert len(shown.err) < 2500


def test_all_options_with_numbers_are_tried():
    """A new one must be added above."""
    listed = {option.partition("=")[0] for options in OPTIONS.values() for option in options}
    for verb in VERBS:
        parser = argparse.ArgumentParser()
        import_module(f"perception_node.cli.{MODULES.get(verb, verb)}").add_arguments(parser)
        for action in parser._actions:
            assert action.type not in {int, float}, "see parse_count and parse_number"
            if action.type in {parse_count, parse_number}:
                assert set(action.option_strings) & listed, action.option_strings


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", HUGE, "x", "", "9" * 5000])
def test_numbers_of_options_are_finite_and_short(text):
    for parse in (parse_count, parse_number):
        with pytest.raises(argparse.ArgumentTypeError):
            parse(text)


@pytest.mark.parametrize("value", [10**400, -(10**400), float("nan"), float("inf"), True, None])
def test_no_number_is_too_much_for_the_nodes_configuration(value):
    for name, known in ALL_PARAMETERS.items():
        if isinstance(known.default, (int, float)) and not isinstance(known.default, bool):
            with pytest.raises(ConfigError, match=name):
                NodeConfig().with_values({name: value})
        if isinstance(known.default, tuple):
            with pytest.raises(ConfigError, match=name):
                NodeConfig().with_values({name: (value,)})


SCENARIO = {
    "name": "s",
    "node": {"parameters": {"deadline_ms": 80, "max_rate_hz": 10.0}, "timeout_s": 5},
    "camera": {"rate_hz": 20, "seconds": 20, "warm_up_s": 2},
    "faults": [{"at_s": 3, "for_s": 1, "fault": "off"}],
    "steps": [{"at_s": 6, "do": "deactivate"}, {"at_s": 7, "do": "activate"}],
    "expect": {
        "latency_ms": {"p50": 20, "max": 100},
        "missed_percent": 1,
        "answered_percent": 99,
        "recovery_s": {"fault": 1},
        "diagnostics": [{"row": "input", "level": "ERROR", "within_s": 1.5}],
        "exit_code": 0,
    },
}
YAML_NUMBERS = [
    "1" + "0" * 400,
    "-1" + "0" * 400,
    "9" * 5000,
    "0x" + "f" * 5000,
    "0b" + "1" * 20_000,
    "0" + "7" * 6000,
    "1" + ":59" * 3000,
    "1_" * 3000 + "1",
    "1.0e+400",
    ".inf",
    "-.inf",
    ".nan",
]


def find_numbers(value, path=()):
    """Yield the place of each number of plain values."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from find_numbers(inner, (*path, key))
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from find_numbers(inner, (*path, number))
    elif isinstance(value, (int, float)):
        yield path


def with_word(value, path, word):
    """Return a copy of plain values with a word in the place of one."""
    if not path:
        return word
    items = value.items() if isinstance(value, dict) else enumerate(value)
    copied = {k: with_word(v, path[1:], word) if k == path[0] else v for k, v in items}
    return copied if isinstance(value, dict) else list(copied.values())


@pytest.mark.parametrize(
    "path", list(find_numbers(SCENARIO)), ids=lambda path: ".".join(map(str, path))
)
def test_a_scenario_with_any_number(path, tmp_path, capsys):
    file = tmp_path / "scenario.yaml"
    for number in YAML_NUMBERS:
        text = yaml.safe_dump(with_word(SCENARIO, path, "NUMBER"))
        file.write_text(text.replace("NUMBER", number))
        with pytest.raises(ConfigError) as caught:
            load_scenario(file)
        assert "\n" not in str(caught.value)
        assert main(["hil", str(file)]) == 2
        assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("score", ["1" + "0" * 400, "-1" + "0" * 400, "1e999", "NaN", "2", '"x"'])
def test_a_golden_file_with_any_score(tmp_path, score):
    record = {"topic": "/a", "time_ns": 1, "results": [{"class_id": "0", "label": "a"}]}
    record["results"][0]["score"] = "SCORE"
    file = tmp_path / "golden"
    file.write_text(json.dumps(record).replace('"SCORE"', score))
    with pytest.raises(ConfigError, match="no golden file"):
        read_golden(file)
