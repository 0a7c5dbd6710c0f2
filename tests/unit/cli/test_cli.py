# SPDX-License-Identifier: Apache-2.0
"""What all verbs share: help, exit codes, errors in one line, and imports that are paid for."""

from __future__ import annotations

import subprocess
import sys

import pytest

from perception_node import __version__
from perception_node.cli import VERBS, main
from tests.builders import ROOT, perception


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help_with_an_example(verb, capsys):
    with pytest.raises(SystemExit) as caught:
        main([verb, "--help"])
    assert caught.value.code == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert f"usage: perception {verb}" in shown
    assert f"example: perception {verb}" in shown


def test_help_lists_the_verbs(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--help"])
    assert caught.value.code == 0
    shown = capsys.readouterr().out
    for verb, what in VERBS.items():
        assert f"  {verb:<10}{what}" in shown


def test_the_version_is_that_of_the_package(capsys):
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"perception_node {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["dance"], ["classify"], ["replay", "--no-such-thing"]])
def test_arguments_that_make_no_sense_are_wrong_input(arguments, capsys):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("perception: ")
    assert captured.err.count("\n") == 1
    assert " --help" in captured.err
    assert captured.out == ""


def test_arguments_for_ros_are_left_to_ros(capsys):
    """Launch files append them to any command."""
    assert main(["doctor", "--json", "--ros-args", "-r", "__node:=doctor"]) in {0, 3}
    assert capsys.readouterr().out.startswith("{")


def test_a_package_that_is_missing_is_named_with_the_way_to_get_it():
    script = (
        "import sys; sys.modules['rosbags'] = None\n"
        "from perception_node.cli import main; sys.exit(main(['replay', 'samples/photos']))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert (result.returncode, result.stdout) == (3, "")
    assert result.stderr.startswith("perception: ")
    assert result.stderr.count("\n") == 1
    assert "pip install rosbags" in result.stderr


def test_a_module_of_ours_that_is_missing_is_a_bug(monkeypatch):
    monkeypatch.setitem(VERBS, "dance", "dance")
    with pytest.raises(ModuleNotFoundError):
        main(["dance"])


def test_the_arguments_of_the_process_are_the_default(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["perception", "--version"])
    with pytest.raises(SystemExit):
        main()
    assert __version__ in capsys.readouterr().out


def test_it_runs_as_a_module():
    result = perception("--version")
    assert (result.returncode, result.stdout) == (0, f"perception_node {__version__}\n")


def test_the_command_itself_is_light():
    """`perception --help` must not wait for OpenCV, ONNX Runtime or ROS."""
    script = (
        "import sys; import perception_node.cli\n"
        "heavy = {'numpy', 'cv2', 'onnxruntime', 'rosbags', 'rich', 'jsonschema', 'rclpy'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


@pytest.mark.parametrize("verb", ["classify", "replay", "doctor"])
def test_verbs_that_need_no_ros_do_not_import_it(verb):
    script = (
        f"import sys; import perception_node.cli.{verb}\n"
        "print(sorted({'rclpy', 'sensor_msgs', 'vision_msgs'} & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"
