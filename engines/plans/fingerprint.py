# SPDX-License-Identifier: Apache-2.0
"""Everything that binds a plan: it runs where all of this is the same, and nowhere else."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from perception_node.config.sections import Precision
    from perception_node.untyped import Json

Backend = Literal["tensorrt", "tensorrt-rtx"]

L4T_RELEASE = Path("/etc/nv_tegra_release")
KEY_CHARACTERS = 16
SHOWN_DIGEST_CHARACTERS = 12


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What the builder is told besides the precision.

    Attributes:
        workspace_mib: scratch memory that TensorRT may use, MiB.
        optimization_level: TensorRT's builder optimization level, None for its default.

    """

    workspace_mib: int = 512
    optimization_level: int | None = None


DEFAULT_OPTIONS = BuildOptions()


@dataclass(frozen=True, slots=True)
class PlanFingerprint:
    """What a plan was built from, with and for.

    Attributes:
        onnx_sha256: of the bundle's ONNX file that the plan is made from, 64 hexadecimal digits.
        precision: what was asked for.
        calibration_sha256: of the calibration behind an int8 model, "" if there is none.
        input_shape: of the float32 input, (1, 3, height, width).
        output_shape: of the float32 output, (1, classes).
        backend: which TensorRT.
        tensorrt: its full version, "10.3.0.30".
        cuda: version of the CUDA driver's interface, "13.0"; "" without a driver.
        gpu: its name, "" without one: such a plan is never loaded.
        compute_capability: "8.7", "" without a GPU.
        sm_count: multiprocessors of the GPU, 0 without one.
        l4t: release of Jetson Linux, "36.4.3"; "" on other machines.
        architecture: of the CPU, "aarch64".
        options: what the builder was told.

    Raises:
        ValueError: a field has another type, which would not come back from JSON as it was.

    """

    onnx_sha256: str
    precision: Precision
    calibration_sha256: str
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    backend: Backend
    tensorrt: str
    cuda: str
    gpu: str
    compute_capability: str
    sm_count: int
    l4t: str
    architecture: str
    options: BuildOptions = DEFAULT_OPTIONS

    def __post_init__(self) -> None:
        """Check the types."""
        for place, value in _flat(self).items():
            if not _would_come_back(place, value):
                msg = f"{place} of a fingerprint cannot be {value!r:.40}"
                raise ValueError(msg)

    def key(self) -> str:
        """Return 16 hexadecimal digits that stand for all fields."""
        return _short_digest(asdict(self))

    def timing_cache_key(self) -> str:
        """Return 16 hexadecimal digits for the fields that bind TensorRT's timing cache."""
        bound = ("backend", "tensorrt", "cuda", "gpu", "compute_capability", "sm_count", "l4t")
        return _short_digest({name: getattr(self, name) for name in bound})

    def differences(self, here: PlanFingerprint) -> list[str]:
        """Return one text for each field that differs from ``here``, empty if none does.

        ``self`` is what a plan was built with, ``here`` what is needed:
        ``"gpu: built for Orin, here Thor"``.
        """
        built, needed = _flat(self), _flat(here)
        return [
            f"{name}: built for {_show(value)}, here {_show(needed[name])}"
            for name, value in built.items()
            if value != needed[name]
        ]

    @classmethod
    def from_json(cls, data: Json) -> PlanFingerprint:
        """Return the fingerprint whose fields, by ``asdict``, were written as JSON.

        Raises:
            ValueError: it says something else than a fingerprint of this version would.

        """
        try:
            options = BuildOptions(**data["options"])
            data = {**data, "options": options}
            for name in ("input_shape", "output_shape"):
                if isinstance(data[name], list):
                    data[name] = tuple(data[name])
            return cls(**data)
        except (KeyError, TypeError) as error:
            msg = f"not a fingerprint: {error}"
            raise ValueError(msg) from error


def l4t_release(file: Path = L4T_RELEASE) -> str:
    """Return the release of Jetson Linux such as "36.4.3", or "" if this is no Jetson."""
    try:
        text = file.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    found = re.match(r"# R(\d+) \(release\), REVISION: ([\d.]+)", text)
    return f"{found[1]}.{found[2]}" if found else ""


def _short_digest(data: dict[str, Any]) -> str:
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:KEY_CHARACTERS]


def _flat(fingerprint: PlanFingerprint) -> dict[str, Any]:
    """Return all fields side by side; those of ``options`` have a point in their names."""
    flat = asdict(fingerprint)
    options = flat.pop("options")
    return flat | {f"options.{name}": value for name, value in options.items()}


def _show(value: object) -> str:
    """Return a value in few words; an empty one and a digest would be hard to read."""
    if isinstance(value, tuple):
        return "x".join(map(str, value))
    text = str(value)
    if re.fullmatch(r"[0-9a-f]{64}", text):
        return f"{text[:SHOWN_DIGEST_CHARACTERS]}..."
    return {"": "none", "None": "default"}.get(text, text)


def _would_come_back(place: str, value: object) -> bool:
    """Tell whether a field has the type that it has after a way through JSON."""
    if place in {"input_shape", "output_shape"}:
        return isinstance(value, tuple) and {type(axis) for axis in value} == {int}
    if place == "options.optimization_level" and value is None:
        return True
    is_number = place.startswith("options.") or place == "sm_count"
    return type(value) is (int if is_number else str)
