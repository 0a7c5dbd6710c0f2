# SPDX-License-Identifier: Apache-2.0
"""What comes back from a child: an answer that makes sense, or one line, and nothing it prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from perception_node.engines.importing.sandbox import sandbox
from perception_node.engines.importing.sandbox.confinement import Limits
from perception_node.engines.importing.sandbox.packages import search_path
from perception_node.engines.importing.sandbox.sandbox import Sandbox, lend, scale_limits
from perception_node.errors import ConfigError, ConversionError, EnvironmentLacks

SENSELESS = "no answer that makes sense"


def answering(content: bytes, then: str = "pass") -> str:
    """Return a program that gives an answer."""
    return f"os.write(answer, {content!r}); {then}"


LARGE = b'{"blobs": {"a": 1073741824}}\n'
LIES = {
    "nothing": ("pass", SENSELESS),
    "no JSON": (answering(b"\xff\n"), SENSELESS),
    "another JSON": (answering(b"[1]\n"), SENSELESS),
    "no lengths": (answering(b"{}\n"), SENSELESS),
    "lengths of another kind": (answering(b'{"blobs": {"a": 1.5}}\nx'), SENSELESS),
    "a list of lengths": (answering(b'{"blobs": [1]}\nx'), SENSELESS),
    "a length below 0": (answering(b'{"blobs": {"a": 4, "b": -1}}\nxxx'), SENSELESS),
    "too little": (answering(b'{"blobs": {"a": 1000000000000}}\nxxx'), SENSELESS),
    "too much": (answering(b'{"blobs": {}}\nxxx'), SENSELESS),
    "deep JSON": ("os.write(answer, b'[' * 100000)", SENSELESS),
    "a long line": ("os.write(answer, b'[' + b'1' * (5 << 20))", SENSELESS),
    "a large answer": (
        answering(LARGE, f"os.ftruncate(answer, {len(LARGE) + (1 << 30)})"),
        SENSELESS,
    ),
    "another end": ("os._exit(77)", "exit code 77"),
    "the end of a bug": ("os._exit(1)", "exit code 1"),
    "escapes": (
        answering(rb'{"blobs": {}, "problem": "a\u001b[31m\nb\u202e"}'),
        r"a\\x1b\[31m\\nb\\u202e$",
    ),
}


@pytest.fixture
def lie(monkeypatch):
    """Let a child do what a line of Python says; return what it raises in the parent."""
    monkeypatch.setattr(sandbox, "CHILD", "tests.faults.child_that_lies")

    def run(program: str, kind: type[Exception] = ConversionError) -> str:
        child = Sandbox(Path("model"), Limits(), trusted=False)
        with pytest.raises(kind) as caught:
            child.run("x", {"model": program.encode()}, {})
        return str(caught.value)

    return run


@pytest.mark.parametrize("name", LIES)
def test_an_answer_that_makes_no_sense_is_one_line(lie, name, capfd):
    program, words = LIES[name]
    message = lie(program)
    assert re.search(words, message), message
    assert message.isprintable()
    assert capfd.readouterr() == ("", "")


def test_what_is_missing_or_lacking_is_printable(lie):
    for field in (rb'"lacks": "a\u001b\nb"', rb'"unconfined": ["a\u001b\nb"]'):
        program = answering(b'{"blobs": {}, ' + field + b"}")
        assert lie(program, EnvironmentLacks).isprintable()


@pytest.mark.parametrize(
    "program",
    [
        r"sys.stderr.write('\x1b[31mlong ' * 100000 + '\x9b\u202eend\n'); sys.exit(1)",
        answering(b'{"blobs": {}, "bug": "' + rb"long \u001b\n" * 10000 + b'end"}'),
    ],
)
def test_the_report_of_a_bug_is_short_and_printable(lie, program):
    message = lie(program, RuntimeError)
    assert message.endswith("end")
    assert all(line.isprintable() for line in message.splitlines())
    assert len(message) < 6 * sandbox.MAX_LOG_BYTES


def test_files_are_lent_and_come_back(tmp_path):
    mine, folder = tmp_path / "mine", tmp_path / "folder"
    mine.write_bytes(b"large")
    folder.mkdir()
    with lend(folder, {"weights": mine, "model": b"small"}):
        assert (folder / "weights").read_bytes() == b"large"
        assert (folder / "model").read_bytes() == b"small"
        assert not mine.exists()
    assert mine.read_bytes() == b"large"


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    with (
        pytest.raises(ConfigError, match=r"nowhere: cannot be written: .*set TMPDIR"),
        lend(tmp_path / "nowhere", {"model": b""}),
    ):
        pass


def test_limits_grow_with_the_files():
    limits = Limits(wall_s=10, cpu_s=10, memory_bytes=1000, file_bytes=1 << 40)
    small, large = scale_limits(limits, 100), scale_limits(limits, 1 << 30)
    assert (small.wall_s, small.cpu_s, small.memory_bytes) == (10, 10, 1800)
    assert (large.wall_s, large.cpu_s) == (610, 610)
    assert large.memory_bytes == 1000 + (8 << 30)
    assert small.file_bytes == (64 << 20) + 1000
    assert large.file_bytes == (64 << 20) + (10 << 30)


def test_a_search_path_has_no_current_folder(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path)
    entries = ["", ".", str(tmp_path), str(tmp_path / "link"), "lib", "/usr/lib", "../x"]
    kept = [str(tmp_path / "lib"), "/usr/lib", str(tmp_path / "../x")]
    assert search_path(entries, tmp_path) == kept
