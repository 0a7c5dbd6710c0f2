# SPDX-License-Identifier: Apache-2.0
"""The topics of a run of the node level."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from perception_node.bench.camera.load import Load
    from perception_node.config.parameter import Value


class Topics:
    """Names of all topics of a run; with several cameras each has its own namespace."""

    def __init__(self, load: Load) -> None:
        """Name them for the cameras and the transport of a load."""
        several = [f"/camera{number}" for number in range(1, load.cameras + 1)]
        self._namespaces = several if load.cameras > 1 else ["/camera"]
        self._bases = [f"{namespace}/image_raw" for namespace in self._namespaces]
        self._suffix = "" if load.transport == "raw" else "/compressed"

    @property
    def images(self) -> list[str]:
        """What the cameras publish."""
        return [base + self._suffix for base in self._bases]

    @property
    def remaps(self) -> dict[str, str]:
        """Of a subject with one camera."""
        return {"image": self._bases[0]} if len(self._bases) == 1 else {}

    @property
    def parameters(self) -> dict[str, Value]:
        """Of a node with several cameras."""
        return {"image_topics": tuple(self._bases)} if len(self._bases) > 1 else {}

    def outputs(self, name: str) -> list[str]:
        """What the subject publishes under this name."""
        if len(self._bases) == 1:
            return [f"/perception/{name}"]
        return [f"{namespace}/perception/{name}" for namespace in self._namespaces]
