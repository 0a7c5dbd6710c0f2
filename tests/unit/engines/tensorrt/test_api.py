# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest

from perception_node.engines.plans import BuildOptions
from perception_node.engines.tensorrt import api
from perception_node.engines.tensorrt.api import GATED, LogTail, TensorRt, load_tensorrt
from perception_node.engines.tensorrt.builder import build_plan
from perception_node.engines.tensorrt.inspection import inspect_plan
from perception_node.engines.tensorrt.network import Network
from perception_node.errors import ConfigError, EngineError, EnvironmentLacks
from perception_node.model.bundle import load_bundle
from tests.builders import ROOT
from tests.tensorrt_versions import VERSIONS, StandinVersion, has


@pytest.fixture
def importing(monkeypatch):
    """Let modules of TensorRT be what a test says, and nothing be remembered."""
    load_tensorrt.cache_clear()

    def install(**modules):
        def find(name):
            found = modules.get(name, ModuleNotFoundError(f"No module named {name!r}"))
            if isinstance(found, Exception):
                raise found
            return found

        monkeypatch.setattr(api, "import_module", find)

    yield install
    load_tensorrt.cache_clear()


def test_the_package_imports_no_tensorrt():
    script = (
        "import sys\n"
        "import perception_node.engines.tensorrt.build, perception_node.engines.tensorrt.machine\n"
        "heavy = {'tensorrt', 'tensorrt_rtx', 'tensorrt_rtx_bindings', 'pycuda', 'onnx'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"


def test_a_missing_package_is_named_with_the_way_to_get_it(importing):
    importing()
    with pytest.raises(EnvironmentLacks, match=r"No module named 'tensorrt'.*python3-libnvinfer"):
        load_tensorrt("tensorrt")
    with pytest.raises(EnvironmentLacks, match="pip install tensorrt-rtx"):
        load_tensorrt("tensorrt-rtx")


def test_a_package_whose_library_is_missing_says_which(importing):
    importing(tensorrt=ImportError("libnvinfer.so.10: cannot open shared object file"))
    with pytest.raises(EnvironmentLacks, match=r"libnvinfer\.so\.10"):
        load_tensorrt("tensorrt")


def test_a_version_that_is_too_old_is_refused(importing):
    module = StandinVersion(VERSIONS[0]).module
    module.__version__ = "8.5.2"
    importing(tensorrt=module)
    with pytest.raises(EnvironmentLacks, match=r"8\.5\.2 is older than 8\.6; install JetPack 6"):
        load_tensorrt("tensorrt")


NULL_POINTER = "pybind11::init(): factory function returned nullptr"


@pytest.mark.parametrize("name", ["Builder", "OnnxParser", "Runtime"])
def test_a_tensorrt_that_cannot_start_is_an_error_with_its_last_words(name, color_bundle):
    """So it behaves where the driver is too old for its CUDA."""
    module = StandinVersion("10.3.0").module
    trt = TensorRt(module, "tensorrt")

    def refuse(*_arguments):
        trt.logger.log(SimpleNamespace(name="ERROR"), "CUDA initialization failure with error: 35")
        raise TypeError(NULL_POINTER)

    setattr(module, name, refuse)
    bundle = load_bundle(color_bundle)
    uses = [lambda: Network(trt, b"plan", bundle), lambda: inspect_plan(trt, b"plan")]
    if name != "Runtime":
        uses = [lambda: build_plan(trt, b"onnx", "fp16", BuildOptions())]
    for use in uses:
        with pytest.raises(EngineError, match=r"10\.3\.0 cannot start \(CUDA init.*: 35\); does"):
            use()


def test_an_unknown_backend_is_refused():
    with pytest.raises(ConfigError, match="tensorrt, tensorrt-rtx"):
        load_tensorrt("openvino")


def test_there_is_one_handle_and_one_logger_per_process(importing):
    importing(tensorrt=StandinVersion("10.3.0").module)
    assert load_tensorrt("tensorrt") is load_tensorrt("tensorrt")


def test_rtx_is_found_under_either_name(importing):
    module = StandinVersion("11.4.0.106").module
    importing(tensorrt_rtx_bindings=module)
    assert load_tensorrt("tensorrt-rtx").module is module


@pytest.mark.parametrize(
    ("version", "release", "is_typed"),
    [
        ("8.6.1", (8, 6), False),
        ("10.3.0", (10, 3), False),
        ("10.7.0", (10, 7), False),
        ("10.13.3.9", (10, 13), True),
        ("11.4.0.106", (11, 4), True),
    ],
)
def test_networks_are_strongly_typed_from_10_12_on(version, release, is_typed):
    trt = TensorRt(StandinVersion(version).module, "tensorrt")
    assert (trt.version, trt.release, trt.is_strongly_typed) == (version, release, is_typed)


@pytest.mark.parametrize("version", VERSIONS)
def test_gated_names_are_looked_up_in_the_version_that_is_here(version):
    trt = TensorRt(StandinVersion(version).module, "tensorrt")
    assert [trt.has(name) for name in GATED] == [has(version, name) for name in GATED]


def test_only_gated_names_can_be_asked_for():
    trt = TensorRt(StandinVersion("10.3.0").module, "tensorrt")
    with pytest.raises(KeyError):
        trt.has("Builder.create_network")


@pytest.mark.parametrize("version", ["10", "10.3", "10.3.0.post1"])
def test_versions_of_any_length_are_understood(version):
    module = StandinVersion("10.3.0").module
    module.__version__ = version
    assert TensorRt(module, "tensorrt").release[0] == 10


def test_what_tensorrt_logs_as_an_error_is_kept():
    trt = TensorRt(StandinVersion("10.3.0").module, "tensorrt")
    for severity, text in (("INFO", "fine"), ("WARNING", "hm"), ("ERROR", "broken\n  here")):
        trt.logger.log(SimpleNamespace(name=severity), text)
    assert trt.log.text() == "broken here"
    trt.log.clear()
    assert trt.log.text() == "TensorRT logged no reason"


def test_warnings_are_told_where_there_are_no_errors():
    tail = LogTail()
    tail.add("WARNING", "one")
    tail.add("VERBOSE", "two")
    assert tail.text() == "one"


def test_the_log_does_not_grow():
    tail = LogTail()
    for number in range(1000):
        tail.add("ERROR", f"{number} " + "x" * 10_000)
    assert tail.text().startswith("996 x")
    assert len(tail.text()) < 2000


def test_errors_are_not_pushed_out_by_warnings():
    tail = LogTail()
    tail.add("ERROR", "the reason")
    for _ in range(1000):
        tail.add("WARNING", "noise")
    assert tail.text() == "the reason"
