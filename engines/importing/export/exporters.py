# SPDX-License-Identifier: Apache-2.0
"""Models that are no ONNX: the packages that made them export them, in a confined child."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from perception_node.engines.importing.files.archive import check_archive
from perception_node.errors import ConversionError, quote

if TYPE_CHECKING:
    from pathlib import Path

    from perception_node.engines.importing.files.filetypes import Format
    from perception_node.engines.importing.sandbox.sandbox import Sandbox


@dataclass(frozen=True, slots=True)
class Exporter:
    """How a model becomes ONNX.

    Attributes:
        step: of the child.
        file: what the child calls the model.
        packages: what must be installed.
        is_of_pytorch: the file is an archive of PyTorch's.

    """

    step: str
    file: str
    packages: tuple[str, ...]
    is_of_pytorch: bool = False


PYTORCH = ("torch", "onnx", "onnxscript")
EXPORTERS: dict[Format, Exporter] = {
    "torch.export": Exporter("export-program", "model", PYTORCH, is_of_pytorch=True),
    "Keras": Exporter("export-keras", "model.keras", ("keras", *PYTORCH)),
}


def export_model(
    path: Path, sandbox: Sandbox, kind: Format, content: bytes, size: tuple[int, int] | None
) -> tuple[bytes, dict[str, str]]:
    """Return a model as ONNX, and the versions of the packages that have made it.

    ``size`` is the height and width of its input, for a model that takes any.

    Raises:
        ConversionError: it cannot be exported, or differs as ONNX.
        EnvironmentLacks: this kernel cannot confine its code.

    """
    exporter = EXPORTERS[kind]
    if exporter.is_of_pytorch:
        check_archive(path, content)
    options = {"size": size}
    answer = sandbox.run(exporter.step, {exporter.file: content}, options, runs_code=True)
    if "model" not in answer.blobs:
        raise ConversionError(path, "its conversion gave no model; the file is hostile")
    return answer.blobs["model"], read_versions(answer.facts)


def read_versions(facts: dict[str, Any]) -> dict[str, str]:
    """Return the versions of packages that a child names."""
    names = ("torch", "keras")
    return {name: quote(str(facts[name]))[1:-1] for name in names if name in facts}
