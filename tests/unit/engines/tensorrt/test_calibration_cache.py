# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import math

import pytest

from perception_node.engines.tensorrt.calibration_cache import (
    ANY_VERSION,
    CalibrationCache,
    parse_cache,
    version_number,
)
from perception_node.errors import CalibrationError

# MLPerf's resnet50 for TensorRT 8.0.1 begins like this; 0x3f810204 is 128 / 127.
PUBLISHED = b"TRT-8001-EntropyCalibration2\ninput_tensor_0: 3f810204\n"


def test_a_published_cache_is_read():
    cache = parse_cache(PUBLISHED)
    assert (cache.version, cache.algorithm) == (8001, "entropy")
    assert cache.scales == {"input_tensor_0": pytest.approx(128 / 127)}
    assert cache.to_bytes() == PUBLISHED


def test_ours_is_without_a_version():
    content = CalibrationCache({"image": 2.0, "a: b/c": 0.5}).to_bytes()
    assert content == b"TRT-0-MinMaxCalibration\nimage: 40000000\na: b/c: 3f000000\n"
    assert parse_cache(content) == CalibrationCache(
        {"image": 2.0, "a: b/c": 0.5}, "minmax", ANY_VERSION
    )


@pytest.mark.parametrize(
    "scale", [0.0, -1.0, math.inf, math.nan, 1e-60], ids=["0", "-1", "inf", "nan", "too small"]
)
def test_a_scale_that_is_no_positive_number_is_not_written(scale):
    with pytest.raises(CalibrationError, match=r"'image': the scale .* calibrate again"):
        CalibrationCache({"image": scale}).to_bytes()


@pytest.mark.parametrize("bits", ["00000000", "80000000", "bf800000", "7f800000", "7fc00000"])
def test_a_scale_that_is_no_positive_number_is_not_read(bits):
    with pytest.raises(CalibrationError, match="'image': the scale"):
        parse_cache(f"TRT-0-MinMaxCalibration\nimage: {bits}\n".encode())


@pytest.mark.parametrize("name", ["", "two\nlines", "image\x00"])
def test_a_name_that_would_break_the_text_is_not_written(name):
    with pytest.raises(CalibrationError, match="its name cannot be in a calibration cache"):
        CalibrationCache({name: 1.0}).to_bytes()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no text"),
        (b"\xff\xfe", "no text"),
        (b"{}\n", "line 1 is '{}'"),
        (b"TRT-8601-LegacyCalibration\nimage: 3f810204\n", "line 1 is "),
        (b"TRT-8601-MinMaxCalibration\n", "no tensors"),
        (b"TRT-8601-MinMaxCalibration\nimage: 3f81\n", "line 2 is 'image: 3f81'"),
        (b"TRT-8601-MinMaxCalibration\nimage 3f810204\n", "line 2 is "),
        (b"TRT-8601-MinMaxCalibration\na: 3f810204\na: 3f810204\n", "line 3 is "),
    ],
)
def test_what_is_no_cache_is_refused(content, why):
    with pytest.raises(CalibrationError, match=f"no calibration cache .*{why}.*run perception"):
        parse_cache(content)


@pytest.mark.parametrize(
    ("version", "number"),
    [("8.6.1", 8601), ("8.6.2.3", 8602), ("10.0.1", 100001), ("10.3.0.30", 100300)],
)
def test_versions_are_numbered_as_tensorrt_does(version, number):
    assert version_number(version) == number
