# SPDX-License-Identifier: Apache-2.0
"""How close is our resize to the antialiased one that models are trained with, and how fast?

    .venv/bin/python -m perception_node.bench.preprocessing

Compares with Pillow's bicubic resize and NumPy's normalisation, on frames of the sample bag
tiled to camera sizes. Times are medians, ours and theirs in turn.
"""

from __future__ import annotations

import os
import platform
import time
from functools import partial
from statistics import median
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from perception_node.bench.camera.load_sources import read_pictures
from perception_node.model.bundle import load_bundle
from perception_node.system.process import use_one_opencv_thread
from perception_node.system.resources import find_model
from perception_node.vision.preprocess import Preprocessor

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from perception_node.model.bundle import Preprocessing

SIZES = ((480, 640), (720, 1280), (1080, 1920))
ROUNDS = 50
INPUT = 224


def main() -> None:
    """Print one line per image size."""
    use_one_opencv_thread()
    preprocessing = load_bundle(find_model("")).manifest.preprocessing
    output = np.empty((1, 3, INPUT, INPUT), np.float32)
    preprocess = Preprocessor(preprocessing, output)
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}; median of {ROUNDS}")
    print(f"{'image':<12} {'ours ms':>8} {'Pillow ms':>10} {'ratio':>6} {'difference':>24}")
    for height, width in SIZES:
        pictures = [tile(picture, height, width) for picture in read_pictures()]
        differences = [compare(preprocess, output, picture, preprocessing) for picture in pictures]
        ours_ms, pillow_ms = measure(
            partial(preprocess, pictures[0], "BGR"),
            partial(pillow, pictures[0][..., ::-1], preprocessing),
        )
        print(
            f"{f'{width}x{height}':<12} {ours_ms:8.2f} {pillow_ms:10.2f} "
            f"{pillow_ms / ours_ms:6.1f} {np.mean(differences):10.2f} of 255 grey levels"
        )


def tile(picture: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """Repeat a picture up to a camera's size: detail stays as fine as in a photo."""
    rows, columns = -(-height // picture.shape[0]), -(-width // picture.shape[1])
    return np.ascontiguousarray(np.tile(picture, (rows, columns, 1))[:height, :width])


def pillow(
    rgb: NDArray[np.uint8], recipe: Preprocessing, size: tuple[int, int] = (INPUT, INPUT)
) -> NDArray[np.float32]:
    """Resize, crop, ToTensor, Normalize, as torchvision does it with a PIL image.

    Args:
        rgb: uint8 (height, width, 3).
        recipe: the bundle's.
        size: height and width of the model's input.

    Returns:
        float32 (1, 3, height, width).

    """
    pixels = np.asarray(_resize(Image.fromarray(rgb), recipe, size), np.float32)
    if recipe.color == "BGR":
        pixels = pixels[..., ::-1]
    mean, std = np.array([recipe.mean, recipe.std], np.float32)
    normalised = (pixels * np.float32(recipe.scale) - mean) / std
    return np.ascontiguousarray(normalised.transpose(2, 0, 1)[np.newaxis])


def _resize(image: Image.Image, recipe: Preprocessing, size: tuple[int, int]) -> Image.Image:
    if recipe.resize not in {"stretch", "shorter-side", "letterbox"} or recipe.fill not in range(
        256
    ):
        raise ValueError(f"there is no reference for {recipe.resize} with fill {recipe.fill}")
    height, width = size
    resampling = Image.Resampling[recipe.interpolation.upper()]
    if recipe.resize == "stretch":
        return image.resize((width, height), resampling)
    if recipe.resize == "letterbox":
        ratio = min(width / image.width, height / image.height)
        small = image.resize((round(image.width * ratio), round(image.height * ratio)), resampling)
        canvas = Image.new("RGB", (width, height), f"rgb{(recipe.fill,) * 3}")
        canvas.paste(small, ((width - small.width) // 2, (height - small.height) // 2))
        return canvas
    shorter = min(image.size)
    resized = [recipe.shorter_side * length // shorter for length in image.size]
    image = image.resize((resized[0], resized[1]), resampling)
    left, top = round((image.width - width) / 2), round((image.height - height) / 2)
    return image.crop((left, top, left + width, top + height))


def compare(
    preprocess: Preprocessor,
    output: NDArray[np.float32],
    picture: NDArray[np.uint8],
    preprocessing: Preprocessing,
) -> float:
    """Return the mean absolute difference in grey levels."""
    preprocess(picture, "BGR")
    difference = np.abs(output - pillow(picture[..., ::-1], preprocessing)).mean()
    return float(difference * preprocessing.std[0] / preprocessing.scale)


def measure(*functions: Callable[[], object]) -> list[float]:
    """Return the median time of each function in milliseconds, called in turn."""
    times_ms: list[list[float]] = [[] for _ in functions]
    for _ in range(ROUNDS):
        for function, taken in zip(functions, times_ms, strict=True):
            begin = time.perf_counter()
            function()
            taken.append((time.perf_counter() - begin) * 1e3)
    return [median(taken) for taken in times_ms]


if __name__ == "__main__":
    main()
