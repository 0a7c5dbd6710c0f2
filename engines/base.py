# SPDX-License-Identifier: Apache-2.0
"""The contract that every engine keeps; ``tests/contract`` checks each of them against it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING

from perception_node.errors import PerceptionError
from perception_node.vision.preprocess import FramePreprocessor

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from perception_node.model.bundle import Preprocessing
    from perception_node.vision.frame import Frame


class Engine(ABC):
    """A classifier that is ready to run, with its buffers.

    An engine belongs to one thread at a time. Its buffers are made once and stay where they
    are: write the preprocessed image into ``input``, call ``infer()``, read ``output``.

    Attributes:
        input: float32, C-contiguous, shape (1, 3, height, width).
        output: float32, C-contiguous, shape (1, classes); valid until the next ``infer()``.
        description: what really runs, in words for a log: backend, version, device, precision.

    """

    input: NDArray[np.float32]
    output: NDArray[np.float32]
    description: str

    def preprocessor(self, preprocessing: Preprocessing) -> Callable[[Frame], None]:
        """Return what prepares a frame for the next ``infer()``.

        Here it fills ``input`` on the CPU. An engine that reads the camera's own bytes overrides
        it, and then ``infer()`` does the rest.
        """
        return FramePreprocessor(preprocessing, self.input)

    @abstractmethod
    def infer(self) -> None:
        """Run the model on ``input`` and leave the result in ``output``.

        Raises:
            EngineError: the backend reported a failure; ``output`` must not be used.

        """

    def interrupt(self) -> None:  # noqa: B027 - most cannot
        """Let an ``infer()`` that does not end fail, from another thread, where that is possible.

        The engine is of no use afterwards, but to be closed.
        """

    @abstractmethod
    def close(self) -> None:
        """Free what the engine holds, on its own thread, in whatever state it is.

        Calling it twice is allowed, ``infer()`` after it is not. After an ``EngineLost`` nothing
        is called on a device that is no longer to be trusted.
        """


def describe_loss(error: Exception) -> str:
    """Return in one line why an engine was given up; a bug is named by its type."""
    if isinstance(error, PerceptionError):
        return str(error)
    return f"{type(error).__name__}: {error}".splitlines()[0]
