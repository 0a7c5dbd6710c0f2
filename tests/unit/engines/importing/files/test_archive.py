# SPDX-License-Identifier: Apache-2.0
"""The archive's rules, on an archive as PyTorch writes it and without PyTorch."""

from __future__ import annotations

import io
import stat
import struct
import zipfile

import numpy as np
import pytest

from perception_node.engines.importing.files import archive
from perception_node.engines.importing.files.archive import check_archive
from perception_node.errors import ConversionError
from tests.import_builders import resnet18, script, small_module

CODE = b"def forward(self, x):\n    return x\n" * 3
ENTRIES = {
    "model/data.pkl": b"pickled",
    "model/code/__torch__.py": CODE,
    "model/data/0": bytes(range(256)),
    "model/constants.pkl": b"constants",
    "model/version": b"3\n",
}


def build(entries=ENTRIES, *, change=None, compressed=("model/code/__torch__.py",)) -> bytes:
    """Return an archive; ``change(info)`` edits the headers of each entry."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for name, content in entries.items() if isinstance(entries, dict) else entries:
            info = zipfile.ZipInfo(name)
            is_packed = name in compressed
            info.compress_type = zipfile.ZIP_DEFLATED if is_packed else zipfile.ZIP_STORED
            if change:
                change(info)
            file.writestr(info, content)
    return buffer.getvalue()


def check(content):
    check_archive("model.zip", content)


def require_refusal(content, words):
    with pytest.raises(ConversionError, match=words) as caught:
        check(content)
    assert "\n" not in str(caught.value)


def test_an_archive_like_pytorchs_passes():
    check(build())


@pytest.mark.parametrize("module", [small_module, resnet18])
def test_what_pytorch_writes_passes(module):
    check(script(module()))


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../evil", "leads elsewhere"),
        ("model/../../evil", "leads elsewhere"),
        ("model/./evil", "leads elsewhere"),
        ("model//evil", "leads elsewhere"),
        ("model/folder/", "leads elsewhere"),
        ("/etc/passwd", "not a plain relative one"),
        ("C:/evil", "not a plain relative one"),
        ("model\\evil", "not a plain relative one"),
        ("model/a\x1bb", "not a plain relative one"),
        ("other/evil", "not in one folder"),
        ("evil", "not in one folder"),
        ("MODEL/DATA.pkl", "a name is there twice"),
    ],
)
def test_names_are_plain_and_in_one_folder(name, words):
    require_refusal(build({**ENTRIES, name: b"evil"}), words)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_a_repeated_name_is_refused():
    require_refusal(build([*ENTRIES.items(), ("model/version", b"4")]), "a name is there twice")


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR, stat.S_IFDIR])
def test_links_and_devices_are_refused(kind):
    def change(info):
        info.external_attr = (kind | 0o777) << 16

    require_refusal(build(change=change), "is a link or a device")


def test_encryption_is_refused():
    content = bytearray(build())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.find(signature) + offset] |= 1
    require_refusal(bytes(content), "is encrypted or has unknown flags")


def test_only_code_may_be_compressed():
    require_refusal(build(compressed=("model/data/0",)), "model/data/0 is compressed")
    bzip = zipfile.ZIP_BZIP2

    def change(info):
        info.compress_type = bzip if "code" in info.filename else info.compress_type

    require_refusal(build(change=change), "is compressed")


def test_a_bomb_is_refused():
    bomb = {**ENTRIES, "model/code/__torch__.py": bytes(10 << 20)}
    require_refusal(build(bomb), "unpacks to more than 100 times its size")


def test_too_many_entries_are_refused_before_they_are_read(monkeypatch):
    many = {**ENTRIES, **{f"model/data/{n}": b"" for n in range(1, archive.MAX_ENTRIES)}}
    content = build(many)
    monkeypatch.setattr(zipfile, "ZipFile", None)
    require_refusal(content, r"10004 entries, more than 10000")


def test_too_much_content_is_refused(monkeypatch):
    monkeypatch.setattr(archive, "MAX_CONTENT_BYTES", 300)
    require_refusal(build(), r"it would unpack to \d+ bytes, more than 300")


def test_the_two_headers_of_an_entry_must_agree():
    content = build()
    for offset, length in ((6, 2), (8, 2), (14, 4), (18, 4), (22, 4), (30, 1)):
        broken = bytearray(content)
        broken[offset : offset + length] = bytes(
            b ^ 0x55 for b in broken[offset : offset + length]
        )
        require_refusal(bytes(broken), "two different headers|damaged")


def test_entries_must_not_overlap():
    content = bytearray(build())
    second = content.find(b"PK\x01\x02", content.find(b"PK\x01\x02") + 1)
    content[second + 42 : second + 46] = struct.pack("<I", 0)  # where the first entry lies
    require_refusal(bytes(content), "overlaps|two different headers|damaged")


@pytest.mark.parametrize("extra", [b"more", b"PK\x05\x06" + bytes(18)])
def test_nothing_may_follow_the_end(extra):
    require_refusal(build() + extra, "not one that PyTorch writes")


def test_nothing_may_lie_before_the_beginning():
    require_refusal(b"#!/bin/sh\n" + build(), "its directory does not lie before its end")


def test_every_changed_byte_that_passes_leaves_the_content_as_it_was():
    good = build()
    chances = np.random.default_rng(3)
    refused = 0
    for place, bit in chances.integers((0, 0), (len(good), 8), (300, 2)):
        changed = bytearray(good)
        changed[place] ^= 1 << int(bit)
        try:
            check(bytes(changed))
        except ConversionError:
            refused += 1
        else:  # times and versions of entries mean nothing to anybody
            with zipfile.ZipFile(io.BytesIO(changed)) as file:
                assert {name: file.read(name) for name in file.namelist()} == ENTRIES
    assert refused > 200


def test_a_cut_archive_is_refused():
    content = build()
    for length in range(0, len(content), 7):
        with pytest.raises(ConversionError):
            check(content[:length])
