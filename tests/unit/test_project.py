# SPDX-License-Identifier: Apache-2.0
"""Rules of the project that no linter knows."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
from xml.etree import ElementTree as ET

import pytest

from perception_node import __version__
from perception_node.config.sections import ModelConfig
from perception_node.engines.selection import load_pipeline
from tests.builders import ROOT
from tools import generate_layers
from tools.generate_layers import LAYERS

ROS_PACKAGES = {
    "action_msgs",
    "ament_index_python",
    "builtin_interfaces",
    "diagnostic_msgs",
    "launch",
    "launch_ros",
    "lifecycle_msgs",
    "rcl_interfaces",
    "rclpy",
    "rosgraph_msgs",
    "sensor_msgs",
    "std_msgs",
    "vision_msgs",
}
FOLDERS = ("perception_node", "engines", "calibration", "bench")
EVERYTHING = sorted(file for folder in FOLDERS for file in (ROOT / folder).rglob("*.py"))
# What imports rclpy and messages: the border to ROS, who watches a node, who attacks one.
SPEAKS_ROS = ("perception_node/ros/", "perception_node/live/node_watcher.py", "bench/")
SPEAKS_ROS += ("perception_node/live/watched_topics.py",)


def name_of(file):
    return str(file.relative_to(ROOT))


def imports_of(file):
    """Return every module that a file imports, wherever it does."""
    names = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return names


def test_package_xml_has_the_version_of_the_package():
    package = ET.parse(ROOT / "package.xml").getroot()
    assert package.findtext("version") == __version__
    assert package.findtext("name") == "perception_node"


@pytest.mark.parametrize(
    "tool", ["generate_parameters", "generate_benchmark_table", "generate_layers"]
)
def test_generated_files_are_up_to_date(tool):
    result = subprocess.run(
        [sys.executable, f"tools/{tool}.py", "--check"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_there_is_something_to_look_at():
    names = {name_of(file) for file in EVERYTHING}
    assert {"engines/pipeline.py", "bench/hil/host.py", "perception_node/cli/replay.py"} <= names
    assert all(any(name.startswith(each) for name in names) for each in SPEAKS_ROS)


@pytest.mark.parametrize(
    "file", [f for f in EVERYTHING if not name_of(f).startswith(SPEAKS_ROS)], ids=name_of
)
def test_the_core_knows_no_ros(file):
    packages = {module.partition(".")[0] for module in imports_of(file)}
    assert not packages & ROS_PACKAGES


@pytest.mark.parametrize("folder", LAYERS)
def test_a_folder_imports_what_architecture_says_and_that_is_lower(folder):
    assert generate_layers.arrows(folder) == set(LAYERS[folder])
    lower = [*LAYERS][: [*LAYERS].index(folder)]
    assert set(LAYERS[folder]) <= set(lower)


def test_all_lies_in_a_folder_that_has_a_place():
    folders = {file.parent.name for file in (ROOT / "perception_node").glob("*/__init__.py")}
    assert folders == set(LAYERS)
    modules = {file.stem for file in (ROOT / "perception_node").glob("*.py")}
    known = {*generate_layers.EVERYBODYS, *generate_layers.ENTRIES, "__init__"}
    assert modules == known
    for name in known:
        imported = generate_layers.imported_by(ROOT / f"perception_node/{name}.py")
        allowed = {*generate_layers.ENTRIES.get(name, ()), ""}
        assert {generate_layers.folder_of(module) for module in imported} <= allowed


@pytest.mark.parametrize("file", EVERYTHING, ids=name_of)
def test_every_file_states_its_licence(file):
    assert file.read_text().splitlines()[0] == "# SPDX-License-Identifier: Apache-2.0"


@pytest.mark.parametrize("file", EVERYTHING, ids=name_of)
def test_nothing_that_runs_code_from_data_is_used(file):
    assert not imports_of(file) & {"pickle", "marshal", "shelve", "dill", "joblib"}
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in {"eval", "exec", "yaml.load", "yaml.unsafe_load", "os.system"}
            assert not any(keyword.arg == "shell" for keyword in node.keywords)


def test_the_network_is_not_used(color_bundle, monkeypatch):
    def refuse(*_arguments, **_options):
        pytest.fail("a socket was opened")

    monkeypatch.setattr("socket.socket", refuse)
    with load_pipeline(ModelConfig(model=str(color_bundle))):
        pass


def test_onnx_runtime_reports_to_nobody(tmp_path):
    """Its telemetry begins with a file in the user's cache."""
    program = (
        "from perception_node.config.sections import ModelConfig\n"
        "from perception_node.engines.selection import load_pipeline\n"
        "load_pipeline(ModelConfig()).close()"
    )
    environment = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"}
    homes = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", program], env={**environment, **homes}, check=True)
    assert list(tmp_path.rglob("*")) == []


def test_choosing_an_engine_needs_none_of_the_optional_packages():
    """A robot without a GPU has no TensorRT, a node converts nothing: both must start."""
    optional = ["tensorrt", "tensorrt_rtx_bindings", "pycuda", "torch", "onnx"]
    program = (
        "import sys; import perception_node.engines.selection\n"
        "import perception_node.engines.tensorrt.loading\n"
        f"print([name for name in {optional} if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "[]"


def test_a_readme_without_marks_is_left_alone():
    file = ROOT / "tools/generate_benchmark_table.py"
    spec = importlib.util.spec_from_file_location(file.stem, file)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    assert tool.with_table(f"before\n{tool.BEGIN}old\n{tool.END}\nafter").endswith("\nafter")
    for text in ("nothing", f"before\n{tool.BEGIN}after", f"{tool.END}{tool.BEGIN}after"):
        with pytest.raises(SystemExit, match=r"README\.md lacks"):
            tool.with_table(text)
