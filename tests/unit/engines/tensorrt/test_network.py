# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import weakref
from dataclasses import replace

import pytest
from onnx import TensorProto

from perception_node.engines.tensorrt.network import Network
from perception_node.errors import EngineError
from perception_node.model.bundle import Output, load_bundle
from tests.builders import MANIFEST, color_network, make_bundle
from tests.standin_tensorrt import CudaEngine, TensorFormat, standin_tensorrt


@pytest.fixture(scope="module")
def bundle(color_bundle):
    return load_bundle(color_bundle)


def test_the_plan_of_the_bundle_is_loaded_and_freed(bundle):
    network = Network(standin_tensorrt(), bundle.read(), bundle)
    parts = [weakref.ref(part) for part in (network._context, network._engine, network._runtime)]
    assert all(part() is not None for part in parts)
    network.free()
    assert all(part() is None for part in parts)


@pytest.mark.parametrize("plan", [b"", b"garbage", b"ftrt" + bytes(1000)])
def test_what_tensorrt_cannot_load_is_an_error_with_its_last_words(bundle, plan):
    with pytest.raises(EngineError, match=r"10\.3\.0 cannot load .*kMAGIC_TAG failed") as caught:
        Network(standin_tensorrt(), plan, bundle)
    assert str(bundle.path) in str(caught.value)


def test_old_complaints_are_not_blamed(bundle):
    trt = standin_tensorrt(has_context=False)
    with pytest.raises(EngineError):
        Network(trt, b"garbage", bundle)
    with pytest.raises(EngineError, match="out of memory") as caught:
        Network(trt, bundle.read(), bundle)
    assert "kMAGIC_TAG" not in str(caught.value)


@pytest.mark.parametrize(
    ("plan", "complaint"),
    [
        (color_network(shape=(1, 3, 9, 9)), r"input image FLOAT \[1, 3, 9, 9\] LINEAR"),
        (color_network(classes=4), r"output logits FLOAT \[1, 4\] LINEAR"),
        (color_network(output="scores"), "output scores FLOAT"),
        (color_network(input_type=TensorProto.FLOAT16), "input image HALF"),
        (color_network(batch="batch"), r"input image FLOAT \['batch', 3, 8, 8\]"),
    ],
)
def test_a_plan_of_another_model_is_refused(bundle, plan, complaint):
    with pytest.raises(EngineError, match=complaint) as caught:
        Network(standin_tensorrt(), plan, bundle)
    assert "build it again" in str(caught.value)


@pytest.mark.parametrize(
    ("has_context", "plan"), [(True, color_network(classes=4)), (False, color_network())]
)
def test_a_plan_that_is_refused_is_freed_before_the_error_arrives(
    bundle, monkeypatch, has_context, plan
):
    engines = []

    def keep(engine, *arguments):
        make(engine, *arguments)
        engines.append(weakref.ref(engine))

    make = CudaEngine.__init__
    monkeypatch.setattr(CudaEngine, "__init__", keep)
    try:
        Network(standin_tensorrt(has_context=has_context), plan, bundle)
    except EngineError:  # the caller frees the rest here, while the error is at hand
        assert [engine() for engine in engines] == [None]
    else:
        pytest.fail("it was not refused")


def test_a_plan_with_its_own_memory_layout_is_refused(bundle):
    trt = standin_tensorrt(layout=TensorFormat.CHW4)
    with pytest.raises(EngineError, match="CHW4"):
        Network(trt, bundle.read(), bundle)


def test_a_bundle_with_other_names_is_refused(tmp_path, bundle):
    manifest = replace(MANIFEST, output=Output("scores", "logits", 3))
    other = load_bundle(make_bundle(tmp_path / "other", color_network(output="scores"), manifest))
    with pytest.raises(EngineError, match="output logits"):
        Network(standin_tensorrt(), bundle.read(), other)


def test_an_address_that_tensorrt_refuses_is_an_error(bundle):
    network = Network(standin_tensorrt(), bundle.read(), bundle)
    with pytest.raises(EngineError, match=r"refused the address of image .*null"):
        network.bind(0, 1)
    network.free()
