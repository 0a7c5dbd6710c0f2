# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from perception_node.engines.importing.graph.open_channels import find_open_layout

TO_NCHW = helper.make_node("Transpose", ["half"], ["moved"], perm=[0, 3, 1, 2])
HALF = helper.make_node("Mul", ["image", "two"], ["half"])


def graph(nodes, channels, operator="Conv", group=1):
    """Return a graph that ends in a convolution of the tensor ``moved``."""
    shape = (4 * group, channels // group, 3, 3)
    inputs = {"Conv": ["moved", "w"], "QLinearConv": ["moved", "s", "z", "w", "s", "z", "s", "z"]}
    last = helper.make_node(operator, inputs[operator], ["out"], group=group)
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", "c", "h", "w"])
    weights = [numpy_helper.from_array(np.zeros(shape, np.float32), "w0")]
    read = helper.make_node("Cast", ["w0"], ["w"], to=TensorProto.FLOAT)
    return helper.make_graph([read, *nodes, last], "g", [image], [], weights)


def passing(operator):
    return [HALF, helper.make_node(operator, ["half"], ["moved"])]


@pytest.mark.parametrize("operator", ["Conv", "QLinearConv"])
@pytest.mark.parametrize(("channels", "suffix"), [(1, "Y"), (3, ""), (4, "A")])
def test_a_convolution_tells_place_and_number_of_the_channels(operator, channels, suffix):
    assert find_open_layout(graph(passing("Pad"), channels, operator), "image") == f"NC{suffix}HW"
    found = find_open_layout(graph([HALF, TO_NCHW], channels, operator), "image")
    assert found == f"NHWC{suffix}"


def test_groups_count():
    assert find_open_layout(graph(passing("Clip"), 3, group=3), "image") == "NCHW"


@pytest.mark.parametrize("channels", [2, 64])
def test_another_number_of_channels_is_no_layout(channels):
    assert find_open_layout(graph(passing("Identity"), channels), "image") is None


@pytest.mark.parametrize(
    "nodes",
    [
        [HALF],
        passing("Shape"),
        [HALF, helper.make_node("Transpose", ["half"], ["moved"], perm=[0, 2, 1, 3])],
        [HALF, helper.make_node("Transpose", ["half"], ["moved"], perm=[1, 1, 1, 1])],
        [helper.make_node("Mul", ["moved", "image"], ["moved"])],
    ],
    ids=["not reached", "a shape", "moved elsewhere", "no order", "circle"],
)
def test_where_no_convolution_reads_the_image_nothing_is_known(nodes):
    assert find_open_layout(graph(nodes, 3), "image") is None
