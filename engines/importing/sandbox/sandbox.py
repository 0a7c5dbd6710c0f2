# SPDX-License-Identifier: Apache-2.0
"""Run one step of an import in a confined child process and read its answer.

The child (``child.py``) gets a folder of its own, a request and one open file for its answer:
a line of JSON with what it found, then the bytes of what it made. Nothing else comes back: what
a model prints goes to ``/dev/null``, and the answer is as little to be trusted as the model.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import perception_node
from perception_node.engines.importing.sandbox.packages import search_path
from perception_node.errors import ConfigError, ConversionError, EnvironmentLacks
from perception_node.printable import printable, printable_lines
from perception_node.system.files import require_regular_file
from perception_node.system.guardian import ended_with_us

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from perception_node.engines.importing.sandbox.confinement import Limits

OWN_ENTRY = Path(perception_node.__file__).absolute().parent.parent
CHILD = "perception_node.engines.importing.sandbox.child"
UNCAUGHT = 1  # Python's exit code for an exception: a bug
MAX_FACTS_BYTES = 4 << 20
MEMORY_PER_BYTE = 8  # of the files: copies are made on the way
SECONDS_PER_GIB = 600  # two runs on eight images, by one core of a small computer
# An ONNX file is about as large as its original; one that came as int8 is float32 twice besides.
ANSWER_PER_BYTE, SMALLEST_ANSWER = 10, 64 << 20
MAX_PROBLEM = 1000  # characters
MAX_LOG_BYTES = 8 << 10
INHERITED = ("LANG", "LC_ALL")
SEARCH_PATHS = ("PATH", "LD_LIBRARY_PATH")


@dataclass(frozen=True, slots=True)
class ChildResult:
    """What a child found and made.

    Attributes:
        facts: JSON; as little to be trusted as the model itself.
        blobs: bytes by name, for example ``model``.

    """

    facts: dict[str, Any]
    blobs: dict[str, bytes]


class Sandbox:
    """Runs steps of one import, each in a child process of its own."""

    def __init__(self, path: Path, limits: Limits, *, trusted: bool) -> None:
        """Prepare for the model file ``path``, which is named in errors and never opened here.

        ``trusted``: run the model's code even where this kernel cannot confine it.
        """
        self._path = path
        self._limits = limits
        self._trusted = trusted

    def run(
        self,
        step: str,
        files: Mapping[str, bytes | Path],
        options: Mapping[str, Any],
        *,
        runs_code: bool = False,
    ) -> ChildResult:
        """Run a step of ``child.STEPS`` on files that it finds under these names.

        Args:
            step: its name.
            files: what the child may read, by name: content, or a file that is moved there for
                the time being.
            options: JSON for the step.
            runs_code: the step runs code of the model, so it starts only in full confinement.

        Raises:
            ConfigError: the folder for temporary files cannot be written.
            ConversionError: the step refuses the model, crashes, or exceeds a limit.
            EnvironmentLacks: this kernel cannot confine the model's code, or a package of this
                Python does not load.

        """
        with temporary_folder() as folder:
            limits = scale_limits(self._limits, sum(map(_size, files.values())))
            here = _current_folder()
            request = {
                "step": step,
                "path": str(self._path),
                "limits": asdict(limits),
                "private": [str(here), *_home()],
                "must_be_confined": runs_code and not self._trusted,
                "options": dict(options),
            }
            with lend(folder, {**files, "request": json.dumps(request).encode()}):
                exit_code = self._spawn(folder, here, limits.wall_s)
            return self._read(folder, exit_code, limits)

    def _spawn(self, folder: Path, here: Path, wall_s: float) -> int:
        """Run the child to its end, or to the end of its time."""
        environment = {key: os.environ[key] for key in INHERITED if key in os.environ}
        for key in SEARCH_PATHS:
            if entries := search_path(os.environ.get(key, "").split(os.pathsep), here):
                environment[key] = os.pathsep.join(entries)
        environment.update(
            HOME=str(folder),
            TMPDIR=str(folder),
            OMP_NUM_THREADS="1",  # no import starts a thread that the confinement would miss
            OPENBLAS_NUM_THREADS="1",
            MKL_NUM_THREADS="1",
            PYTHONDONTWRITEBYTECODE="1",
            # Our own entry may be the current folder, which is left out else.
            PYTHONPATH=os.pathsep.join([*search_path(sys.path, here), str(OWN_ENTRY)]),
            PYTHONSAFEPATH="1",
        )
        with (folder / "answer").open("wb") as answer, (folder / "log").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", CHILD, str(answer.fileno())],
                cwd=folder,
                env=ended_with_us(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=[answer.fileno()],
                start_new_session=True,
            )
        try:
            return process.wait(wall_s)
        except subprocess.TimeoutExpired as error:
            problem = f"its conversion took more than {wall_s:g} s and was ended"
            raise ConversionError(self._path, problem) from error
        finally:
            if process.poll() is None:
                process.kill()  # it has no children
                process.wait()

    def _read(self, folder: Path, exit_code: int, limits: Limits) -> ChildResult:
        if exit_code == UNCAUGHT and (log := _read_tail(folder / "log")):
            raise RuntimeError(f"{CHILD} failed:\n{log}")
        if exit_code:
            raise ConversionError(self._path, _describe_end(exit_code, limits))
        try:
            facts, blobs = _parse(folder / "answer", limits.file_bytes)
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            problem = "its conversion gave no answer that makes sense; the file is hostile"
            raise ConversionError(self._path, problem) from error
        if "bug" in facts:
            raise RuntimeError(f"{CHILD} failed:\n{printable_lines(str(facts['bug']))}")
        if "lacks" in facts:
            msg = f"{self._path}: a package that its import needs does not load: {facts['lacks']}"
            raise EnvironmentLacks(printable(msg)[:MAX_PROBLEM])
        if "unconfined" in facts:
            missing = "; ".join(map(str, facts["unconfined"]))[:MAX_PROBLEM]
            raise EnvironmentLacks(
                f"{self._path}: such a file can run code, and this kernel cannot keep it from "
                f"doing harm: missing {printable(missing)}; import it on another "
                "machine, or pass --trust-model with its sha256 if you know where it comes from"
            )
        if "problem" in facts:
            raise ConversionError(self._path, printable(str(facts["problem"])[:MAX_PROBLEM]))
        return ChildResult(facts, blobs)


def scale_limits(limits: Limits, size: int) -> Limits:
    """Return the limits for files of so many bytes: what is large takes longer, and more room."""
    seconds = round(SECONDS_PER_GIB * size / (1 << 30))
    return replace(
        limits,
        wall_s=limits.wall_s + seconds,
        cpu_s=limits.cpu_s + seconds,
        memory_bytes=limits.memory_bytes + MEMORY_PER_BYTE * size,
        file_bytes=min(limits.file_bytes, SMALLEST_ANSWER + ANSWER_PER_BYTE * size),
    )


@contextmanager
def temporary_folder() -> Iterator[Path]:
    """Make a folder that is removed in the end.

    Raises:
        ConfigError: it cannot be made.

    """
    try:
        made = tempfile.TemporaryDirectory(prefix="perception-import-")
    except OSError as error:
        msg = f"no folder for temporary files can be made: {error.strerror or error}; set TMPDIR"
        raise ConfigError(msg) from error
    with made as name:
        yield Path(name)


@contextmanager
def lend(folder: Path, files: Mapping[str, bytes | Path]) -> Iterator[None]:
    """Put files into a folder; those that were files before go back to their places.

    They are moved: ``onnx`` refuses to read from links.

    Raises:
        ConfigError: the folder cannot be written.

    """
    moved = {folder / name: source for name, source in files.items() if isinstance(source, Path)}
    try:
        for name, content in files.items():
            if isinstance(content, Path):
                content.rename(folder / name)
            else:
                (folder / name).write_bytes(content)
    except OSError as error:
        msg = f"{folder}: cannot be written: {error.strerror or error}; set TMPDIR"
        raise ConfigError(msg) from error
    try:
        yield
    finally:
        for place, source in moved.items():
            place.rename(source)


def _size(file: bytes | Path) -> int:
    return file.stat().st_size if isinstance(file, Path) else len(file)


def _current_folder() -> Path:
    """Return the caller's current folder, the root where it was deleted."""
    try:
        return Path.cwd()
    except FileNotFoundError:
        return Path("/")


def _home() -> list[str]:
    """Return the user's home, if there is one."""
    try:
        return [str(Path.home())]
    except RuntimeError:
        return []


def _parse(path: Path, limit_bytes: int) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Read an answer: a line of JSON, then the blobs whose lengths it names.

    Raises:
        OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError: it is no answer.

    """
    require_regular_file(path, limit_bytes)
    size = path.stat().st_size
    with path.open("rb") as file:
        line = file.readline(MAX_FACTS_BYTES)
        facts: dict[str, Any] = json.loads(line)
        lengths: dict[str, int] = facts.pop("blobs")
        if any(type(length) is not int for length in lengths.values()):
            raise ValueError(size)
        if min(lengths.values(), default=0) < 0 or len(line) + sum(lengths.values()) != size:
            raise ValueError(lengths)
        return facts, {name: file.read(length) for name, length in lengths.items()}


def _describe_end(exit_code: int, limits: Limits) -> str:
    """Say why a child ended that gave no answer; libraries end it by other codes than Python."""
    if exit_code == -signal.SIGXCPU:
        return f"its conversion used more than {limits.cpu_s} s of processor time and was ended"
    name = signal.Signals(-exit_code).name if exit_code < 0 else f"exit code {exit_code}"
    gibibytes = limits.memory_bytes / (1 << 30)
    return (
        f"its conversion crashed ({name}); the file is damaged or hostile, or it needs more than "
        f"the {gibibytes:.1f} GiB of memory that the import of a file of this size may take"
    )


def _read_tail(path: Path) -> str:
    """Return the end of what the child printed before it was confined."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - MAX_LOG_BYTES))
        return printable_lines(file.read(MAX_LOG_BYTES).decode(errors="backslashreplace"))
