# SPDX-License-Identifier: Apache-2.0
"""Take a model file apart for its import, into its graph and its weights, and join them again."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from perception_node.engines.importing.files.external_data import read_external_data
from perception_node.engines.importing.graph.weights import WEIGHTS, join_model, split_model
from perception_node.errors import ConfigError, ConversionError
from perception_node.model.bundle import MAX_MODEL_BYTES
from perception_node.model.onnx_tensor import DamagedOnnx, RefusedOnnx

if TYPE_CHECKING:
    from pathlib import Path

    from perception_node.engines.importing.graph.weights import Pieces

NO_MODEL = "neither a TorchScript archive nor ONNX, or damaged"


@dataclass(frozen=True, slots=True)
class Parts:
    """A model on its way through the import.

    Attributes:
        graph: ONNX without its large weights.
        weights: the file where these lie.
        external_data: sha256 of the files beside the model that were read, by name.

    """

    graph: bytes
    weights: Path
    external_data: dict[str, str]

    @property
    def files(self) -> dict[str, bytes | Path]:
        """What a child process reads of the model."""
        return {"model": self.graph, WEIGHTS: self.weights}

    def join(self, path: Path, graph: bytes) -> Pieces:
        """Return ``graph``, which is a rewritten one, with the weights: the parts of one file.

        Raises:
            ConversionError: it refers to other weights, or is too large; ``path`` is named.

        """
        try:
            return join_model(graph, self.weights, MAX_MODEL_BYTES)
        except (DamagedOnnx, RefusedOnnx) as error:
            raise ConversionError(path, f"it cannot be written as one file: {error}") from error


def take_apart(path: Path, content: bytes, folder: Path, *, is_whole: bool = False) -> Parts:
    """Write the weights of an ONNX model into a folder.

    Args:
        path: of the model; what it needs beside itself lies there.
        content: of the model.
        folder: where the weights go.
        is_whole: it must need no other file.

    Raises:
        ConversionError: it is no ONNX, or what it needs is not there.
        ConfigError: the folder cannot be written.

    """
    weights = folder / WEIGHTS
    try:
        beside = {} if is_whole else read_external_data(path, content, MAX_MODEL_BYTES)
        with weights.open("wb") as file:
            graph = split_model(content, beside, file)
    except RefusedOnnx as error:
        raise ConversionError(path, str(error)) from error
    except DamagedOnnx as error:
        raise ConversionError(path, NO_MODEL) from error
    except OSError as error:
        msg = f"{weights}: cannot be written: {error.strerror or error}; set TMPDIR"
        raise ConfigError(msg) from error
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in beside.items()}
    return Parts(graph, weights, digests)
