# SPDX-License-Identifier: Apache-2.0
"""The makers' ways of bringing an image to the input's size, in our terms."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, get_args

from perception_node.engines.importing.makers.evidence import Foreign
from perception_node.model.bundle import Interpolation

if TYPE_CHECKING:
    from perception_node.engines.importing.makers.evidence import Size

# Of PIL, as Hugging Face writes them, and of all who write names.
BY_CODE = {0: "nearest", 1: "lanczos", 2: "bilinear", 3: "bicubic", 4: "box", 5: "hamming"}
OURS = get_args(Interpolation)
Values = dict[str, Any]


def stretched(size: Size) -> Values:
    """The image is stretched to ``size``."""
    return {"size": size, "resize": "stretch"}


def stretched_then_cropped(larger: Size, size: Size) -> Values:
    """The image is stretched to ``larger``, then its centre of ``size`` is cropped."""
    if larger == size:
        return stretched(size)
    if larger[0] != larger[1]:
        return {"size": size, "resize": Foreign(f"stretching to {_show(larger)}, then a crop")}
    if larger[0] < max(size):
        return {"size": size, "resize": Foreign("a crop that is larger than the image")}
    return {"size": size, "resize": "stretch-crop", "shorter_side": larger[0]}


def cropped(shorter: int, size: Size) -> Values:
    """The shorter side becomes ``shorter`` pixels, then the centre of ``size`` is cropped."""
    if shorter < max(size):
        return {"size": size, "resize": Foreign("a crop that is larger than the image")}
    return {"size": size, "resize": "shorter-side", "shorter_side": shorter}


def interpolation(name: object) -> Values:
    """Return a kernel by PIL's code or by its name."""
    known = BY_CODE.get(name, "") if isinstance(name, int) else str(name).lower()
    return {"interpolation": known if known in OURS else Foreign(f"{known or name} resampling")}


def _show(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
