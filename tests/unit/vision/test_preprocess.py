# SPDX-License-Identifier: Apache-2.0
"""Compare with a resize that is slow and exact, after Pillow's: every input pixel is weighted."""

from __future__ import annotations

import tracemalloc
from typing import get_args

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from perception_node.model.bundle import CROPPING, PADDING, ResizeMode
from perception_node.vision.preprocess import Preprocessor
from perception_node.wire.bags import open_bag
from perception_node.wire.images import ImageReader
from tests.builders import SAMPLE_BAG, quadrants, smooth, with_preprocessing

MODES = get_args(ResizeMode)
ORDERS = {"RGB": "RGB", "BGR": "BGR", "RGBA": "RGBA", "BGRA": "BGRA"}


@pytest.fixture(scope="module")
def photos():
    """RGB, 640x480: a frame of each of the four photos in the sample bag."""
    reader = ImageReader("compressed", 1 << 20, 10_000)
    with open_bag(SAMPLE_BAG) as bag:
        messages = list(bag.messages(["/camera/image_raw/compressed"]))
    chosen = [messages[len(messages) * place // 8] for place in (1, 3, 5, 7)]
    return [reader.read(message.data).pixels[..., ::-1] for message in chosen]


def cubic(x):
    """The kernel of Pillow's BICUBIC: Keys, a = -0.5."""
    x = np.abs(x)
    near = 1.5 * x**3 - 2.5 * x**2 + 1
    far = -0.5 * x**3 + 2.5 * x**2 - 4 * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))


def triangle(x):
    return np.clip(1 - np.abs(x), 0, None)


KERNELS = {"bicubic": (cubic, 2), "bilinear": (triangle, 1)}


def resample(length, target, interpolation):
    """Return the matrix (target, length) that resizes one axis with antialiasing."""
    kernel, support = KERNELS[interpolation]
    scale = length / target
    stretch = max(scale, 1.0)
    centres = (np.arange(target) + 0.5) * scale
    distance = (np.arange(length) + 0.5 - centres[:, None]) / stretch
    weights = np.where(np.abs(distance) < support, kernel(distance), 0.0)
    return weights / weights.sum(axis=1, keepdims=True)


def resize(image, height, width, interpolation):
    rows = resample(image.shape[0], height, interpolation)
    columns = resample(image.shape[1], width, interpolation)
    tall = np.tensordot(rows, image.astype(np.float64), 1)
    turned = np.tensordot(columns, tall, (1, 1))
    return np.clip(turned.swapaxes(0, 1), 0, 255)


def reference(preprocessing, image, size):
    """Return (height, width, 3) as float64: what a model is trained with."""
    height, width = image.shape[:2]
    interpolation = preprocessing.interpolation
    if preprocessing.resize == "stretch":
        return resize(image, *size, interpolation)
    if preprocessing.resize in CROPPING:
        short = preprocessing.shorter_side
        whole = [short * length // min(height, width) for length in (height, width)]
        if preprocessing.resize == "stretch-crop":
            whole = [short, short]
        resized = resize(image, *whole, interpolation)
        top, left = (round((whole[axis] - size[axis]) / 2) for axis in (0, 1))
        return resized[top : top + size[0], left : left + size[1]]
    if preprocessing.resize == "pad-square":
        side = max(height, width)
        square = np.full((side, side, 3), preprocessing.fill, np.uint8)
        top, left = (side - height) // 2, (side - width) // 2
        square[top : top + height, left : left + width] = image
        return resize(square, *size, interpolation)
    ratio = min(size[0] / height, size[1] / width)
    inner = [max(1, round(length * ratio)) for length in (height, width)]
    result = np.full((*size, 3), float(preprocessing.fill))
    top, left = ((size[axis] - inner[axis]) // 2 for axis in (0, 1))
    result[top : top + inner[0], left : left + inner[1]] = resize(image, *inner, interpolation)
    return result


def plain(mode, interpolation="bicubic", *, size=224, fill=0):
    """Preprocessing that leaves pixel values as they are."""
    short = size * 256 // 224 if mode in CROPPING else 0
    return with_preprocessing(
        resize=mode, interpolation=interpolation, shorter_side=short, scale=1.0, fill=fill
    ).preprocessing


def preprocess(preprocessing, image, order="RGB", size=(224, 224)):
    """Return (height, width, 3): what a fresh preprocessor leaves in the input."""
    buffer = np.full((1, 3, *size), np.nan, np.float32)
    Preprocessor(preprocessing, buffer)(image, order)
    return np.moveaxis(buffer[0], 0, -1)


def scale_photo(photo, height, width):
    """Return the photo at another size, as uint8."""
    return np.rint(resize(photo, height, width, "bicubic")).astype(np.uint8)


# Height, width, and the mean differences allowed in grey levels of 255: of the whole image, and
# of the centre crop, which begins at a whole pixel: up to half a pixel is shifted.
SIZES = [
    ((480, 640), 1.6, 1.6),
    ((1080, 1920), 1.2, 1.2),
    ((720, 1280), 1.5, 1.5),
    ((600, 800), 1.5, 2.2),
    ((300, 260), 2.0, 3.2),
    ((240, 320), 2.0, 4.6),
    ((120, 160), 1.0, 6.6),
]


@pytest.fixture(scope="module", params=SIZES, ids=lambda row: "x".join(map(str, row[0])))
def sized(photos, request):
    size, *bounds = request.param
    images = photos if size == (480, 640) else [scale_photo(p, *size) for p in photos[::2]]
    return images, bounds


@pytest.mark.parametrize("mode", MODES)
def test_close_to_an_antialiased_bicubic_resize(sized, mode):
    images, bounds = sized
    preprocessing = plain(mode, fill=99)
    for image in images:
        difference = preprocess(preprocessing, image) - reference(preprocessing, image, (224, 224))
        assert np.abs(difference).mean() < bounds[mode in CROPPING]


@pytest.mark.parametrize("mode", MODES)
def test_close_to_an_antialiased_bilinear_resize(photos, mode):
    preprocessing = plain(mode, "bilinear")
    for photo in photos:
        found = preprocess(preprocessing, photo)
        assert np.abs(found - reference(preprocessing, photo, (224, 224))).mean() < 2.0


@pytest.mark.parametrize("size", [(64, 160), (160, 64)])
@pytest.mark.parametrize("mode", MODES)
def test_the_input_need_not_be_square(photos, mode, size):
    preprocessing = plain(mode, size=max(size))
    found = preprocess(preprocessing, photos[0], size=size)
    assert np.abs(found - reference(preprocessing, photos[0], size)).mean() < 2.0


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("mode", ["stretch", "letterbox"])
def test_an_image_of_the_input_size_is_taken_as_it_is(photos, mode, interpolation):
    image = photos[1][:224, :224]
    assert np.array_equal(preprocess(plain(mode, interpolation), image), image)


def test_the_centre_is_cropped_exactly_where_nothing_is_resized():
    image = smooth(256, 300)
    found = preprocess(plain("shorter-side"), image)
    assert np.array_equal(found, image[16:240, 38:262])


def test_letterbox_fills_both_sides_equally():
    found = preprocess(plain("letterbox", fill=17), np.full((100, 200, 3), 80, np.uint8))
    assert (found[:56] == 17).all()
    assert (found[56:168] == 80).all()
    assert (found[168:] == 17).all()


ALIASED = {
    "nearest": None,
    "bilinear-aliased": cv2.INTER_LINEAR,
    "bicubic-aliased": cv2.INTER_CUBIC,
}


@pytest.mark.parametrize("interpolation", ALIASED)
@pytest.mark.parametrize("shape", [(480, 720), (97, 301)])  # no centre lies between pixels
def test_without_antialiasing_few_pixels_are_looked_at(shape, interpolation):
    image = np.random.default_rng(3).integers(0, 256, (*shape, 3), np.uint8)
    found = preprocess(plain("stretch", interpolation), image)
    if interpolation == "nearest":
        expected = np.asarray(Image.fromarray(image).resize((224, 224), Image.NEAREST))
    else:
        expected = cv2.resize(image, (224, 224), interpolation=ALIASED[interpolation])
    assert (found == expected).mean() > 0.999


@pytest.mark.parametrize("order", ["RGB", "BGR", "RGBA", "GRAY"])
@pytest.mark.parametrize("mode", sorted(PADDING))
def test_a_border_may_have_a_colour_in_the_order_of_the_model(mode, order):
    preprocessing = plain(mode, fill=(1, 2, 3))
    buffer = np.empty((1, 3, 224, 224), np.float32)
    preprocessor = Preprocessor(preprocessing, buffer)
    for height, width in [(100, 200), (200, 100), (100, 200)]:
        shape = (height, width) if order == "GRAY" else (height, width, len(order))
        preprocessor(np.full(shape, 80, np.uint8), order)
        found = np.moveaxis(buffer[0], 0, -1)
        found = found if height < width else found.swapaxes(0, 1)
        assert (found[:56] == (1, 2, 3)).all()
        assert (found[56:168] == 80).all()
        assert (found[168:] == (1, 2, 3)).all()


@pytest.mark.parametrize("shape", [(100, 200), (200, 100), (1, 90), (150, 150)])
@pytest.mark.parametrize("mode", sorted(PADDING))
def test_a_border_may_repeat_the_edge(mode, shape):
    preprocessing = plain(mode, fill="edge")
    found = preprocess(preprocessing, smooth(*shape))
    left_open = preprocess(plain(mode, fill=0), smooth(*shape))
    inside = max(1, round(224 * min(shape) / max(shape)))
    first = (224 - inside) // 2
    if shape[0] > shape[1]:
        found, left_open = found.swapaxes(0, 1), left_open.swapaxes(0, 1)
    whole = np.pad(
        left_open[first : first + inside],
        ((first, 224 - inside - first), (0, 0), (0, 0)),
        mode="edge",
    )
    assert np.array_equal(found, whole)


@pytest.mark.parametrize("color", ["RGB", "BGR"])
@pytest.mark.parametrize("order", ORDERS)
def test_channels_arrive_in_the_order_of_the_model(order, color):
    colors = {"R": 10, "G": 120, "B": 240, "A": 77}
    image = np.empty((40, 50, len(order)), np.uint8)
    image[:] = [colors[channel] for channel in order]
    preprocessing = with_preprocessing(color=color, scale=1.0).preprocessing
    found = preprocess(preprocessing, image, order, (8, 8))
    assert found[0, 0].tolist() == [colors[channel] for channel in color]
    assert (found == found[0, 0]).all()


@pytest.mark.parametrize("color", ["RGB", "BGR"])
def test_grey_fills_all_three_channels(color):
    preprocessing = with_preprocessing(color=color, scale=1.0).preprocessing
    found = preprocess(preprocessing, np.full((40, 50), 66, np.uint8), "GRAY", (8, 8))
    assert (found == 66).all()


@pytest.mark.parametrize("color", ["RGB", "BGR"])
@pytest.mark.parametrize("order", [*ORDERS, "GRAY"])
def test_mean_and_std_belong_to_their_channel(order, color):
    mean, std, scale = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), 1 / 255
    preprocessing = with_preprocessing(color=color, scale=scale, mean=mean, std=std).preprocessing
    rng = np.random.default_rng(1)
    rgb = rng.integers(0, 256, (8, 8, 3), np.uint8)
    if order == "GRAY":
        image, rgb = rgb[..., 0].copy(), np.repeat(rgb[..., :1], 3, axis=2)
    else:
        opaque = np.full((8, 8), 255, np.uint8)
        planes = dict(zip("RGBA", [*np.moveaxis(rgb, -1, 0), opaque], strict=True))
        image = np.dstack([planes[channel] for channel in order])
    in_order = rgb if color == "RGB" else rgb[..., ::-1]
    expected = (in_order * scale - mean) / std
    assert preprocess(preprocessing, image, order, (8, 8)) == pytest.approx(expected, abs=1e-5)


@given(
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    order=st.sampled_from([*ORDERS, "GRAY"]),
    color=st.sampled_from(["RGB", "BGR"]),
    is_uniform=st.booleans(),
)
def test_the_input_is_that_of_each_plane_alone(size, order, color, is_uniform):
    """Bit for bit, also where one call does for all planes or some pixels are left over."""
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    if is_uniform:
        mean, std = mean[:1] * 3, std[:1] * 3
    channels = () if order == "GRAY" else (len(order),)
    image = np.random.default_rng(size).integers(0, 256, (*size, *channels), np.uint8)
    changes = {"color": color, "resize": "stretch", "scale": 1 / 255, "mean": mean, "std": std}
    found = preprocess(with_preprocessing(**changes).preprocessing, image, order, size)
    for index, channel in enumerate(color):
        plane = image if order == "GRAY" else image[..., order.index(channel)].copy()
        factor, offset = 1 / 255 / std[index], -mean[index] / std[index]
        alone = np.empty(size, np.float32)
        cv2.addWeighted(plane, factor, plane, 0.0, offset, alone, cv2.CV_32F)
        assert np.array_equal(found[..., index], alone)


def test_padded_rows_give_the_same_input():
    image = smooth(300, 400)
    padded = np.zeros((300, 417, 3), np.uint8)
    padded[:, :400] = image
    padded.flags.writeable = False
    for mode in MODES:
        alone = preprocess(plain(mode), image)
        assert np.array_equal(preprocess(plain(mode), padded[:, :400]), alone)


@pytest.mark.parametrize("mode", MODES)
def test_another_size_in_between_changes_nothing(mode):
    images = [smooth(480, 640), smooth(200, 200), smooth(90, 333), smooth(1080, 1920)]
    buffer = np.zeros((1, 3, 224, 224), np.float32)
    preprocessor = Preprocessor(plain(mode), buffer)
    for image in (*images, *reversed(images)):
        preprocessor(image, "RGB")
        assert np.array_equal(np.moveaxis(buffer[0], 0, -1), preprocess(plain(mode), image))


def test_one_frame_leaves_nothing_behind_for_the_next():
    buffer = np.zeros((1, 3, 224, 224), np.float32)
    preprocessor = Preprocessor(plain("letterbox", fill=3), buffer)
    preprocessor(np.full((480, 640, 3), 250, np.uint8), "RGB")
    preprocessor(quadrants(480, 640), "RGB")
    expected = preprocess(plain("letterbox", fill=3), quadrants(480, 640))
    assert np.array_equal(np.moveaxis(buffer[0], 0, -1), expected)


@pytest.mark.parametrize("mode", MODES)
def test_no_allocation_once_the_size_is_known(mode):
    """NumPy reports its buffers to tracemalloc, those that OpenCV makes for it included."""
    images = [smooth(1080, 1920, seed) for seed in (1, 2)]
    buffer = np.zeros((1, 3, 224, 224), np.float32)
    preprocessor = Preprocessor(plain(mode), buffer)
    address = buffer.ctypes.data
    preprocessor(images[0], "RGB")
    tracemalloc.start()
    try:
        for image in images * 3:
            preprocessor(image, "RGB")
        assert tracemalloc.get_traced_memory()[1] < 10_000
    finally:
        tracemalloc.stop()
    assert buffer.ctypes.data == address


@pytest.mark.parametrize("shape", [(1, 1), (1, 10_000), (10_000, 1), (2, 3), (1, 224), (5000, 3)])
@pytest.mark.parametrize("mode", MODES)
def test_extreme_shapes_fill_the_whole_input(mode, shape):
    for order, channels in (("RGB", (3,)), ("GRAY", ()), ("BGRA", (4,))):
        image = np.full((*shape, *channels), 90, np.uint8)
        found = preprocess(plain(mode, fill=90), image, order)
        assert (found == 90).all()


@given(
    mode=st.sampled_from(MODES),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
    shape=st.tuples(st.integers(1, 700), st.integers(1, 700)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    level=st.integers(0, 255),
)
def test_a_flat_image_of_any_size_stays_flat(mode, interpolation, shape, size, level):
    """Nothing raises, no pixel is left out, none from outside the image is taken in."""
    preprocessing = plain(mode, interpolation, size=max(*size, 2), fill=level)
    found = preprocess(preprocessing, np.full((*shape, 3), level, np.uint8), "BGR", size)
    assert (found == level).all()


@settings(max_examples=100)
@given(
    mode=st.sampled_from(sorted({*MODES} - {"pad-square"})),  # its border blends
    shape=st.tuples(st.integers(16, 500), st.integers(16, 500)),
)
def test_a_gradient_stays_where_it_was(mode, shape):
    """A shift by a pixel of the image, or a mirrored axis, would show."""
    across = np.linspace(0, 255, shape[1]) * np.ones((shape[0], 1))
    down = np.linspace(0, 255, shape[0])[:, None] * np.ones((1, shape[1]))
    image = np.rint(np.dstack([across, down, across])).astype(np.uint8)
    preprocessing = plain(mode, "bilinear", size=32)
    found = preprocess(preprocessing, image, size=(32, 32))
    expected = reference(preprocessing, image, (32, 32))
    slope = 255 / min(shape)  # grey levels per pixel of the image
    assert np.abs(found - expected).mean() < 2 + slope
