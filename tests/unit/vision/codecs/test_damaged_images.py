# SPDX-License-Identifier: Apache-2.0
"""Damaged images are no images: seeded damage of many kinds, `make damaged` for 10 000 of them.

A PNG has checksums, so that none may pass with another picture. A JPEG has none: where damage
leaves a valid JPEG, it is one of another picture, and no decoder can tell. What libjpeg does see,
the node must: libjpeg itself, asked through OpenCV, is the judge of what passed.
"""

from __future__ import annotations

import os
import re
import resource
import time
from collections import Counter

import cv2
import numpy as np
import pytest

from perception_node.errors import FrameError, UndecodableImage
from perception_node.vision.codecs import jpeg
from perception_node.vision.decode import Decoder
from tests.damaged_images import Damaged, damage, fingerprint, sources

NUMBER = int(os.environ.get("DAMAGED", "600"))
SLOWEST_S, LARGEST_KIB = 0.1, 100 << 10
COMPLAINTS = ("Corrupt JPEG data", "Premature end", "Invalid SOS", "Unknown", "Inconsistent")
# As webcams add it: see jpeg.py.
PADDING = re.compile(
    r"\b([1-9] extraneous bytes before marker 0xd9"
    r"|[1-3]?\d extraneous bytes before marker 0xd[0-7])"
)
DECODER = Decoder(4096 * 4096, 224)

pytestmark = pytest.mark.timeout(120 + NUMBER // 20)


def libjpeg_complains(data: bytes, capfd) -> bool:
    """Ask libjpeg, which writes to stderr where it found damage and hides it."""
    capfd.readouterr()
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    said = capfd.readouterr().err
    is_damaged = any(complaint in said for complaint in COMPLAINTS)
    return pixels is None or (is_damaged and not PADDING.search(said))


def is_another_picture(file: Damaged) -> bool:
    """Return whether the pixels differ from those of the whole file."""
    return not np.array_equal(DECODER.decode(file.data), DECODER.decode(file.whole))


def test_the_whole_files_are_taken_without_a_word(capfd):
    """If this fails, the other tests here show nothing."""
    for name, data in sources().items():
        assert DECODER.decode(data).shape[2] == 3, name
        assert not libjpeg_complains(data, capfd), name


def test_the_damage_is_the_same_each_time():
    assert fingerprint(damage(60)) == fingerprint(damage(60))
    assert fingerprint(damage(60, seed=1)) != fingerprint(damage(60))


@pytest.mark.skipif(jpeg.decode_jpeg is None, reason="simplejpeg is not installed")
def test_no_damage_that_a_decoder_can_see_passes(capfd):
    slowest_s, before_kib = 0.0, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    passed: list[Damaged] = []
    for file in damage(NUMBER):
        start_s = time.thread_time()
        try:
            DECODER.decode(file.data)
        except FrameError as error:
            assert str(error).isprintable()
        else:
            passed.append(file)
        slowest_s = max(slowest_s, time.thread_time() - start_s)
    growth_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib
    assert not capfd.readouterr().err, "a library writes to stderr for each damaged image"
    others = [file for file in passed if is_another_picture(file)]
    unseen = Counter(f"{file.source.split()[0]} {file.way}" for file in others)
    assert not [file.way for file in others if file.source.startswith("png")]
    assert not [file.source for file in others if file.way == "cut"]
    for file in passed:
        if file.source.startswith("jpeg"):
            assert not libjpeg_complains(file.data, capfd), (file.source, file.way)
    assert slowest_s < SLOWEST_S
    assert growth_kib < LARGEST_KIB
    print(
        f"{NUMBER} damaged images: {len(passed)} decoded, {len(passed) - len(others)} of them to "
        f"the same pixels, {len(others)} valid JPEGs of another picture {dict(unseen)}; slowest "
        f"{1000 * slowest_s:.1f} ms, memory {growth_kib / 1024:.0f} MiB more"
    )


def test_where_damaged_images_are_used_what_can_be_decoded_is(capfd):
    """Half of a picture is decoded, silently; a PNG is never used, its rows would be noise."""
    lenient = Decoder(4096 * 4096, 224, "use")
    decoded: Counter[str] = Counter()
    for file in damage(300):
        try:
            pixels = lenient.decode(file.data)
        except FrameError:
            continue
        decoded[f"{file.source.split()[0]} {file.way}"] += 1
        if file.source.startswith("png"):
            assert np.array_equal(pixels, lenient.decode(file.whole))
    assert decoded["jpeg cut"] > 20
    assert decoded["jpeg lost"] > 20
    assert not capfd.readouterr().err


def test_a_jpeg_without_its_end_is_used_only_where_damaged_images_are():
    for name, data in sources().items():
        if name.startswith("jpeg"):
            cut = data[: len(data) * 3 // 4]
            with pytest.raises(UndecodableImage, match="cut short"):
                DECODER.decode(cut)
            used = Decoder(4096 * 4096, 224, "use").decode(cut)
            assert used.shape == DECODER.decode(data).shape
