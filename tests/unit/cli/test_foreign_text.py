# SPDX-License-Identifier: Apache-2.0
"""Nothing that a file, a name or a library says reaches a terminal, a page or a log as it is."""

from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from rich.table import Table

from perception_node.cli import main
from perception_node.cli.serve import PrintableFormatter
from perception_node.terminal.console import PrintableConsole, print_rows
from tests.builders import (
    GREEN,
    MANIFEST,
    RED,
    ROOT,
    START_NS,
    compressed_message,
    encode,
    make_bundle,
    perception,
    solid,
    write_bag,
)
from tests.foreign_text import FOREIGN, find_unprintable

CLI = ROOT / "perception_node/cli"
WRITES = re.compile(r"(?<![\w.])print\(|\bsys\.std(out|err)\.write|\bConsole\(|ArgumentParser\(")
JPEG = "sensor_msgs/msg/CompressedImage"
SAYABLE = {kind: text for kind, text in FOREIGN.items() if kind != "surrogates"}  # as UTF-8


def test_only_two_files_of_the_command_write():
    found = [
        f"{file.name}:{number}"
        for file in CLI.glob("*.py")
        if file.name not in {"output.py", "console.py"}
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), start=1)
        if WRITES.search(line)
    ]
    assert found == []


def test_provenance_and_license_are_rows_and_nothing_else(tmp_path, capsys):
    provenance = dict(SAYABLE)
    provenance |= {text[:100]: "a key" for text in SAYABLE.values()}
    bundle = make_bundle(tmp_path / "colors", manifest=replace(MANIFEST, provenance={}))
    assert main(["inspect", str(bundle)]) == 0
    rows = len(capsys.readouterr().out.splitlines())
    make_bundle(bundle, manifest=replace(MANIFEST, provenance=provenance))
    assert main(["inspect", str(bundle)]) == 0
    shown = capsys.readouterr().out
    assert len(shown.splitlines()) == rows + len(provenance)
    assert find_unprintable(shown, longest=6000) == []
    assert main(["inspect", "--json", str(bundle)]) == 0
    assert json.loads(capsys.readouterr().out)["provenance"] == provenance


@pytest.mark.parametrize("kind", ["newline", "escape", "C1", "bidi overrides", "stacked marks"])
def test_names_of_files_are_one_line(tmp_path, capsys, color_bundle, kind):
    name = FOREIGN[kind][:60]
    (tmp_path / f"{name}.png").write_bytes(encode(solid(RED), ".png"))
    (tmp_path / f"{name}.jpg").write_bytes(b"no image")
    assert main(["classify", str(tmp_path), "--model", str(color_bundle)]) == 2
    shown = capsys.readouterr()
    assert len(shown.err.splitlines()) == 1
    assert len(shown.out.splitlines()) == 4, "the file and three classes"
    assert find_unprintable(shown.out + shown.err) == []


def test_a_name_that_is_not_utf_8_is_shown(tmp_path, color_bundle):
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe\x80.png"))
    path.write_bytes(encode(solid(RED), ".png"))
    result = perception("classify", path, "--model", color_bundle)
    assert result.returncode == 0
    assert r"\udcff\udcfe\udc80.png" in result.stdout


@pytest.mark.parametrize("kind", [kind for kind in FOREIGN if kind not in {"null", "surrogates"}])
def test_words_of_the_command_line_are_one_line(capsys, kind):
    for arguments in (
        ["classify", FOREIGN[kind]],
        ["inspect", FOREIGN[kind]],
        [FOREIGN[kind]],
        ["classify", "x", f"--{FOREIGN[kind]}"],
        ["classify", "x", "--top-k", FOREIGN[kind]],
        ["build", "x", "--precision", FOREIGN[kind]],
        ["replay", FOREIGN[kind]],
        ["replay", "x", "--tolerance", f"{FOREIGN[kind]}=3"],
        ["bench", FOREIGN[kind]],
        ["bench", "--size", FOREIGN[kind]],
        ["bench", "--parameter", FOREIGN[kind]],
        ["hil", FOREIGN[kind]],
        ["import", FOREIGN[kind], "-o", "y"],
    ):
        assert main(arguments) in {2, 3}, arguments
        shown = capsys.readouterr()
        assert shown.out == ""
        assert shown.err.startswith("perception: ")
        assert shown.err.count("\n") == 1, shown.err
        assert find_unprintable(shown.err) == []


def write_golden(path, text):
    record = {
        "topic": text,
        "time_ns": START_NS,
        "stamp_ns": START_NS,
        "frame_id": text,
        "results": [{"class_id": "0", "label": text, "score": 0.5}],
    }
    dropped = {"topic": text, "time_ns": START_NS, "dropped": text, "why": text}
    path.write_text(f"{json.dumps(record)}\n{json.dumps(dropped)}\n")


@pytest.mark.parametrize("kind", FOREIGN)
def test_golden_files_and_frame_ids(tmp_path, capsys, color_bundle, kind):
    text = FOREIGN[kind]
    frame_id = text.encode(errors="replace").decode()[:500].replace("\0", "")
    messages = [
        (
            "/image/compressed",
            JPEG,
            START_NS + step,
            compressed_message(encode(solid(GREEN)), frame_id=frame_id),
        )
        for step in range(3)
    ]
    bag = write_bag(tmp_path / "bag", messages)
    write_golden(tmp_path / "golden", text)
    page, xml = tmp_path / "page.html", tmp_path / "junit.xml"
    arguments = ("--golden", tmp_path / "golden", "--report", page, "--junit", xml)
    arguments += ("--model", color_bundle)
    assert main(["replay", str(bag), *map(str, arguments)]) == 1
    shown = capsys.readouterr()
    assert shown.err == ""
    assert len(shown.out.splitlines()) == 5, "three frames, a sum, where the page is"
    assert find_unprintable(shown.out) == []
    html = page.read_text(encoding="utf-8")
    assert find_unprintable(html, longest=1 << 20) == []
    suite = ET.fromstring(xml.read_bytes())
    words = [word for case in suite.iter() for word in (*case.attrib.values(), case.text or "")]
    assert find_unprintable("".join(words), longest=1 << 20) == []


@pytest.mark.parametrize("kind", FOREIGN)
def test_topics_and_types_of_a_bag(tmp_path, capsys, color_bundle, kind):
    text = FOREIGN[kind].encode(errors="replace").decode()
    message = compressed_message(encode(solid(GREEN)))
    bag = write_bag(tmp_path / "bag", [(text, JPEG, START_NS, message)])
    for extra in ([], ["--topic", "/no"]):
        code = main(["replay", str(bag), *extra, "--model", str(color_bundle)])
        shown = capsys.readouterr()
        assert code == (2 if extra or shown.err else 0)
        assert find_unprintable(shown.out + shown.err, longest=1 << 20) == []
        assert shown.err.count("\n") <= 1


def make_console():
    return PrintableConsole(file=io.StringIO(), width=100, force_terminal=True)


@pytest.mark.parametrize("kind", FOREIGN)
def test_lines_and_tables_in_colour(kind):
    console = make_console()
    table = Table("a", "b", title="all")
    table.add_row("first", FOREIGN[kind].replace("[", "("))
    table.add_row("last", "cell")
    console.print(table)
    console.print("[red]bad:[/] " + FOREIGN[kind].replace("[", "("), soft_wrap=True)
    shown = re.sub(r"\x1b\[[0-9;]*m", "", console.file.getvalue())
    assert find_unprintable(shown, longest=1 << 20) == []
    assert "bad: " in shown.splitlines()[-1]


def test_rows_stay_in_their_columns(capsys):
    print_rows([(text, "|") for text in FOREIGN.values()] + [("wide 埃及猫", "|")])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(FOREIGN) + 1
    assert all(line.endswith("  |") for line in lines)


def test_the_log_of_the_server_is_printable_and_nothing_in_it_looks_like_a_line():
    handler = logging.StreamHandler(io.StringIO())
    handler.setFormatter(PrintableFormatter("%(levelname)s %(message)s"))
    for text in FOREIGN.values():
        record = logging.makeLogRecord({"levelname": "INFO", "msg": "%s", "args": (text,)})
        handler.emit(record)
        error = RuntimeError(text)
        record.exc_info = (RuntimeError, error, None)
        handler.emit(record)
    shown = handler.stream.getvalue()
    assert find_unprintable(shown) == []
    assert all(line.startswith(("INFO ", "  ")) for line in shown.splitlines())


def test_a_bug_is_a_traceback_in_which_nothing_looks_like_a_line():
    script = (
        "import sys; from perception_node.cli import main, classify\n"
        "def run(arguments): raise ZeroDivisionError('a\\x1b[2J\\nperception: fine \\udc80')\n"
        "classify.run = run\n"
        "main(['classify', 'x'])\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert find_unprintable(result.stderr) == []
    first, *others = result.stderr.splitlines()
    assert first == "Traceback (most recent call last):"
    assert all(line.startswith("  ") for line in others)
    assert r"ZeroDivisionError: a\x1b[2J" in result.stderr
