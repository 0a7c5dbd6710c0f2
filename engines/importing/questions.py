# SPDX-License-Identifier: Apache-2.0
"""All that a model leaves open, asked for at once: one error with a command to complete."""

from __future__ import annotations

from typing import TYPE_CHECKING, get_args

from perception_node.engines.importing.presets import PRESETS
from perception_node.errors import ConversionError
from perception_node.model.bundle import OutputKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

# Words in capitals stand for the answers: a shell passes them on, and the parser refuses them.
QUESTIONS = {
    "output_name": "--output-name NAME",
    "fix_input": "--fix-input NAME=VALUE",
    "layout": "--layout LAYOUT",
    "size": "--size HxW",
    "color": "--color RGB_OR_BGR",
    "resize": "--resize HOW",
    "mean": "--mean MEAN",
    "std": "--std STD",
    "scale": "--scale SCALE",
    "output": "--output KIND",
    "labels": "--labels FILE",
}
EXPLANATIONS = {
    "size": "HxW: pixels of the input, such as 224x224",
    "resize": "HOW: stretch, stretch:N, shorter-side:N, letterbox or pad-square",
    "mean": "MEAN, STD: three numbers in the order of --color, or one; 0 and 1 if there is none",
    "scale": "SCALE: 1 if mean and std are of pixels from 0 to 255, 0.00392157 if from 0 to 1",
    "output": f"KIND: {', '.join(get_args(OutputKind))}",
    "labels": "FILE: class names in their order, as text, JSON, YAML or CSV",
}
ANSWERED_BY_PRESETS = {"color", "resize", "mean", "std"}


def ask(
    path: Path, names: Iterable[str], command: str, explanations: Mapping[str, str]
) -> ConversionError:
    """Return the error that asks for settings by their ``names``, keys of ``QUESTIONS``.

    ``command`` is what the user typed; what is missing is added to it. ``explanations`` are those
    that depend on the model.
    """
    explained_by = {**EXPLANATIONS, **explanations}
    asked = [name for name in QUESTIONS if name in set(names)]
    known_as = ", ".join(name.replace("_", " ") for name in asked)
    hints = [explained_by[name] for name in asked if name in explained_by]
    if "std" in asked and "mean" not in asked:
        hints.append(EXPLANATIONS["mean"])
    if ANSWERED_BY_PRESETS & set(asked) and "--preset" not in command:
        hints.append(f"--preset {'|'.join(PRESETS)} answers for a family of models")
    explained = f" ({'; '.join(hints)})" if hints else ""
    flags = " ".join(QUESTIONS[name] for name in asked)
    problem = f"the model does not say: {known_as}{explained}"
    return ConversionError(path, problem, f"complete and run: {command} {flags}")
