# SPDX-License-Identifier: Apache-2.0
"""In the confined child: the ways in which a graph may be rewritten, the best one first.

None is trusted: the first that gives the original's scores is taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from perception_node.engines.importing.graph.batches import changes
from perception_node.engines.importing.graph.loading import COMMON_OPSET
from perception_node.engines.importing.graph.opsets import raised
from perception_node.engines.onnx_graph import opset_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from onnx import ModelProto

    from perception_node.engines.importing.graph.batches import Change, Shapes


@dataclass(frozen=True, slots=True)
class Way:
    """One way to rewrite a graph.

    Attributes:
        model: to begin with.
        change: makes its graph one for a single image; None if it must get copies of the image.
        notes: lines for people on what it does.

    """

    model: ModelProto
    change: Change | None
    notes: list[str]


def ways(model: ModelProto, batch: int, record: Callable[[], Shapes]) -> Iterator[Way]:
    """Yield the ways for a model that takes ``batch`` images at once; see ``changes``."""
    newer = raised(model)
    if newer is not None:
        note = f"opset {opset_version(model)} raised to {COMMON_OPSET}"
        for line, change in changes(batch, record):
            yield Way(newer, change, [note, *line])
    for line, change in changes(batch, record):
        yield Way(model, change, line)
