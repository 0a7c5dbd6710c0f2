# SPDX-License-Identifier: Apache-2.0
"""Read a file of class names beside the model, as Teachable Machine, Azure, TAO and people leave.

It says nothing of the image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from perception_node.engines.importing.settings import Choice

if TYPE_CHECKING:
    from perception_node.engines.importing.makers.evidence import Evidence

STEMS = ("labels", "label", "classes", "class_names", "classmap", "class_map", "class_to_idx")
MORE = (
    "index_to_name.json",
    "imagenet_classes.txt",
    "synset.txt",
    "class_id_map.txt",
    "names.txt",
)
ENDINGS = (".txt", ".json", ".yaml", ".yml", ".csv")
NAMES = (*(f"{stem}{ending}" for stem in STEMS for ending in ENDINGS), *MORE)


def read(evidence: Evidence) -> dict[str, Choice]:
    """Return the class names of the first such file."""
    for name in NAMES:
        if labels := evidence.labels(name):
            return {"labels": Choice(labels, name)}
    return {}
