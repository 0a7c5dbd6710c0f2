# SPDX-License-Identifier: Apache-2.0
"""Every name of TensorRT that our source uses is in every version we claim, or is asked for."""

from __future__ import annotations

import pytest

from perception_node.engines.tensorrt.api import GATED
from tests.builders import ROOT
from tests.tensorrt_names import find_names, own_names
from tests.tensorrt_versions import ALL_NAMES, VERSIONS, has

SOURCES = {
    str(path.relative_to(ROOT)): path.read_text()
    for path in sorted((ROOT / "engines/tensorrt").rglob("*.py"))
}
OURS = frozenset().union(*map(own_names, SOURCES.values()))
FOUND = {path: find_names(source, ALL_NAMES, OURS) for path, source in SOURCES.items()}
USED = sorted({name for names in FOUND.values() for name in names.used})


def test_the_source_is_read():
    """If the search found nothing, the tests below could not fail."""
    assert len(USED) > 40
    assert {
        "Builder.build_serialized_network",
        "BuilderFlag.FP16",
        "IBuilderConfig.progress_monitor",
        "ICudaEngine.get_tensor_shape",
        "IExecutionContext.execute_async_v3",
        "INetworkDefinition.num_layers",
        "Runtime.deserialize_cuda_engine",
    } <= set(USED)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_name_is_in_every_version_or_asked_for(version):
    assert [name for name in USED if not has(version, name) and name not in GATED] == []


@pytest.mark.parametrize("path", SOURCES)
def test_every_object_of_tensorrt_has_a_type_that_can_be_followed(path):
    assert FOUND[path].unknown == []


def test_tensorrt_for_rtx_has_every_name():
    rtx = pytest.importorskip("tensorrt_rtx_bindings", reason="TensorRT-RTX is not installed")
    missing = []
    for name in USED:
        holder, _, member = name.partition(".")
        found = getattr(rtx, holder, None)
        if found is None or (member and not hasattr(found, member)):
            missing.append(name)
    assert set(missing) <= set(GATED)


@pytest.mark.parametrize("name", GATED)
def test_gated_names_are_in_some_versions_only_and_used(name):
    present = [has(version, name) for version in VERSIONS]
    assert any(present)
    assert not all(present)
    quoted = {f'"{name}"', f'"{name.partition(".")[2]}"'}
    others = [source for path, source in SOURCES.items() if not path.endswith("/api.py")]
    assert name in USED or any(text in source for text in quoted for source in others)


@pytest.mark.parametrize(
    ("source", "used"),
    [
        ("trt.module.Builder(trt.logger)", "Builder"),
        ("self._trt.module.BuilderFlag.NEW", "BuilderFlag.NEW"),
        ("def f(config: IBuilderConfig): config.no_such()", "IBuilderConfig.no_such"),
        ("def f(layers: list[ILayer]):\n  for x in layers: x.no_such", "ILayer.no_such"),
        ("def f():\n  b = trt.module.Builder(1)\n  b.no_such", "Builder.no_such"),
        ("a, b = trt.module.DataType, 1\na.NEW", "DataType.NEW"),
        ("def g() -> Runtime: ...\ndef f(): g().no_such", "Runtime.no_such"),
        ("self.e: ICudaEngine = x()\ndef f(self): self.e.no_such = 1", "ICudaEngine.no_such"),
    ],
)
def test_a_new_name_would_be_found(source, used):
    assert used in find_names(source, ALL_NAMES).used


def test_a_value_of_unknown_type_would_be_found():
    found = find_names("def f(engine): return engine.get_tensor_shape(0)", ALL_NAMES)
    assert found.unknown == ["line 1: engine.get_tensor_shape"]
