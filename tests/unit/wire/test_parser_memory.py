# SPDX-License-Identifier: Apache-2.0
"""Small files do not make their parsers take much memory: archives, headers, JSON."""

from __future__ import annotations

import json
import struct

import pytest

from perception_node.engines.importing.files.filetypes import recognise
from perception_node.errors import ConversionError
from perception_node.model.sealed_json import BrokenSeal, check_seal, seal
from tests.memory import peak_mib

pytestmark = pytest.mark.slow
SMALL_MIB = 60


def central_directory(entries: int) -> bytes:
    """Return an archive with a directory of so many entries and nothing else."""
    name = b"m/constants.pkl"
    entry = struct.pack(
        "<4s6H3I5H2I", b"PK\x01\x02", *[0] * 6, *[0] * 3, len(name), *[0] * 4, 0, 0
    )
    directory = (entry + name) * entries
    first = b"PK\x03\x04"
    end = (b"PK\x05\x06", 0, 0, min(entries, 9), min(entries, 9), len(directory), len(first), 0)
    return first + directory + struct.pack("<4s4H2IH", *end)


def safetensors(mib: int) -> bytes:
    """Return the header of a safetensors file, of many small lists."""
    header = b'{"a":[' + b"[]," * (mib * 350_000) + b"[]]}"
    return struct.pack("<Q", len(header)) + header


FILES = {
    "directory of an archive": (lambda: central_directory(1_000_000), "entries|directory"),
    "header of weights": (lambda: safetensors(60), "safetensors"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_model_file_is_recognised_without_parsing_it(tmp_path, name):
    make, words = FILES[name]
    (tmp_path / "model").write_bytes(make())
    with pytest.raises(ConversionError, match=words):
        recognise(tmp_path / "model", (tmp_path / "model").read_bytes())
    peak, error = peak_mib(
        "from pathlib import Path\n"
        "from perception_node.engines.importing.files.filetypes import recognise\n"
        "content = Path(sys.argv[1]).read_bytes()",
        "recognise(Path('model'), content)",
        tmp_path / "model",
    )
    assert error.startswith("ConversionError")
    assert peak < SMALL_MIB


PARSE = """
data = parse(content)
check_seal(content, data)
"""
SEALED = {
    "many lists": lambda: b'{"a": [' + b"[]," * 5_000_000 + b"[]]}",
    "deep lists": lambda: b'{"a": ' + b"[" * 400 + b"0," * 400_000 + b"0" + b"]" * 400 + b"}",
}


@pytest.mark.parametrize("name", SEALED)
def test_json_that_grows_is_refused(tmp_path, name):
    (tmp_path / "bundle.json").write_bytes(SEALED[name]())
    peak, error = peak_mib(
        "from pathlib import Path\n"
        "from perception_node.model.sealed_json import check_seal, parse\n"
        "content = Path(sys.argv[1]).read_bytes()",
        PARSE,
        tmp_path / "bundle.json",
    )
    assert error.startswith(("ValueError", "BrokenSeal"))
    assert peak < SMALL_MIB


def test_a_seal_is_what_it_was():
    data = {"name": "größe", "list": [1, 2.5, None, {"a": []}], "deep": [[[[[1]]]]]}
    content = seal(data)
    check_seal(content, json.loads(content))
    for changed in (content + b"\n", content.replace(b"2.5", b"2.50"), content[:-1]):
        with pytest.raises(BrokenSeal):
            check_seal(changed, json.loads(changed))


@pytest.mark.parametrize(
    "content",
    ["[]\n" * 10_000_000, '{"results": []}\n{"x": [' + "[]," * 10_000_000 + "[]]}\n"],
    ids=["lines", "lists"],
)
def test_a_golden_file_that_grows_is_refused(tmp_path, content):
    (tmp_path / "golden.jsonl").write_text(content)
    peak, error = peak_mib(
        "from pathlib import Path\nfrom perception_node.replay.golden_file import read_golden",
        "read_golden(Path(sys.argv[1]))",
        tmp_path / "golden.jsonl",
    )
    assert error.startswith("ConfigError")
    assert peak < 3 * SMALL_MIB
