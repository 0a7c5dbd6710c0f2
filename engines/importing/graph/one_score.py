# SPDX-License-Identifier: Apache-2.0
"""In the confined child: a model with one score says yes or no, and becomes one of two classes.

A probability p becomes (1 - p, p). A logit z becomes (0, z), whose softmax is (1 - p, p) for the
sigmoid p of z. Everything behind the import then sees an ordinary model of two classes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from perception_node.engines.onnx_graph import unused_name
from perception_node.errors import ConversionError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray
    from onnx import ModelProto

    from perception_node.model.bundle import OutputKind


def split_score(
    path: Path, model: ModelProto, kind: OutputKind | None, labels: int
) -> OutputKind | None:
    """Give a rewritten model with one score, float32 (1, 1), a score for "no", in front.

    With a single label it is left as it is: this label is there or not.

    Args:
        path: the model's file.
        model: changed in place; one with more scores is left as it is.
        kind: what the output is, as far as it is known.
        labels: how many there are.

    Returns:
        What the output is now; None for a model with more scores.

    Raises:
        ConversionError: the kind is not known.

    """
    graph = model.graph
    row = graph.output[0].type.tensor_type.shape.dim
    if row[1].dim_value != 1:
        return None
    if kind in {None, "probabilities"}:  # the softmax of one score is always 1
        problem = f"its one score is {'no softmax' if kind else 'a logit or a probability'}"
        raise ConversionError(path, f"{problem}; give --output sigmoid-logits|sigmoid")
    is_score = kind == "sigmoid"
    if labels == 1:
        return "sigmoid" if is_score else "sigmoid-logits"
    yes = graph.output[0].name
    no, constant, both = (unused_name(graph, wish) for wish in ("no", "no_constant", "no_yes"))
    value = np.full((1, 1), 1.0 if is_score else 0.0, np.float32)
    graph.initializer.append(numpy_helper.from_array(value, constant if is_score else no))
    if is_score:
        graph.node.append(helper.make_node("Sub", [constant, yes], [no]))
    graph.node.append(helper.make_node("Concat", [no, yes], [both], axis=1))
    graph.output[0].CopyFrom(helper.make_tensor_value_info(both, TensorProto.FLOAT, [1, 2]))
    return "probabilities" if is_score else "logits"


def with_other_score(scores: NDArray[np.float32], kind: OutputKind | None) -> NDArray[np.float32]:
    """Return (n, 2) scores of (n, 1) as ``split_score`` does; ``kind`` is what it returned."""
    other = 1.0 - scores if kind == "probabilities" else np.zeros_like(scores)
    return np.concatenate([other, scores], axis=1)
