# SPDX-License-Identifier: Apache-2.0
"""ONNX files that attack whoever reads them, each with the words that the refusal must have."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from perception_node.engines.importing.graph.loading import MAX_NODES
from perception_node.model.bundle import Input, Output
from tests.builders import MANIFEST, make_bundle, to_onnx
from tests.import_builders import scores_network


def graph(*nodes, weights=(), outputs=5, opset=17, **fields) -> bytes:
    """Return a model of these nodes, from ``image`` to ``scores``."""
    made = helper.make_graph(
        list(nodes),
        "hostile",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 3, 4, 4])],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, outputs])],
        list(weights),
    )
    model = onnx.load_model_from_string(to_onnx(made))
    model.opset_import[0].version = opset
    for name, value in fields.items():
        getattr(model, name).extend(value)
    return model.SerializeToString()


def node(operator, inputs, outputs=("scores",), **attributes):
    return helper.make_node(operator, list(inputs), list(outputs), **attributes)


def constant(name, values, kind=np.int64):
    return numpy_helper.from_array(np.array(values, kind), name)


def external(location: str) -> bytes:
    """Return a model whose weights lie in another file."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[48, 5])
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return graph(
        node("Flatten", ["image"], ["row"]), node("MatMul", ["row", "w"]), weights=[tensor]
    )


def hidden_external() -> bytes:
    """Return a model whose other file is named inside a branch."""
    inner = onnx.load_model_from_string(external("../../etc/passwd")).graph
    del inner.input[:]
    branch = node("If", ["yes"], then_branch=inner, else_branch=inner)
    return graph(branch, weights=[constant("yes", 1, np.bool_)])


def huge() -> bytes:
    """Return 200 bytes that ask for 256 GiB."""
    shape = constant("shape", [1 << 36])
    nodes = (
        node("ConstantOfShape", ["shape"], ["many"]),
        node("ReduceSum", ["many"], ["sum"], keepdims=0),
        node("ReduceMean", ["image"], ["means"], axes=[2, 3], keepdims=0),
        node("Add", ["means", "sum"]),
    )
    return graph(*nodes, weights=[shape], outputs=3)


def wide() -> bytes:
    """Return a tensor that states far more than it holds."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1 << 20, 1 << 20])
    return graph(node("Flatten", ["image"]), weights=[tensor])


def short() -> bytes:
    """Return a tensor that holds less than it states."""
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[48, 5], raw_data=b"abcd")
    return graph(
        node("Flatten", ["image"], ["row"]), node("MatMul", ["row", "w"]), weights=[tensor]
    )


def endless() -> bytes:
    """Return a loop of 2**62 steps."""
    body = helper.make_graph(
        [node("Identity", ["go"], ["still"]), node("Sin", ["x"], ["y"])],
        "body",
        [
            helper.make_tensor_value_info("step", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x", TensorProto.FLOAT, None),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, None),
        ],
    )
    loop = node("Loop", ["count", "", "row"], body=body)
    mean = node("ReduceMean", ["image"], ["row"], axes=[2, 3], keepdims=0)
    return graph(mean, loop, weights=[constant("count", 1 << 62)], outputs=3)


def endless_bundle(folder):
    """Write a bundle whose model never ends its first frame."""
    size, scores = Input("image", 4, 4), Output("scores", "logits", 3)
    return make_bundle(folder, endless(), replace(MANIFEST, input=size, output=scores))


def functions(levels: int) -> bytes:
    """Return functions that call each other twice: 2**levels nodes when written out."""
    made, opsets = [], [helper.make_opsetid("", 17), helper.make_opsetid("f", 1)]
    for level in range(levels):
        inner = {"op_type": "Sin"} if level == 0 else {"op_type": f"f{level - 1}", "domain": "f"}
        steps = [
            helper.make_node(inner["op_type"], [a], [b], domain=inner.get("domain", ""))
            for a, b in (("x", "m"), ("m", "y"))
        ]
        made.append(helper.make_function("f", f"f{level}", ["x"], ["y"], steps, opsets))
    call = helper.make_node(f"f{levels - 1}", ["row"], ["scores"], domain="f")
    mean = node("ReduceMean", ["image"], ["row"], axes=[2, 3], keepdims=0)
    return graph(mean, call, outputs=3, functions=made, opset_import=opsets[1:])


ELSEWHERE = "lie in (another file|.*, outside of its folder); save the model in one file"
REFUSED = {
    "custom operator": (
        lambda: graph(helper.make_node("Run", ["image"], ["scores"], domain="evil")),
        "operators that are not ONNX's own: 'evil.Run'",
    ),
    "unknown operator": (lambda: graph(node("Nonsense", ["image"])), "breaks a rule of ONNX"),
    "opset 99": (lambda: graph(node("Flatten", ["image"]), opset=99), "opset 99 is newer than"),
    "too many nodes": (
        lambda: graph(*[node("Sin", ["image"], [f"n{n}"]) for n in range(MAX_NODES + 1)]),
        "more than 20000 nodes",
    ),
    "file above": (lambda: external("../../../etc/passwd"), ELSEWHERE),
    "file by its path": (lambda: external("/etc/passwd"), ELSEWHERE),
    "file of the child": (lambda: external("request"), "lie in (another file|request, not found)"),
    "file inside a branch": (hidden_external, ELSEWHERE),
    "a huge tensor": (wide, "states .* and holds less"),
    "a short tensor": (short, "states .* and holds less"),
    "random bytes": (lambda: np.random.default_rng(0).bytes(5000), "neither .* nor ONNX"),
    "a cut file": (lambda: scores_network()[:-100], "neither .* nor ONNX|breaks a rule"),
}
# These cost memory or time until a limit ends them: only for a confined process.
COSTLY = {
    "256 GiB": (huge, "ONNX Runtime cannot run it|crashed"),
    "functions that double": (lambda: functions(40), "breaks a rule|crashed|nodes|processor time"),
}
