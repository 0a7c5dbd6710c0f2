# SPDX-License-Identifier: Apache-2.0
"""Golden files: one line of JSON per frame, as ``perception replay`` prints them."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

from perception_node.errors import ConfigError
from perception_node.system.files import write_named_file
from perception_node.wire.json_lines import read_json_lines

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from perception_node.replay.golden import Record

ADVICE = "make it with --update-golden (in pytest: --perception-update-golden)"


def to_line(record: Record) -> str:
    """Return a record as a line of a golden file."""
    return json.dumps(record) + "\n"


def write_golden(path: Path, records: Iterable[Record]) -> None:
    """Replace a golden file.

    Raises:
        ConfigError: it cannot be written, or would have no frames.

    """
    lines = list(map(to_line, records))
    if not lines:
        raise ConfigError(f"{path}: not written: a golden file without frames would always pass")
    write_named_file(path, "".join(lines).encode())


def read_golden(path: Path) -> list[Record]:
    """Read a golden file.

    Raises:
        ConfigError: there is none, it has no frames, or a line is not what ``perception replay``
            writes.

    """
    records: list[Record] = []
    try:
        for record in read_json_lines(path):
            if not _is_record(record):
                msg = f"line {len(records) + 1} is not what replay writes"
                raise ConfigError(f"{path}: no golden file: {msg}")
            records.append(record)
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: no golden file: {error}; {ADVICE}") from error
    if not records:
        raise ConfigError(f"{path}: no golden file: it has no frames; {ADVICE}")
    return records


def _is_score(value: object) -> bool:
    """Tell whether a value is a number that one can subtract; JSON has integers of any size."""
    if isinstance(value, int):
        return abs(value) <= 1
    return isinstance(value, float) and math.isfinite(value)


def _is_record(value: object) -> bool:
    """Tell whether a line of a golden file has the fields that the comparison reads."""
    results = value.get("results", []) if isinstance(value, dict) else None
    return isinstance(results, list) and all(
        isinstance(result, dict)
        and isinstance(result.get("class_id"), str)
        and isinstance(result.get("label"), str)
        and _is_score(result.get("score"))
        for result in results
    )
