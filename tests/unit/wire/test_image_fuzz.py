# SPDX-License-Identifier: Apache-2.0
"""Mutated messages end in a result or in one line, whatever their bytes are.

``pytest --hypothesis-profile nightly`` tries far more of them.
"""

from __future__ import annotations

import random
import struct
import time
import tracemalloc
import zlib
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perception_node.engines.onnxruntime import OnnxRuntimeEngine
from perception_node.engines.pipeline import Pipeline
from perception_node.errors import FrameError
from perception_node.flow.accounts import StreamMonitor
from perception_node.model.bundle import load_bundle
from perception_node.wire.images import ImageReader
from tests.hostile_images import HUGE, SIGNATURE, compressed_sources, raw_sources

EXAMPLES = max(500, settings.default.max_examples)
SEEDS = 10 * EXAMPLES
LONGEST_LINE = 540  # 32 characters of an encoding, all escaped, and the names of all that are read
MAX_PIXELS = 1 << 18
OVERHEAD_BYTES = 100_000
HEADER_BYTES = 80  # most fields are here
SOURCES = {"raw": raw_sources(), "compressed": compressed_sources()}
KINDS = {
    "raw": {"message", "stamp", "layout", "encoding", "too_large"},
    "compressed": {"message", "stamp", "codec", "too_large"},
}
INTERESTING = (
    *(0, 1, 2, 3, 4, 7, 8, 63, 64, 65, 255, 256, 4096),
    *(2**15 - 1, 2**15, 2**16 - 1, 2**16, 2**24, 10**9 - 1, 10**9),
    *(2**31 - 1, 2**31, HUGE - 1, HUGE),
)
transports = pytest.mark.parametrize("transport", SOURCES)


def pick_place(message, rng):
    """Most mutations belong where the numbers are, some anywhere."""
    end = len(message) if rng.random() < 0.4 else min(len(message), HEADER_BYTES)
    return rng.randrange(max(1, end))


def flip_bits(message, rng, _other):
    for _ in range(rng.randint(1, 6)):
        if message:
            message[pick_place(message, rng)] ^= 1 << rng.randrange(8)
    return message


def overwrite_field(message, rng, _other):
    place = pick_place(message, rng)
    place -= place % 4 if rng.random() < 0.9 else 0
    near = (len(message), len(message) - place - 4, len(message) - place - 5)
    value = rng.choice((*INTERESTING, *near)) & HUGE
    message[place : place + 4] = struct.pack(rng.choice("<>") + "I", value)
    return message


def change_field(message, rng, _other):
    """Change a number by little, as drivers that count wrong do."""
    place = pick_place(message, rng) & ~3
    order = rng.choice("<>")
    value = int.from_bytes(message[place : place + 4], "little" if order == "<" else "big")
    message[place : place + 4] = struct.pack(order + "I", (value + rng.randint(-2, 2)) & HUGE)
    return message


def truncate(message, rng, _other):
    return message[: rng.randrange(len(message) + 1)]


def extend(message, rng, _other):
    return message + bytes(rng.randrange(256) for _ in range(rng.randint(1, 16)))


def swap_byte_order(message, rng, _other):
    """Claim the other byte order; every other time, turn the fields of the header as well."""
    if len(message) > 1:
        message[1] ^= 1
    end = min(len(message), 20) if rng.random() < 0.5 else 4
    for place in range(4, end - 3, 4):
        message[place : place + 4] = message[place : place + 4][::-1]
    return message


def splice(message, rng, other):
    return message[: rng.randrange(len(message) + 1)] + other[rng.randrange(len(other)) :]


def repeat(message, rng, _other):
    """Insert a part of the message a second time."""
    start, place = pick_place(message, rng), pick_place(message, rng)
    return message[:place] + message[start : start + rng.randint(1, 64)] + message[place:]


MUTATIONS = (
    *(flip_bits, overwrite_field, change_field, change_field),
    *(truncate, extend, swap_byte_order, splice, repeat),
)


def mend_checksums(message):
    """Make the chunks of a PNG right again, or libpng looks no further."""
    place = message.find(SIGNATURE) + len(SIGNATURE)
    while 8 <= place <= len(message) - 12:
        end = place + 8 + int.from_bytes(message[place : place + 4], "big")
        if end + 4 > len(message):
            break
        message[end : end + 4] = struct.pack(">I", zlib.crc32(message[place + 4 : end]))
        place = end + 4
    return message


def mutate(sources, rng) -> bytes:
    """Return one of the messages after one to three mutations."""
    message = bytearray(rng.choice(sources))
    for _ in range(rng.randint(1, 3)):
        message = rng.choice(MUTATIONS)(message, rng, rng.choice(sources))
    return bytes(mend_checksums(message) if rng.random() < 0.7 else message)


@pytest.fixture(autouse=True)
def _quiet(capfd):
    """Swallow what libjpeg and libpng write about damaged files."""
    yield
    capfd.readouterr()


@pytest.fixture(scope="module")
def pipeline(color_bundle):
    bundle = load_bundle(color_bundle)
    with Pipeline(bundle, OnnxRuntimeEngine(bundle, 1)) as pipeline:
        yield pipeline


def reader(transport):
    return ImageReader(transport, MAX_PIXELS, 16)


def require_line(error):
    text = str(error)
    assert text
    assert text.isprintable()
    assert text.isprintable()
    assert len(text) < LONGEST_LINE


def require_result(pipeline, frame):
    scores = [h.score for h in pipeline.run(frame, top_k=3, threshold=0.0).hypotheses]
    assert len(scores) == 3
    assert np.isfinite(scores).all()
    assert sum(scores) == pytest.approx(1.0, abs=1e-5)
    assert frame.stamp_ns >= 0


def outcome(read, pipeline, message) -> str:
    """Read and classify; return the kind of the error, or "classified"."""
    StreamMonitor().look(message)
    try:
        frame = read(message)
    except FrameError as error:
        require_line(error)
        return error.kind
    require_result(pipeline, frame)
    return "classified"


@transports
def test_every_source_is_whole(pipeline, transport):
    read = reader(transport).read
    assert {outcome(read, pipeline, message) for message in SOURCES[transport]} == {"classified"}


@transports
def test_messages_mutated_by_seed(pipeline, transport):
    read, seen = reader(transport).read, Counter()
    for seed in range(SEEDS):
        message = mutate(SOURCES[transport], random.Random(seed))
        try:
            seen[outcome(read, pipeline, message)] += 1
        except Exception as error:
            raise AssertionError(f"seed {seed}: {message[:200]!r}") from error
    # A fuzzer that only hits one wall tests nothing behind it.
    assert {*KINDS[transport], "classified"} <= set(seen)
    assert seen["classified"] > SEEDS / 20


@transports
@settings(max_examples=EXAMPLES)
@given(rng=st.randoms(use_true_random=False))
def test_messages_mutated_by_hypothesis(pipeline, transport, rng):
    outcome(reader(transport).read, pipeline, mutate(SOURCES[transport], rng))


@transports
@given(first=st.integers(0, 2**32 - 1), rng=st.randoms(use_true_random=False))
def test_the_next_whole_message_is_read_as_ever(pipeline, transport, first, rng):
    """Nothing of a bad message stays behind in the buffers."""
    sources = SOURCES[transport]
    whole = sources[first % len(sources)]
    read = reader(transport).read
    before = pipeline.run(read(whole), top_k=3, threshold=0.0).hypotheses
    outcome(read, pipeline, mutate(sources, rng))
    assert pipeline.run(read(whole), top_k=3, threshold=0.0).hypotheses == before


def claims(message):
    """Set each number in the header and behind it to each interesting value, one at a time."""
    for place in range(4, min(len(message), 200) - 3):
        for value in INTERESTING:
            for order in "<>":
                yield message[:place] + struct.pack(order + "I", value) + message[place + 4 :]


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(("raw", SOURCES["raw"][4]), id="raw"),
        *(
            pytest.param(("compressed", SOURCES["compressed"][i]), id=f"compressed {i}")
            for i in (0, 10, 14)
        ),
    ],
)
def test_no_claim_is_believed(message):
    """Neither memory nor time depends on what a message says of itself."""
    transport, whole = message
    read = reader(transport).read
    limit = OVERHEAD_BYTES + len(whole) + 3 * MAX_PIXELS * (transport == "compressed")
    tracemalloc.start()
    try:
        for number, claim in enumerate(claims(whole)):
            tracemalloc.reset_peak()
            before, start_s = tracemalloc.get_traced_memory()[0], time.thread_time()
            try:
                read(claim)
            except FrameError as error:
                require_line(error)
            text = f"claim {number}: {claim[:200]!r}"
            assert tracemalloc.get_traced_memory()[1] - before < limit, text
            assert time.thread_time() - start_s < 0.5, text  # 2 GB in a PNG took OpenCV seconds
    finally:
        tracemalloc.stop()
