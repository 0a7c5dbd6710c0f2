# SPDX-License-Identifier: Apache-2.0
"""ONNX files that were whole and are not any more: any number, the same for the same seed.

Half are damaged in their bytes, as disks and cables do it; half in their structure, as a faulty
exporter or somebody with intent does it.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, NamedTuple

import onnx
from onnx import TensorProto

from tests.import_builders import scores_network
from tests.variant_builders import (
    FLOAT,
    batch,
    float16,
    float64,
    grey,
    node,
    shuffled,
    value,
    variant,
    with_inputs,
    with_rgba,
    zip_map,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

ODD_TEXTS = ("", "image", "a\x1bb", "\u202e", "x" * 3000, "two\nlines", "logits")
ODD_NUMBERS = (-(1 << 63), -2, -1, 0, 1, 2, 3, 4, 7, 1000, 1 << 31, (1 << 63) - 1)
OPERATORS = ("Add", "ArgMax", "Cast", "Concat", "Conv", "Expand", "Gather", "Gemm", "If", "Loop")
OPERATORS += ("MatMul", "Reshape", "Slice", "Softmax", "Split", "Tile", "Transpose", "ZipMap", "?")


class Mutated(NamedTuple):
    """One damaged file, and what it was and went through."""

    number: int
    way: str
    content: bytes


def sources() -> list[bytes]:
    """Return whole models of many forms."""
    rgba = [node("Gather", ["image", "rgb"], ["three"], axis=3)]
    best = [node("ArgMax", ["logits"], ["best"], axis=1)]
    outputs = [value("best", TensorProto.INT64, [1, 1]), value("logits", FLOAT, [1, 5])]
    return [
        variant(),
        variant(opset=11, format_=6),
        variant(best, outputs=outputs),
        shuffled(variant()),
        zip_map(),
        with_rgba(rgba),
        with_inputs(value("keep_prob", FLOAT, [])),
        grey((None, 12, 16)),
        float64(),
        float16(),
        *(batch(3, form) for form in ("plain", "windows", "token", "odd")),
        scores_network(metadata={"labels": '["a", "b", "c", "d", "e"]'}),
        scores_network("HWC", "uint8", moved_before_cast=True),
    ]


def mutated(count: int, seed: int = 0) -> Iterator[Mutated]:
    """Yield damaged files."""
    whole = sources()
    for number in range(count):
        chance = random.Random(f"{seed} {number}")
        content = chance.choice(whole)
        if chance.random() < 0.5:
            way = chance.choice(BYTES)
            yield Mutated(number, way.__name__, way(content, chance))
            continue
        model = onnx.load_model_from_string(content)
        ways = chance.choices(STRUCTURES, k=chance.choice((1, 1, 2, 3)))
        for each in ways:
            each(model, chance)
        names = " and ".join(each.__name__ for each in ways)
        yield Mutated(number, names, model.SerializeToString())


def _flip(content, chance):
    data = bytearray(content)
    for _ in range(chance.choice((1, 2, 8))):
        data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
    return bytes(data)


def _cut(content, chance):
    return content[: chance.randrange(len(content))]


def _remove(content, chance):
    first = chance.randrange(len(content))
    return content[:first] + content[first + chance.choice((1, 2, 16)) :]


def _repeat(content, chance):
    first = chance.randrange(len(content))
    part = content[first : first + chance.choice((1, 4, 64))]
    return content[:first] + part * chance.choice((2, 9)) + content[first:]


def _overwrite(content, chance):
    first = chance.randrange(len(content))
    return content[:first] + chance.randbytes(4) + content[first + 4 :]


def _node(model, chance):
    return chance.choice(model.graph.node or [onnx.NodeProto()])


def _value(model, chance):
    return chance.choice([*model.graph.input, *model.graph.output] or [onnx.ValueInfoProto()])


def _tensor(model, chance):
    return chance.choice(model.graph.initializer or [onnx.TensorProto()])


def _drop_node(model, chance):
    if model.graph.node:
        del model.graph.node[chance.randrange(len(model.graph.node))]


def _double_node(model, chance):
    model.graph.node.add().CopyFrom(_node(model, chance))


def _other_operator(model, chance):
    _node(model, chance).op_type = chance.choice(OPERATORS)


def _other_domain(model, chance):
    _node(model, chance).domain = chance.choice(("ai.onnx", "ai.onnx.ml", "com.microsoft", "\x1b"))


def _rename(model, chance):
    each = _node(model, chance)
    names = chance.choice((each.input, each.output))
    if names:
        names[chance.randrange(len(names))] = chance.choice(ODD_TEXTS)


def _swap(model, chance):
    names = _node(model, chance).input
    chance.shuffle(names)


def _drop_names(model, chance):
    each = _node(model, chance)
    del chance.choice((each.input, each.output))[:]


def _change_attribute(model, chance):
    each = _node(model, chance)
    for attribute in each.attribute:
        attribute.i = chance.choice(ODD_NUMBERS)
        attribute.ints[:] = [chance.choice(ODD_NUMBERS) for _ in attribute.ints]
        attribute.name = chance.choice((attribute.name, attribute.name, "axis", "to"))


def _drop_attributes(model, chance):
    del _node(model, chance).attribute[:]


def _change_type(model, chance):
    _value(model, chance).type.tensor_type.elem_type = chance.randrange(25)


def _change_axes(model, chance):
    axes = _value(model, chance).type.tensor_type.shape.dim
    for axis in axes:
        if chance.random() < 0.4:
            axis.dim_value = chance.choice(ODD_NUMBERS)
    if chance.random() < 0.3:
        axes.add().dim_param = "more"


def _drop_type(model, chance):
    _value(model, chance).ClearField("type")


def _rename_value(model, chance):
    _value(model, chance).name = chance.choice(ODD_TEXTS)


def _add_value(model, chance):
    kinds = [value(chance.choice(ODD_TEXTS), chance.randrange(1, 17), [1, 5])]
    kinds.append(_value(model, chance))
    chance.choice((model.graph.input, model.graph.output)).add().CopyFrom(chance.choice(kinds))


def _drop_values(model, chance):
    del chance.choice((model.graph.input, model.graph.output, model.graph.initializer))[:]


def _change_weights(model, chance):
    tensor = _tensor(model, chance)
    if tensor.raw_data:
        tensor.raw_data = _flip(tensor.raw_data, chance)


def _change_dims(model, chance):
    tensor = _tensor(model, chance)
    tensor.dims[:] = [chance.choice((axis, 1, 0, 3)) for axis in tensor.dims]


def _change_numbers(model, chance):
    tensor = _tensor(model, chance)
    tensor.data_type = chance.randrange(25)


def _change_versions(model, chance):
    for opset in model.opset_import:
        opset.version = chance.choice(ODD_NUMBERS)
    model.ir_version = chance.choice((1, 3, 8, 99))


def _drop_opsets(model, chance):
    del model.opset_import[:]
    model.opset_import.add(domain=chance.choice(("", "x", "ai.onnx.ml")), version=1)


def _nest(model, chance):
    """Move the graph into a branch of itself."""
    inner = onnx.GraphProto()
    inner.CopyFrom(model.graph)
    del inner.input[:]
    outputs = [each.name for each in model.graph.output]
    del model.graph.node[:]
    name = chance.choice(("yes", "image"))
    branches = {"then_branch": inner, "else_branch": inner}
    model.graph.node.append(node("If", [name], outputs, **branches))


def _note(model, chance):
    key = chance.choice(("labels", "names", "classes", "class_names", "id2label"))
    model.metadata_props.add(
        key=key, value=chance.choice((*ODD_TEXTS, "[[[", '{"0": 1}', "{0: 1}"))
    )


BYTES = (_flip, _cut, _remove, _repeat, _overwrite)
STRUCTURES = (
    *(_drop_node, _double_node, _other_operator, _other_domain, _rename, _swap, _drop_names),
    *(_change_attribute, _drop_attributes, _change_type, _change_axes, _drop_type, _rename_value),
    *(_add_value, _drop_values, _change_weights, _change_dims, _change_numbers),
    *(_change_versions, _drop_opsets, _nest, _note),
)
