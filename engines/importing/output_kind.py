# SPDX-License-Identifier: Apache-2.0
"""What a model's scores are: the graph says it, the values on images confirm it, or we ask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from perception_node.engines.importing.settings import SAID, Choice
from perception_node.errors import ConversionError
from perception_node.model.bundle import MULTI_LABEL, OutputKind

if TYPE_CHECKING:
    from pathlib import Path

NEED_SCORES = ("logits", "sigmoid-logits")  # what we make scores of; the others are scores
POOLS = {
    "AveragePool",
    "GlobalAveragePool",
    "GlobalMaxPool",
    "MaxPool",
    "ReduceMax",
    "ReduceMean",
}
ROUNDING = 1e-3  # room for that of float16
MOST_OF_ROUNDED = 1.5  # probabilities of an int8 model add up to less than this


def settle_kind(
    path: Path,
    known: Choice | None,
    graph: dict[str, Any],
    values: dict[str, Any],
    command: str,
) -> Choice:
    """Return the kind of a model's output, and where it comes from.

    Args:
        path: the model's file.
        known: what the user or the model's maker says, an ``OutputKind``.
        graph: the fields of ``GraphFacts``.
        values: what the step ``convert-onnx`` returns.
        command: what was typed, to which an error adds what is missing.

    Raises:
        ConversionError: graph, values and ``known`` contradict each other, or nothing is known.

    """
    kind, operator, rounded = graph["head"]
    is_right = kind is not None and _confirms(kind, operator, values, rounded=rounded)
    if known is not None:
        _check_known(path, known, kind if is_right else None, values)
        return Choice(values["kind"] or known.value, known.source)
    if not is_right:
        where = f"ends in {operator}, which does" if operator else "does"
        problem = f"its graph {where} not show what its scores are:"
        if kind is not None:
            problem = f"its last operator, {operator}, gives {kind}, but"
        kinds = ", ".join(get_args(OutputKind))
        problem = f"{problem} on images {_describe(values)} (KIND: {kinds})"
        raise ConversionError(path, problem, f"complete and run: {command} --output KIND")
    return Choice(values["kind"] or kind, f"its last operator, {operator}")


def settle_thresholds(
    path: Path, thresholds: tuple[float, ...] | None, kind: OutputKind, classes: int
) -> tuple[float, ...] | None:
    """Return one threshold per class; a single one is for all.

    Raises:
        ConversionError: their number is another one, or a class has no score of its own.

    """
    if thresholds is None:
        return None
    if kind not in MULTI_LABEL:
        problem = f"--thresholds is for {' and '.join(MULTI_LABEL)} scores, these are {kind}"
        raise ConversionError(path, f"{problem}; leave it out")
    if len(thresholds) not in {1, classes}:
        problem = f"--thresholds has {len(thresholds)} numbers for {classes} classes"
        raise ConversionError(path, f"{problem}; give one for each, or one for all")
    return thresholds if len(thresholds) == classes else thresholds * classes


def _check_known(path: Path, known: Choice, confirmed: str | None, values: dict[str, Any]) -> None:
    """Refuse a statement that the values disprove; ``confirmed`` is what the graph says, too."""
    if known.value in NEED_SCORES:
        found = "probabilities" if values["probabilities"] else confirmed
        if found not in {None, *NEED_SCORES}:
            raise ConversionError(path, f"its values are {found}; {_instead(known, str(found))}")
    elif not _are_scores(values):
        problem = f"its values are no {known.value} ({known.source}): on images"
        advice = f"give --output {'|'.join(NEED_SCORES)}"
        raise ConversionError(path, f"{problem} {_describe(values)}; {advice}")


def _instead(known: Choice, kind: str) -> str:
    """Say what to do about a statement that the model disproves."""
    if known.source == SAID:
        return f"leave out --output {known.value}"
    return f"{known.source} says {known.value}: give --output {kind}"


def _confirms(kind: str, operator: str, values: dict[str, Any], *, rounded: bool) -> bool:
    if kind == "logits":
        may_be_scores = operator in POOLS and _are_scores(values)
        return not (values["probabilities"] or may_be_scores)
    if kind == "probabilities" and not rounded:
        return bool(values["probabilities"])
    most = MOST_OF_ROUNDED if kind == "probabilities" else float("inf")
    return _are_scores(values) and float(values["sums"][1]) < most


def _are_scores(values: dict[str, Any]) -> bool:
    lowest, highest = values["range"]
    return bool(lowest >= -ROUNDING and highest <= 1.0 + ROUNDING)


def _describe(values: dict[str, Any]) -> str:
    (lowest, highest), (least, most) = values["range"], values["sums"]
    return f"they range from {lowest:.3g} to {highest:.3g} and add up to {least:.3g} to {most:.3g}"
