# SPDX-License-Identifier: Apache-2.0
"""Draw the hypotheses onto a frame, for people to look at."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

from perception_node.vision.opencv import convert_color

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from perception_node.vision.encodings import PackedOrder
    from perception_node.vision.postprocess import Hypothesis

LINES = 3
MIN_LINE_HEIGHT = 12  # pixels
FONT = cv2.FONT_HERSHEY_SIMPLEX
TEXT_COLOR = (255, 255, 255)  # BGR
BAR_COLORS = ((60, 150, 40), (110, 90, 50), (110, 90, 50))
BACKDROP = 0.35  # brightness that is left of the picture behind the text
_TO_BGR = {
    "RGB": cv2.COLOR_RGB2BGR,
    "RGBA": cv2.COLOR_RGBA2BGR,
    "BGRA": cv2.COLOR_BGRA2BGR,
    "GRAY": cv2.COLOR_GRAY2BGR,
}


def draw_overlay(
    pixels: NDArray[np.uint8], order: PackedOrder, hypotheses: tuple[Hypothesis, ...]
) -> NDArray[np.uint8]:
    """Return a BGR copy, uint8 (height, width, 3), with the best hypotheses at the bottom.

    Args:
        pixels: packed uint8 pixels, (height, width, channels) or (height, width).
        order: their channel order.
        hypotheses: best first; the first three are drawn, each on a bar as long as its score.

    """
    picture = np.empty((*pixels.shape[:2], 3), np.uint8)
    if order == "BGR":
        picture[...] = pixels
    else:
        convert_color(pixels, _TO_BGR[order], picture)
    height = picture.shape[0]
    line = max(MIN_LINE_HEIGHT, height // 14)
    shown = hypotheses[:LINES]
    top = max(0, height - line * len(shown))
    if shown:
        picture[top:] = cv2.convertScaleAbs(picture[top:], alpha=BACKDROP)
    for row, hypothesis in enumerate(shown):
        _draw_line(picture, hypothesis, BAR_COLORS[row], top + row * line, line)
    return picture


def _draw_line(
    picture: NDArray[np.uint8],
    hypothesis: Hypothesis,
    color: tuple[int, int, int],
    top: int,
    line: int,
) -> None:
    bar = round(picture.shape[1] * hypothesis.score)
    cv2.rectangle(picture, (0, top), (bar, top + line - 2), color, cv2.FILLED)
    baseline, scale = top + line * 3 // 4, line / 42
    label = hypothesis.label.encode("ascii", "replace").decode()  # all that the font has
    for text, left in ((f"{hypothesis.score:.1%}", line // 3), (label, line * 3)):
        origin = (left, baseline)
        cv2.putText(picture, text, origin, FONT, scale, TEXT_COLOR, 1, cv2.LINE_AA)
