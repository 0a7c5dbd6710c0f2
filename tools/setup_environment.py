#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Prepare `.venv`: all that `make demo` and `make test` need, from the package index only.

Steps, each done again only when something it is made from has changed:

    python        a virtual environment with the pinned packages of requirements/*.txt
    vision_msgs   interfaces/vision_msgs, built where no ROS provides the real package
    package       this checkout, installed editable: .venv/bin/perception

and with --tests, which `make test` gives, what is too large for a demo:

    tensorrt-rtx  NVIDIA's parser and builder, on x86-64
    torch         PyTorch, which `perception import` needs: TORCH=cpu, any or no

Where a ROS is sourced its packages are used; elsewhere ROS 2 Jazzy comes as Python wheels.
Standard library only, and it starts on Python 3.7: it has to say that Python is too old.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
import time
from pathlib import Path
from typing import Iterable

NAME = "perception_node"
ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "set-up.json"
TORCH_VERSION = "2.13.0"
VERSION = f"python{sys.version_info[0]}.{sys.version_info[1]}"
SITE_PACKAGES = VENV / "lib" / VERSION / "site-packages"


class Problem(Exception):
    """Something this machine lacks, with the command that helps."""


class CommandFailed(Problem):
    """A command failed; its output says why."""

    def __init__(self, words: list[str], output: str) -> None:
        super().__init__(f"this failed: {' '.join(words)}")
        self.output = output


class LeftOut(Exception):
    """What can be done without is not to be had; it is tried again next time."""


def main() -> None:
    """Do the steps that are not done."""
    steps = {**STEPS, **(TEST_STEPS if "--tests" in sys.argv[1:] else {})}
    with Path(__file__).open("rb+") as this_file:
        fcntl.flock(this_file, fcntl.LOCK_EX)  # of two at a time one waits, and has nothing to do
        goal, done = goals(), read_stamp()
        if all(done.get(step) == goal[step] for step in steps):
            return
        check_machine()
        for number, (step, make) in enumerate(steps.items()):
            if done.get(step) == goal[step]:
                continue
            # Forgotten before it begins, so that what is interrupted is redone.
            done.pop(step, None)
            if step == "python":  # which holds the results of all the others
                done.clear()
            write_stamp(done)
            print(f"set-up {number + 1}/{len(steps)}: {step} ...", end=" ", flush=True)
            begin = time.monotonic()
            try:
                make()
            except LeftOut as why:
                print(why, flush=True)
                continue
            print(f"{time.monotonic() - begin:.0f} s", flush=True)
            done[step] = goal[step]
            write_stamp(done)


def goals() -> dict[str, str]:
    """Return for each step a digest of all that its result is made from."""
    # The folder's own path is part of it: a virtual environment does not survive a move.
    origin = [str(VENV), base_python(), sourced("rclpy")]
    hook = ROOT / "tools" / "ros_environment.py"
    definition = [ROOT / name for name in ("setup.py", "setup.cfg", "pyproject.toml")]
    return {
        "python": digest([*locks(), hook, Path(__file__).resolve()], origin),
        "vision_msgs": digest(interface().rglob("*"), [sourced("vision_msgs")]),
        "package": digest(definition, map(str, shared_files())),
        "tensorrt-rtx": digest([lock("tensorrt-rtx")]),
        "torch": digest([lock("torch")], [TORCH_VERSION, torch_choice()]),
    }


def make_python() -> None:
    """Create the virtual environment with the pinned packages."""
    shutil.rmtree(VENV, ignore_errors=True)
    # Beside a sourced ROS the system's packages stay visible: ROS needs some of them, and on a
    # Jetson TensorRT is one.
    options = ["--system-site-packages"] if sourced("rclpy") else []
    run(base_python(), "-m", "venv", *options, VENV)
    for file in locks():
        pip("--require-hashes", "--no-build-isolation", "--requirement", file)
    shutil.copy(ROOT / "tools" / "ros_environment.py", SITE_PACKAGES)
    # .pth files are read in alphabetical order, and this is before ros_wheels_bootstrapper.pth.
    (SITE_PACKAGES / "ros_environment.pth").write_text("import ros_environment\n")


def make_vision_msgs() -> None:
    """Build and install interfaces/vision_msgs, unless a sourced ROS has the real package."""
    shutil.rmtree(SITE_PACKAGES / "vision_msgs", ignore_errors=True)
    if sourced("vision_msgs"):
        return
    build = ROOT / "build" / "vision_msgs"
    shutil.rmtree(build, ignore_errors=True)
    prefixes = [str(VENV), *os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)]
    cmake = VENV / "bin" / "cmake"
    run(
        cmake,
        f"-S{interface()}",
        f"-B{build}",
        "-GUnix Makefiles",
        "-Wno-dev",
        "-DBUILD_TESTING=OFF",
        "-DCMAKE_BUILD_TYPE=Release",
        f"-DCMAKE_INSTALL_PREFIX={VENV}",
        f"-DCMAKE_PREFIX_PATH={';'.join(prefixes)}",
        f"-DPython3_EXECUTABLE={PYTHON}",
        "-DPython3_FIND_VIRTUALENV=ONLY",
        f"-DPYTHON_INSTALL_DIR={SITE_PACKAGES.relative_to(VENV)}",
    )
    run(cmake, "--build", build, "--target", "install", "--parallel", str(os.cpu_count() or 1))
    run(PYTHON, "-c", "from vision_msgs.msg import Classification")


def make_package() -> None:
    """Install this checkout editable, and as a ROS package."""
    pip("--no-index", "--no-build-isolation", "--editable", ROOT)
    # pip leaves out what ROS asks for: the data files of setup.py, the executables of setup.cfg.
    share = VENV / "share" / NAME
    if share.is_symlink():
        share.unlink()
    shutil.rmtree(share, ignore_errors=True)
    for file in shared_files():  # one by one: `ros2 launch` does not look into linked folders
        link(share / file.relative_to(ROOT), file)
    link(VENV / "share/ament_index/resource_index/packages" / NAME, ROOT / "resource" / NAME)
    for executable in ("perception", NAME):
        link(VENV / "lib" / NAME / executable, VENV / "bin" / executable)


def make_tensorrt_rtx() -> None:
    """Install TensorRT-RTX; the lock file limits it to x86-64, where it needs no GPU."""
    pip("--require-hashes", "--requirement", lock("tensorrt-rtx"))


def make_torch() -> None:
    """Install PyTorch: the CPU build where the package index offers it, unless told otherwise."""
    choice = torch_choice()
    if choice == "no":
        raise LeftOut("left out by TORCH=no; the tests that need it are skipped")
    if choice == "any":
        run(PYTHON, "-m", "pip", "uninstall", "--yes", "torch")  # the CPU build would do for pip
        run(PYTHON, "-m", "pip", "install", f"torch=={TORCH_VERSION}")  # with CUDA's packages
    else:
        install_cpu_build()
    pip("--require-hashes", "--requirement", lock("torch"))


def install_cpu_build() -> None:
    """Install PyTorch without CUDA and without a hash: each index has its own files of it."""
    build = f"torch=={TORCH_VERSION}+cpu"
    try:
        pip(build)
    except CommandFailed as failure:
        if f"No matching distribution found for {build}" not in failure.output:
            raise
        raise LeftOut(
            f"no {build} in this package index, so the tests that need it are skipped; give pip "
            "an index that has it (PIP_EXTRA_INDEX_URL), or take the build for CUDA, several GB: "
            "make test TORCH=any"
        ) from None


def torch_choice() -> str:
    """Return which build of PyTorch is wanted."""
    choice = os.environ.get("TORCH", "cpu")
    if choice not in {"cpu", "any", "no"}:
        raise Problem(f"TORCH must be cpu, any or no, not {choice}")
    return choice


def shared_files() -> list[Path]:
    """Return the files that belong into the package's share folder, where they lie as here."""
    folders = (ROOT / "launch", ROOT / "models", ROOT / "samples")
    files = (file for folder in folders for file in folder.rglob("*") if file.is_file())
    return [ROOT / "package.xml", *sorted(f for f in files if f.parent.name != "__pycache__")]


STEPS = {"python": make_python, "vision_msgs": make_vision_msgs, "package": make_package}
TEST_STEPS = {"tensorrt-rtx": make_tensorrt_rtx, "torch": make_torch}


def check_machine() -> None:
    """Raise `Problem` for what a step would fail on later, and less clearly."""
    if not (3, 10) <= sys.version_info[:2] <= (3, 13):
        raise Problem(
            f"Python 3.10 to 3.13 is needed, {sys.executable} is {platform.python_version()}: "
            "sudo apt install python3 python3-venv python3-dev, then make PYTHON=/usr/bin/python3"
        )
    if sourced("rclpy"):
        if not succeeds(base_python(), "-c", "import rclpy"):
            raise Problem(
                f"{base_python()} cannot import the sourced {sourced('rclpy')}; "
                "use the Python that ROS was built for: make PYTHON=/usr/bin/python3"
            )
    elif (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise Problem(
            f"ROS comes as wheels for x86-64 Linux only, this is {platform.machine()}: "
            "install ROS 2 Humble or Jazzy and source it (source /opt/ros/jazzy/setup.bash)"
        )
    missing = {}  # with the Debian and Ubuntu packages
    if importlib.util.find_spec("ensurepip") is None:
        missing["the venv module"] = f"{VERSION}-venv"
    if not sourced("vision_msgs"):  # which is then compiled
        missing.update({tool: tool for tool in ("gcc", "g++", "make") if not shutil.which(tool)})
        if not Path(sysconfig.get_path("include"), "Python.h").is_file():
            missing["Python.h"] = f"{VERSION}-dev"
    if missing:
        raise Problem(
            f"missing {', '.join(missing)}: sudo apt install {' '.join(missing.values())}"
        )


def sourced(package: str) -> str:
    """Return where a sourced ROS has a Python package, or nothing."""
    if not (os.environ.get("ROS_DISTRO") and os.environ.get("AMENT_PREFIX_PATH")):
        return ""
    found = importlib.util.find_spec(package)
    # An activated .venv looks like a sourced ROS, but is what is to be made.
    if found is None or found.origin is None or VENV in Path(found.origin).resolve().parents:
        return ""
    return found.origin


def base_python() -> str:
    """Return this interpreter, outside any virtual environment."""
    return str(Path(sys.base_exec_prefix) / "bin" / VERSION)


def locks() -> list[Path]:
    """Return the files of pinned packages for this machine, in order."""
    return [lock("build"), lock("ros-sourced" if sourced("rclpy") else "ros-wheels")]


def lock(name: str) -> Path:
    """Return one file of pinned packages."""
    return ROOT / "requirements" / f"{name}.txt"


def interface() -> Path:
    """Return the message package."""
    return ROOT / "interfaces" / "vision_msgs"


def digest(files: Iterable[Path], words: Iterable[str] = ()) -> str:
    """Return the SHA-256 of words and of the names and contents of files."""
    total = hashlib.sha256(json.dumps(list(words)).encode())
    for file in sorted(files):
        if file.is_file():
            total.update(f"{file.relative_to(ROOT)}\0".encode())
            total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def read_stamp() -> dict[str, str]:
    """Return the digests of the steps that are done."""
    try:
        return json.loads(STAMP.read_text()) if PYTHON.exists() else {}
    except (OSError, ValueError):
        return {}


def write_stamp(done: dict[str, str]) -> None:
    """Record the steps that are done."""
    if VENV.is_dir():
        new = STAMP.with_suffix(".new")
        new.write_text(json.dumps(done, indent=2))
        new.replace(STAMP)  # never half-written


def link(place: Path, target: Path) -> None:
    """Make `place` a symbolic link to `target`."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_symlink():
        place.unlink()
    place.symlink_to(target)


def pip(*arguments: object) -> None:
    """Install with the environment's pip; what a lock file leaves out is not wanted."""
    # pip 26.3 on Python 3.13 fails where it finds nothing to do.
    run(PYTHON, "-m", "pip", "install", "--no-deps", "--force-reinstall", *arguments)


def run(*command: object) -> None:
    """Run a command and keep its output to itself; raise `CommandFailed`."""
    words = [str(word) for word in command]
    # pip.conf may ask for --user installs, which a virtual environment refuses.
    environment = {**os.environ, "PIP_USER": "0", "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    result = subprocess.run(
        words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    if result.returncode:
        raise CommandFailed(words, result.stdout.decode(errors="replace"))


def succeeds(*command: str) -> bool:
    """Run a command silently."""
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


if __name__ == "__main__":
    try:
        main()
    except Problem as problem:
        if isinstance(problem, CommandFailed):
            print("", *problem.output.splitlines()[-40:], sep="\n", file=sys.stderr)
        sys.exit(f"set-up: {problem}")
    except KeyboardInterrupt:
        sys.exit("\nset-up: interrupted; the next make does it again")
