# SPDX-License-Identifier: Apache-2.0
"""What the makers of models say of them, in the model file or in small files beside it.

Each reader is a pure function of ``Evidence``; what the first one knows, goes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perception_node.engines.importing.makers import (
    hugging_face,
    label_files,
    microsoft,
    nvidia,
    paddle,
    timm,
    ultralytics,
)
from perception_node.engines.importing.makers.evidence import (
    Evidence,
    Foreign,
    NoClassifier,
    Unusable,
)
from perception_node.engines.importing.presets import PRESETS
from perception_node.errors import ConversionError
from perception_node.printable import printable

if TYPE_CHECKING:
    from pathlib import Path

    from perception_node.engines.importing.settings import Choice, Wishes

READERS = (ultralytics, timm, hugging_face, paddle, nvidia, microsoft)
# Small files that a reader may ask for; others lie where they lie.
FILES = (
    timm.FILE,
    *hugging_face.PROCESSORS,
    *paddle.FILES,
    *nvidia.DEEPSTREAM,
    *nvidia.TAO,
    microsoft.FILE,
)


def read_makers(path: Path, evidence: Evidence, wishes: Wishes) -> dict[str, Choice]:
    """Return what is known of the model, by name of setting: see ``Wishes``, and ``license``.

    Raises:
        ConversionError: a file is damaged, says that the model is no classifier, or asks for
            something that is not ours yet, and ``wishes`` say nothing else.

    """
    known: dict[str, Choice] = {}
    try:
        for reader in READERS:
            known = {**reader.read(evidence), **known}
        if "labels" not in known and wishes.labels is None and not evidence.has_labels:
            known |= label_files.read(evidence)
    except NoClassifier as error:
        raise ConversionError(path, printable(error)) from error
    except Unusable as error:
        advice = "correct it, or import the model from a folder without that file"
        raise ConversionError(path, printable(error), advice) from error
    foreign = {name: choice for name, choice in known.items() if isinstance(choice.value, Foreign)}
    answered = {*(PRESETS[wishes.preset] if wishes.preset else {})}
    open_ = [name for name in foreign if getattr(wishes, name) is None and name not in answered]
    if open_:
        asked = ", ".join(f"{foreign[name].value.name} ({foreign[name].source})" for name in open_)
        flags = " and ".join(f"--{name}" for name in open_)
        advice = f"give {flags}, if another way comes near enough"
        raise ConversionError(path, f"it asks for what is not ours yet: {asked}", advice)
    return {name: choice for name, choice in known.items() if name not in foreign}
