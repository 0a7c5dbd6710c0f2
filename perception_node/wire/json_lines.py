# SPDX-License-Identifier: Apache-2.0
"""Read files with one line of JSON after the other, within bounds of memory."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

from perception_node.system.files import read_regular_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_BYTES = 1 << 28
MAX_VALUES = 5_000_000  # Python makes up to a hundred bytes of one; 100 000 frames have 4 million


def read_json_lines(path: Path) -> Iterator[Any]:
    """Yield what each line says.

    Raises:
        OSError: the file cannot be read, or is too large.
        ValueError, RecursionError: a line is no JSON, or there are too many values.

    """
    content = read_regular_file(path, MAX_BYTES)
    if sum(map(content.count, (b",", b"[", b"{"))) > MAX_VALUES:
        msg = f"more than {MAX_VALUES} values"
        raise ValueError(msg)
    for line in io.BytesIO(content):
        yield json.loads(line)
