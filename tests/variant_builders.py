# SPDX-License-Identifier: Apache-2.0
"""Classifiers in the many forms that exporters give them, each with an answer known by hand.

The score of a class is a weighted sum of the means of red, green and blue.
"""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WEIGHTS = np.array([[8, -4, -4], [-4, 8, -4], [-4, -4, 8], [2, 2, 2], [-3, -3, -3]], np.float32)
COLOURS = ("red", "green", "blue", "bright", "dark")
SIDE = (12, 16)  # height and width
FLOAT = TensorProto.FLOAT


def node(operator, inputs, outputs, **attributes):
    return helper.make_node(operator, list(inputs), list(outputs), **attributes)


def value(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def constant(name, values, kind=np.int64):
    return numpy_helper.from_array(np.array(values, kind), name)


def head(source="image", weights=WEIGHTS, kind=np.float32, *, transposed=False):
    """Return nodes and weights that make ``logits`` of the picture ``source``."""
    nodes = [node("Transpose", [source], ["planes"], perm=[0, 3, 1, 2])] if transposed else []
    nodes += [
        node("GlobalAveragePool", ["planes" if transposed else source], ["means"]),
        node("Flatten", ["means"], ["row"]),
        node("Gemm", ["row", "weights", "bias"], ["logits"], transB=1),
    ]
    zeros = np.zeros(len(weights))
    return nodes, [constant("weights", weights, kind), constant("bias", zeros, kind)]


def model(nodes, weights, inputs, outputs, opset=17, format_=8, domains=()):
    """Return an ONNX file."""
    graph = helper.make_graph(list(nodes), "g", list(inputs), list(outputs), list(weights))
    opsets = [helper.make_opsetid("", opset), *(helper.make_opsetid(d, 2) for d in domains)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=format_)
    return made.SerializeToString()


def variant(
    tail=(),
    result="logits",
    *,
    before=(),
    source="image",
    kind=FLOAT,
    shape=(1, 3, *SIDE),
    outputs=None,
    inputs=(),
    weights=(),
    transposed=False,
    **more,
):
    """Return a classifier: ``before``, the head, then ``tail``."""
    nodes, constants = head(source, transposed=transposed)
    outputs = [value(result, FLOAT, [None, 5])] if outputs is None else outputs
    inputs = [value("image", kind, shape), *inputs]
    return model([*before, *nodes, *tail], [*constants, *weights], inputs, outputs, **more)


def zip_map(*, extra=True):
    """Return what Azure Custom Vision exports: the best name, and maps from name to score."""
    names = list(COLOURS)
    tail = [
        node("Identity", ["logits"], ["shares"]),
        node("ArgMax", ["shares"], ["best"], axis=1, keepdims=0),
        node("ArrayFeatureExtractor", ["names", "best"], ["picked"], domain="ai.onnx.ml"),
        node("Reshape", ["picked", "flat"], ["label"]),
        node("ZipMap", ["shares"], ["loss"], domain="ai.onnx.ml", classlabels_strings=names),
    ]
    maps = helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(FLOAT, []))
    loss = helper.make_value_info("loss", helper.make_sequence_type_proto(maps))
    label = value("label", TensorProto.STRING, [None])
    return variant(
        tail if extra else [tail[0], tail[-1]],
        outputs=[label, loss] if extra else [loss],
        shape=(None, 3, *SIDE),
        weights=[
            helper.make_tensor("names", TensorProto.STRING, [5], names),
            constant("flat", [-1]),
        ]
        if extra
        else [],
        domains=["ai.onnx.ml"],
    )


def grey(shape, *, transposed=False, kind=FLOAT, element=None):
    """Return a classifier of grey pictures: class k has k - 2 times the mean."""
    weights = np.arange(-2, 3, dtype=np.float32)[:, None]
    before = [node("Cast", ["image"], ["float"], to=FLOAT)] if element else []
    source = "float" if element else "image"
    if len(shape) == 3:
        before.append(node("Unsqueeze", [source, "one"], ["planes"]))
        source = "planes"
    nodes, constants = head(source, weights, transposed=transposed)
    return model(
        [*before, *nodes],
        [*constants, constant("one", [1])] if len(shape) == 3 else constants,
        [value("image", element or kind, shape)],
        [value("logits", FLOAT, [None, 5])],
    )


def float64(*, everywhere=True):
    """Return a classifier that computes in float64, or casts its input only."""
    double = TensorProto.DOUBLE
    if not everywhere:
        before = [node("Cast", ["image"], ["float"], to=FLOAT)]
        return variant(before=before, source="float", kind=double)
    nodes, constants = head(kind=np.float64)
    nodes[0] = node("ReduceMean", ["image"], ["means"], axes=[2, 3])
    return model(
        nodes,
        constants,
        [value("image", double, [1, 3, *SIDE])],
        [value("logits", double, [1, 5])],
    )


def float16():
    nodes, constants = head(kind=np.float16)
    half = TensorProto.FLOAT16
    return model(
        nodes,
        constants,
        [value("image", half, ["n", 3, *SIDE])],
        [value("logits", half, ["n", 5])],
    )


def batch(size, form="plain"):
    """Return a classifier for ``size`` images at once.

    Args:
        size: number of images.
        form: ``plain``: nothing else holds the number; ``reshape``: a Reshape does; ``windows``: a
            Reshape to four windows for each image; ``computed``: the same, by nodes; ``token``:
            something is added that was written once for each image; ``odd``: images are split.

    """
    height, width = SIDE
    before, weights = [], []
    if form == "reshape":
        before = [node("Reshape", ["image", "shape"], ["x"])]
        weights = [constant("shape", [size, 3, height * width, 1])]
    elif form == "windows":
        before = [
            node("Reshape", ["image", "many"], ["parts"]),
            node("Relu", ["parts"], ["positive"]),
            node("Reshape", ["positive", "shape"], ["x"]),
        ]
        weights = [
            constant("many", [size * 4, 3, height // 2, width // 2]),
            constant("shape", [size, 3, height, width]),
        ]
    elif form == "computed":
        before = [
            node("Mul", ["size", "four"], ["number"]),
            node("Concat", ["number", "part"], ["many"], axis=0),
            node("Reshape", ["image", "many"], ["parts"]),
            node("Concat", ["size", "rest"], ["shape"], axis=0),
            node("Reshape", ["parts", "shape"], ["x"]),
        ]
        numbers = {"size": [size], "four": [4], "rest": [3, height, width]}
        numbers["part"] = [3, height // 2, width // 2]
        weights = [constant(name, number) for name, number in numbers.items()]
    elif form == "token":
        before = [node("Concat", ["image", "token"], ["wide"], axis=3)]
        before += [node("Slice", ["wide", "start", "end", "axis"], ["x"])]
        weights = [constant("token", np.full((size, 3, height, 1), 7.0), np.float32)]
        weights += [constant("start", [0]), constant("end", [width]), constant("axis", [3])]
    elif form == "odd":
        parts = [f"part{index}" for index in range(size)]
        before = [
            node("Split", ["image", "ones"], parts, axis=0),
            node("Concat", parts, ["x"], axis=0),
        ]
        weights = [constant("ones", [1] * size)]
    return variant(
        before=before,
        source="x" if before else "image",
        shape=(size, 3, height, width),
        outputs=[value("logits", FLOAT, [size, 5])],
        weights=weights,
    )


def with_inputs(*extra):
    """Return a classifier whose picture is multiplied by all further inputs."""
    before, source = [], "image"
    for number, each in enumerate(extra):
        kind = each.type.tensor_type.elem_type
        name = each.name
        if kind != FLOAT:
            before.append(node("Cast", [name], [f"number{number}"], to=FLOAT))
            name = f"number{number}"
        before.append(node("Mul", [source, name], [f"x{number}"]))
        source = f"x{number}"
    return variant(before=before, source=source, inputs=extra)


def with_rgba(dropping):
    """Return a classifier of RGBA, NHWC; ``dropping`` are the nodes that make ``three`` of it."""
    values = {"zero": [0], "three_": [3], "last": [-1], "channel": [1], "rgb": [0, 1, 2]}
    numbers = [constant(name, numbers) for name, numbers in values.items()]
    used = {name for each in dropping for name in each.input}
    return variant(
        before=dropping,
        source="three",
        shape=(1, *SIDE, 4),
        weights=[each for each in numbers if each.name in used],
        transposed=True,
    )


def shuffled(content: bytes) -> bytes:
    """Return a model whose nodes are in reverse."""
    loaded = onnx.load_model_from_string(content)
    nodes = list(reversed(loaded.graph.node))
    del loaded.graph.node[:]
    loaded.graph.node.extend(nodes)
    return loaded.SerializeToString()


def large(kind=np.float32, opset=17, size=1):
    """Return a classifier of 64x96 pixels whose weights are so large that they lie apart."""
    height, width = 64, 96
    share = np.full((3, height * width), 1 / (height * width))
    means = np.zeros((3 * height * width, 20))
    for channel in range(3):
        means[channel * height * width : (channel + 1) * height * width, channel] = share[channel]
    rest = np.zeros((20, 5))
    rest[:3] = WEIGHTS.T
    element = helper.np_dtype_to_tensor_dtype(np.dtype(kind))
    return model(
        [
            node("Reshape", ["image", "shape"], ["row"]),
            node("MatMul", ["row", "means"], ["hidden"]),
            node("MatMul", ["hidden", "rest"], ["logits"]),
        ],
        [
            constant("shape", [size, 3 * height * width]),
            constant("means", means, kind),
            constant("rest", rest, kind),
        ],
        [value("image", element, [size, 3, height, width])],
        [value("logits", element, [size, 5])],
        opset=opset,
        format_=6 if opset < 13 else 8,
    )
