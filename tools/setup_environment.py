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

Where a ROS is sourced its packages are used; elsewhere ROS 2 comes as Python wheels.
Standard library only, and it starts on Python 3.7: it has to say that Python is too old.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Callable, Iterable

from setup_machine import (
    STAMP,
    VERSION,
    CommandFailed,
    Problem,
    base_python,
    check_machine,
    run,
    sourced,
)

NAME = "perception_node"
ROOT = Path(__file__).resolve().parent.parent
HOOK = ROOT / "tools" / "ros_environment.py"
INTERFACE = ROOT / "interfaces" / "vision_msgs"
TORCH_VERSION = "2.13.0"


class LeftOut(Exception):
    """What can be done without is not to be had; it is tried again next time."""


class Environment:
    """A virtual environment that is also a ROS prefix.

    Args:
        folder: Where it is, or will be.
        release: The ROS release whose wheels it gets where no ROS is sourced.
    """

    def __init__(self, folder: Path, release: str) -> None:
        self.folder = folder.resolve()
        self.release = "" if sourced("rclpy") else release
        self.python = self.folder / "bin" / "python"
        self.site_packages = self.folder / "lib" / VERSION / "site-packages"
        self._stamp = self.folder / STAMP

    def steps(self, *, tests: bool) -> dict[str, Callable[[], None]]:
        """Return what there is to do, in order."""
        steps = {
            "python": self.make_python,
            "vision_msgs": self.make_vision_msgs,
            "package": self.make_package,
        }
        if tests:
            steps.update({"tensorrt-rtx": self.make_tensorrt_rtx, "torch": self.make_torch})
        return steps

    def goals(self) -> dict[str, str]:
        """Return for each step a digest of all that its result is made from."""
        # The folder's own path is part of it: a virtual environment does not survive a move.
        origin = [str(self.folder), base_python(), sourced("rclpy"), self.release]
        tools = [HOOK, *(ROOT / "tools").glob("setup_*.py")]
        definition = [ROOT / name for name in ("setup.py", "setup.cfg", "pyproject.toml")]
        return {
            "python": digest([*self.locks(), *tools], origin),
            "vision_msgs": digest(INTERFACE.rglob("*"), [sourced("vision_msgs")]),
            "package": digest(definition, map(str, shared_files())),
            "tensorrt-rtx": digest([lock("tensorrt-rtx")]),
            "torch": digest([lock("torch")], [TORCH_VERSION, torch_choice()]),
        }

    def locks(self) -> list[Path]:
        """Return the files of pinned packages for this machine, in order."""
        return [lock("build"), lock(f"ros-{self.release or 'sourced'}")]

    def make_python(self) -> None:
        """Create the virtual environment with the pinned packages."""
        shutil.rmtree(self.folder, ignore_errors=True)
        # Beside a sourced ROS the system's packages stay visible: ROS needs some of them, and on
        # a Jetson TensorRT is one.
        options = [] if self.release else ["--system-site-packages"]
        run(base_python(), "-m", "venv", *options, self.folder)
        for file in self.locks():
            self.pip("--require-hashes", "--no-build-isolation", "--requirement", file)
        shutil.copy(HOOK, self.site_packages)
        # .pth files are read in alphabetical order; this is before ros_wheels_bootstrapper.pth.
        (self.site_packages / "ros_environment.pth").write_text(
            f"import ros_environment; ros_environment.enter({self.release!r})\n"
        )

    def make_vision_msgs(self) -> None:
        """Build and install interfaces/vision_msgs, unless a sourced ROS has the real package."""
        shutil.rmtree(self.site_packages / "vision_msgs", ignore_errors=True)
        if sourced("vision_msgs"):
            return
        build = ROOT / "build" / "vision_msgs"
        shutil.rmtree(build, ignore_errors=True)
        sourced_prefixes = os.environ.get("AMENT_PREFIX_PATH", "") if not self.release else ""
        prefixes = [str(self.folder), *sourced_prefixes.split(os.pathsep)]
        cmake = self.folder / "bin" / "cmake"
        run(
            cmake,
            f"-S{INTERFACE}",
            f"-B{build}",
            "-GUnix Makefiles",
            "-Wno-dev",
            "-DBUILD_TESTING=OFF",
            "-DCMAKE_BUILD_TYPE=Release",
            f"-DCMAKE_INSTALL_PREFIX={self.folder}",
            f"-DCMAKE_PREFIX_PATH={';'.join(prefixes)}",
            f"-DPython3_EXECUTABLE={self.python}",
            "-DPython3_FIND_VIRTUALENV=ONLY",
            f"-DPYTHON_INSTALL_DIR={self.site_packages.relative_to(self.folder)}",
        )
        jobs = str(os.cpu_count() or 1)
        run(cmake, "--build", build, "--target", "install", "--parallel", jobs)
        run(self.python, "-c", "from vision_msgs.msg import Classification")

    def make_package(self) -> None:
        """Install this checkout editable, and as a ROS package."""
        self.pip("--no-index", "--no-build-isolation", "--editable", ROOT)
        # pip leaves out what ROS asks for: data files of setup.py, executables of setup.cfg.
        share = self.folder / "share" / NAME
        if share.is_symlink():
            share.unlink()
        shutil.rmtree(share, ignore_errors=True)
        for file in shared_files():  # one by one: `ros2 launch` does not look into linked folders
            link(share / file.relative_to(ROOT), file)
        index = self.folder / "share" / "ament_index" / "resource_index" / "packages"
        link(index / NAME, ROOT / "resource" / NAME)
        for executable in ("perception", NAME):
            link(self.folder / "lib" / NAME / executable, self.folder / "bin" / executable)

    def make_tensorrt_rtx(self) -> None:
        """Install TensorRT-RTX; the lock file limits it to x86-64, where it needs no GPU."""
        self.pip("--require-hashes", "--requirement", lock("tensorrt-rtx"))

    def make_torch(self) -> None:
        """Install PyTorch: the CPU build where the package index has it, unless told otherwise."""
        choice = torch_choice()
        if choice == "no":
            raise LeftOut("left out by TORCH=no; the tests that need it are skipped")
        if choice == "any":
            pip = (self.python, "-m", "pip")
            run(*pip, "uninstall", "--yes", "torch")  # the CPU build would do for pip
            run(*pip, "install", f"torch=={TORCH_VERSION}")  # with CUDA's packages
        else:
            self.install_cpu_build()
        self.pip("--require-hashes", "--requirement", lock("torch"))

    def install_cpu_build(self) -> None:
        """Install PyTorch without CUDA and without a hash: each index has its own files of it."""
        build = f"torch=={TORCH_VERSION}+cpu"
        try:
            self.pip(build)
        except CommandFailed as failure:
            if f"No matching distribution found for {build}" not in failure.output:
                raise
            raise LeftOut(
                f"no {build} in this package index, so the tests that need it are skipped; give "
                "pip an index that has it (PIP_EXTRA_INDEX_URL), or take the build for CUDA, "
                "several GB: make test TORCH=any"
            ) from None

    def pip(self, *arguments: object) -> None:
        """Install with the environment's pip; what a lock file leaves out is not wanted."""
        # pip 26.3 on Python 3.13 fails where it finds nothing to do.
        options = ("--no-deps", "--force-reinstall")
        run(self.python, "-m", "pip", "install", *options, *arguments)

    def read_stamp(self) -> dict[str, str]:
        """Return the digests of the steps that are done."""
        try:
            return json.loads(self._stamp.read_text()) if self.python.exists() else {}
        except (OSError, ValueError):
            return {}

    def write_stamp(self, done: dict[str, str]) -> None:
        """Record the steps that are done."""
        if self.folder.is_dir():
            new = self._stamp.with_suffix(".new")
            new.write_text(json.dumps(done, indent=2))
            new.replace(self._stamp)  # never half-written


def main() -> None:
    """Do the steps that are not done."""
    arguments = parse_arguments()
    environment = Environment(arguments.venv, arguments.release)
    steps = environment.steps(tests=arguments.tests)
    with Path(__file__).open("rb+") as this_file:
        fcntl.flock(this_file, fcntl.LOCK_EX)  # of two at a time one waits, and has nothing to do
        goal, done = environment.goals(), environment.read_stamp()
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
            environment.write_stamp(done)
            print(f"set-up {number + 1}/{len(steps)}: {step} ...", end=" ", flush=True)
            begin = time.monotonic()
            try:
                make()
            except LeftOut as why:
                print(why, flush=True)
                continue
            print(f"{time.monotonic() - begin:.0f} s", flush=True)
            done[step] = goal[step]
            environment.write_stamp(done)


def parse_arguments() -> argparse.Namespace:
    """Return what the command line asks for."""
    parser = argparse.ArgumentParser(description="Prepare the environment of this checkout.")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="its folder (.venv)")
    parser.add_argument("--release", choices=releases(), default="jazzy", help="of ROS's wheels")
    parser.add_argument("--tests", action="store_true", help="also what only `make test` needs")
    return parser.parse_args()


def releases() -> list[str]:
    """Return the ROS releases that come as wheels."""
    names = (file.stem.split("-")[1] for file in (ROOT / "requirements").glob("ros-*.txt"))
    return sorted(name for name in names if name != "sourced")


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


def lock(name: str) -> Path:
    """Return one file of pinned packages."""
    return ROOT / "requirements" / f"{name}.txt"


def digest(files: Iterable[Path], words: Iterable[str] = ()) -> str:
    """Return the SHA-256 of words and of the names and contents of files."""
    total = hashlib.sha256(json.dumps(list(words)).encode())
    for file in sorted(files):
        if file.is_file():
            total.update(f"{file.relative_to(ROOT)}\0".encode())
            total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def link(place: Path, target: Path) -> None:
    """Make `place` a symbolic link to `target`."""
    place.parent.mkdir(parents=True, exist_ok=True)
    if place.is_symlink():
        place.unlink()
    place.symlink_to(target)


if __name__ == "__main__":
    try:
        main()
    except Problem as problem:
        if isinstance(problem, CommandFailed):
            print("", *problem.output.splitlines()[-40:], sep="\n", file=sys.stderr)
        sys.exit(f"set-up: {problem}")
    except KeyboardInterrupt:
        sys.exit("\nset-up: interrupted; the next make does it again")
