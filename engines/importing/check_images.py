# SPDX-License-Identifier: Apache-2.0
"""The images that an import is checked on, prepared as the node will prepare them."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np

from perception_node.vision.frame import Frame
from perception_node.vision.preprocess import FramePreprocessor

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from perception_node.engines.importing.settings import Settings

NOISE_IMAGES = 4


def prepare_images(settings: Settings, photos: Sequence[NDArray[np.uint8]]) -> bytes:
    """Return noise and photos as the model gets them.

    Args:
        settings: size and preprocessing of the model.
        photos: uint8 BGR of shape (height, width, 3), of any size.

    Returns:
        A ``.npy`` file: float32 of shape (``NOISE_IMAGES`` + photos, 3, height, width).

    """
    height, width = settings.size
    noise = np.random.default_rng(0).integers(0, 256, (NOISE_IMAGES, height, width, 3), np.uint8)
    prepared = np.empty((NOISE_IMAGES + len(photos), 3, height, width), np.float32)
    image = np.empty((1, 3, height, width), np.float32)
    preprocess = FramePreprocessor(settings.preprocessing, image)
    for index, pixels in enumerate([*noise, *photos]):
        preprocess(Frame.from_bgr(pixels))
        prepared[index] = image[0]
    buffer = io.BytesIO()
    np.save(buffer, prepared)
    return buffer.getvalue()
