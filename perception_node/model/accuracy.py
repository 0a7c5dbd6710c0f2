# SPDX-License-Identifier: Apache-2.0
"""The accuracy gate: an int8 model runs only if somebody has measured that it is good enough.

``perception evaluate`` writes ``accuracy.json`` into the bundle: for each model file its sha256,
what was measured, and whether that is within the limits. A verdict holds for exactly those
bytes, that float32 model and that preprocessing.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

from perception_node.errors import ModelFormatError, UngatedModel
from perception_node.model.bundle import ACCURACY, MODEL
from perception_node.model.sealed_json import parse

if TYPE_CHECKING:
    from perception_node.model.bundle import ModelBundle
    from perception_node.untyped import Json

ALLOW = "or allow it all the same: allow_ungated:=true, --allow-ungated"


def require_accurate(bundle: ModelBundle, model: str, *, allow_ungated: bool) -> None:
    """Refuse a model file of the bundle unless ``accuracy.json`` says that it passed.

    Raises:
        UngatedModel: the file was never evaluated, the verdict is about something else, or the
            gate failed; says which and what to do.
        ModelFormatError: ``accuracy.json`` says something impossible.
        ModelIntegrityError: ``accuracy.json`` was changed after it was written.

    """
    if allow_ungated:
        return
    problem = find_problem(bundle, model)
    if problem:
        raise UngatedModel(bundle.path / model, f"{problem}; {ALLOW}")


def find_problem(bundle: ModelBundle, model: str) -> str:
    """Return why a model file is not known to be accurate, and what to do; empty if it is.

    Raises:
        ModelError: see ``require_accurate``.

    """
    evaluate = f"perception evaluate {bundle.path} --images DIR --labels CSV"
    record = read_accuracy(bundle)
    verdict = record["models"].get(model) if record else None
    if verdict is None:
        return f"its accuracy was never measured; run: {evaluate}"
    if record["subject"] != subject(bundle) or verdict["sha256"] != bundle.files.get(model):
        return f"{ACCURACY} is about another model or other preprocessing; run again: {evaluate}"
    if verdict["passed"]:
        return ""
    calibrate = "calibrate again with other images or method, or keep layers in float"
    return f"too inaccurate: {'; '.join(verdict['why'])}; {calibrate} (perception calibrate)"


def read_accuracy(bundle: ModelBundle) -> dict[str, Any]:
    """Return what ``accuracy.json`` says, empty if the bundle has none.

    Raises:
        ModelError: see ``require_accurate``.

    """
    if ACCURACY not in bundle.files:
        return {}
    try:
        record = parse(bundle.read(ACCURACY))
        _check(record)
    except (ValueError, TypeError, KeyError) as error:
        problem = "says nothing that perception evaluate would write; run that again"
        raise ModelFormatError(bundle.path / ACCURACY, problem) from error
    return dict(record)


def subject(bundle: ModelBundle) -> dict[str, str]:
    """Return digests of what every verdict rests on: the reference and what feeds it.

    A verdict on a multi-label model also rests on its thresholds.
    """
    found = {
        "reference_sha256": bundle.files[MODEL],
        "preprocessing_sha256": bundle.manifest.preprocessing.sha256(),
    }
    output = bundle.manifest.output
    if output.is_multi_label:
        text = json.dumps([output.kind, output.thresholds])
        found["output_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    return found


def _check(record: Json) -> None:
    """Require the fields that ``find_problem`` reads."""
    kinds: dict[str, type] = {"sha256": str, "passed": bool, "why": list}
    if not isinstance(record["subject"], dict):
        raise TypeError
    for verdict in dict(record["models"]).values():
        for name, kind in kinds.items():
            if not isinstance(verdict[name], kind):
                raise TypeError
        if not all(isinstance(reason, str) for reason in verdict["why"]):
            raise TypeError
