# SPDX-License-Identifier: Apache-2.0
"""Damaged ONNX files: each becomes a model that was compared, or one line that says what is wrong.

The code of the confined child runs here without its confinement, so that a traceback shows; as
many as MUTATED says, from the seed SEED; `make mutated` tries 2000. A crash of ONNX's or ONNX
Runtime's own code, which the child turns into one line, ends the process in which they run; it is
counted.
"""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest

from perception_node.engines.importing.graph import conversion, inspection
from perception_node.errors import ConversionError
from perception_node.printable import is_printable
from tests.mutated_models import mutated

COUNT, SEED = int(os.environ.get("MUTATED", "300")), int(os.environ.get("SEED", "0"))
LARGEST = 128  # pixels of a side; the importer itself refuses more than 4096
MOST_CRASHES = 3 + COUNT // 100
OPTIONS = (
    {},
    {"classes": 5},
    {"classes": 5, "layout": "NCHW"},
    {"output": "logits", "fixed": {"keep_prob": 0.5}},
    {"output": "row"},
)


def attempt(content: bytes, options: dict) -> str:
    """Inspect and convert a model in the current folder; return how it ended."""
    path = Path("mutated.onnx")
    Path("model").write_bytes(content)
    try:
        facts, _ = inspection.perform(path, options)
        facts = json.loads(json.dumps(facts))
        del facts["metadata"]  # for the parent alone
        size = [facts["height"] or 12, facts["width"] or 16]
        if max(size) > LARGEST:
            return "large"
        images = np.random.default_rng(0).integers(0, 256, (2, 3, *size)).astype(np.float32)
        np.save("images.npy", images)
        Path("images.npy").rename("images")
        more = {"size": size, "color": "RGB", "kind": facts["head"][0], "labels": 5}
        found, blobs = conversion.perform(path, {"graph": facts, **more})
        assert blobs["model"]
        return "imported" if found["difference"] <= found["tolerance"] else "differs"
    except ConversionError as error:
        line = str(error)
        assert line.startswith("mutated.onnx: "), line
        assert is_printable(line), line
        return "refused"


def main(first: int, folder: str) -> None:
    """Go on from a number; write down each result before the next begins."""
    os.chdir(folder)
    for each in mutated(COUNT, SEED):
        if each.number < first:
            continue
        options = random.Random(each.number).choice(OPTIONS)
        with Path("began").open("a", encoding="utf-8") as file:
            file.write(f"{each.number}\n")
        try:
            result = attempt(each.content, options)
        except BaseException:  # noqa: BLE001 - whatever comes out is what is looked for
            result = f"traceback {each.number} {each.way}\n{traceback.format_exc()}"
        with Path("results").open("a", encoding="utf-8") as file:
            file.write(json.dumps(result) + "\n")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_no_damaged_model_ends_in_a_traceback(tmp_path):
    first, crashes = 0, []
    while first < COUNT:
        command = [sys.executable, "-m", "tests.faults.test_mutated_models", str(first)]
        ended = subprocess.run([*command, str(tmp_path)], check=False, capture_output=True)
        first = int((tmp_path / "began").read_text().split()[-1]) + 1
        if ended.returncode:
            assert ended.returncode < 0, ended.stderr.decode()[-2000:]
            crashes.append(first - 1)
    results = [json.loads(line) for line in (tmp_path / "results").read_text().splitlines()]
    counts = {kind: results.count(kind) for kind in ("imported", "refused", "differs", "large")}
    print(f"{counts}, crashes: {crashes}")
    assert [each for each in results if each.startswith("traceback")] == []
    assert sum(counts.values()) + len(crashes) == COUNT
    assert len(crashes) <= MOST_CRASHES
    assert counts["imported"] > COUNT / 20
    assert counts["refused"] > COUNT / 4


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
