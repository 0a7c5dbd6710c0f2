# SPDX-License-Identifier: Apache-2.0
"""Run one step of an import in a confined child process and read its answer.

The child (``child.py``) gets a folder of its own, a request and one open file for its answer:
a line of JSON with what it found, then the bytes of what it made. Nothing else comes back.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perception_node.errors import ConfigError, ConversionError, EnvironmentLacks
from perception_node.files import read_regular_file
from perception_node.guardian import ended_with_us

if TYPE_CHECKING:
    from collections.abc import Mapping

    from perception_node.engines.importing.confinement import Limits

CHILD = "perception_node.engines.importing.child"
UNCAUGHT = 1  # Python's exit code for an exception: a bug
MAX_FACTS_BYTES = 16 << 20
MEMORY_PER_BYTE = 8  # of the files: copies are made on the way
MAX_PROBLEM = 1000  # characters
MAX_LOG_BYTES = 64 << 10
INHERITED = ("PATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL")


@dataclass(frozen=True, slots=True)
class Answer:
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
        files: Mapping[str, bytes],
        options: Mapping[str, Any],
        *,
        runs_code: bool = False,
    ) -> Answer:
        """Run a step of ``child.STEPS`` on files that it finds under these names.

        Args:
            step: its name.
            files: what the child may read, by name.
            options: JSON for the step.
            runs_code: the step runs code of the model, so it starts only in full confinement.

        Raises:
            ConfigError: the folder for temporary files cannot be written.
            ConversionError: the step refuses the model, crashes, or exceeds a limit.
            EnvironmentLacks: this kernel cannot confine the model's code, or a package of this
                Python does not load.

        """
        with tempfile.TemporaryDirectory(prefix="perception-import-") as name:
            folder = Path(name)
            size = sum(map(len, files.values()))
            memory = self._limits.memory_bytes + MEMORY_PER_BYTE * size
            request = {
                "step": step,
                "path": str(self._path),
                "limits": asdict(replace(self._limits, memory_bytes=memory)),
                "must_be_confined": runs_code and not self._trusted,
                "options": dict(options),
            }
            try:
                for file, content in {**files, "request": json.dumps(request).encode()}.items():
                    (folder / file).write_bytes(content)
            except OSError as error:
                msg = f"{folder}: cannot be written: {error.strerror or error}; set TMPDIR"
                raise ConfigError(msg) from error
            exit_code = self._spawn(folder)
            return self._read(folder, exit_code)

    def _spawn(self, folder: Path) -> int:
        """Run the child to its end, or to the end of its time."""
        environment = {key: os.environ[key] for key in INHERITED if key in os.environ}
        environment.update(
            HOME=str(folder),
            TMPDIR=str(folder),
            OMP_NUM_THREADS="1",  # no import starts a thread that the confinement would miss
            OPENBLAS_NUM_THREADS="1",
            MKL_NUM_THREADS="1",
            PYTHONDONTWRITEBYTECODE="1",
            PYTHONPATH=os.pathsep.join(entry for entry in sys.path if entry),
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
            return process.wait(self._limits.wall_s)
        except subprocess.TimeoutExpired as error:
            problem = f"its conversion took more than {self._limits.wall_s:g} s and was ended"
            raise ConversionError(self._path, problem) from error
        finally:
            if process.poll() is None:
                process.kill()  # it has no children
                process.wait()

    def _read(self, folder: Path, exit_code: int) -> Answer:
        if exit_code == UNCAUGHT:
            log = read_tail(folder / "log", MAX_LOG_BYTES)
            raise RuntimeError(f"{CHILD} failed:\n{log}")
        if exit_code:
            raise ConversionError(self._path, _describe_end(exit_code, self._limits))
        content = read_regular_file(folder / "answer", self._limits.file_bytes)
        line, _, rest = content.partition(b"\n")
        if len(line) > MAX_FACTS_BYTES:
            problem = f"its labels and other texts have {len(line)} bytes"
            raise ConversionError(self._path, f"{problem}, at most {MAX_FACTS_BYTES} are read")
        facts = json.loads(line)
        if "lacks" in facts:
            msg = f"{self._path}: a package that its import needs does not load: {facts['lacks']}"
            raise EnvironmentLacks(msg)
        if "unconfined" in facts:
            raise EnvironmentLacks(
                f"{self._path}: a TorchScript file is code, and this kernel cannot keep it from "
                f"doing harm: missing {'; '.join(facts['unconfined'])}; import it on another "
                "machine, or pass --trust-model with its sha256 if you know where it comes from"
            )
        if "problem" in facts:
            raise ConversionError(self._path, str(facts["problem"])[:MAX_PROBLEM])
        return Answer(facts, _split(rest, facts.pop("blobs")))


def _describe_end(exit_code: int, limits: Limits) -> str:
    """Say why a child ended that gave no answer; libraries end it by other codes than Python."""
    if exit_code == -signal.SIGXCPU:
        return f"its conversion used more than {limits.cpu_s} s of processor time and was ended"
    name = signal.Signals(-exit_code).name if exit_code < 0 else f"exit code {exit_code}"
    gibibytes = limits.memory_bytes / (1 << 30)
    return (
        f"its conversion crashed ({name}); the file is damaged or hostile, or it needs more than "
        f"the {gibibytes:g} GiB of memory that an import may take besides copies of the file"
    )


def read_tail(path: Path, limit_bytes: int) -> str:
    """Return the end of a text file."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - limit_bytes))
        return file.read(limit_bytes).decode(errors="backslashreplace")


def _split(content: bytes, lengths: dict[str, int]) -> dict[str, bytes]:
    """Cut the part after the line of JSON into the blobs whose lengths the line names."""
    blobs, position = {}, 0
    for name, length in lengths.items():
        blobs[name] = content[position : position + length]
        position += length
    return blobs
