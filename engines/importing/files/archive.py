# SPDX-License-Identifier: Apache-2.0
"""Check an archive of PyTorch's, TorchScript or ``torch.export``, before PyTorch opens it.

PyTorch and Python read a zip archive with different code. Whatever two readers could understand
differently is refused, and so is what ``torch.jit.save`` never writes: several folders, names
that lead elsewhere, repeated names, links, encryption, overlaps, bombs. Nothing is ever unpacked
to a disk.
"""

from __future__ import annotations

import io
import stat
import struct
import zipfile
import zlib
from typing import TYPE_CHECKING

from perception_node.errors import ConversionError

if TYPE_CHECKING:
    from pathlib import Path

MAX_ENTRIES = 10_000  # a ResNet-152 has about 1000
MAX_DIRECTORY_BYTES = 1 << 22  # Python makes 20 bytes of one
MAX_CONTENT_BYTES = 2 << 30
MAX_RATIO = 100
MAX_EXTRA_BYTES = 4 << 20
END_SIGNATURE, END_SIZE = b"PK\x05\x06", 22
END_64_LOCATOR_SIZE, END_64_SIZE = 20, 56
LOCAL_HEADER = struct.Struct("<4s5H3I2H")
ENTRY_SIGNATURE = b"PK\x01\x02"
LOCAL_SIGNATURE = b"PK\x03\x04"
SIZES_FOLLOW, UTF8 = 0x8, 0x800
KNOWN_FLAGS = SIZES_FOLLOW | UTF8  # what is encrypted has others
IN_EXTRA = 0xFFFFFFFF  # the 32-bit field is too small, the number is elsewhere
END_IS_FULL = (0xFFFF, 0xFFFF, 0xFFFF, 0xFFFF, IN_EXTRA, IN_EXTRA)

# What torch.export.save wrote before PyTorch 2.8, without a folder.
OLD_PROGRAM = {"version", "serialized_exported_program.json"}

DAMAGE = (
    zipfile.BadZipFile,
    zlib.error,
    struct.error,
    EOFError,
    ValueError,
    NotImplementedError,
)


def check_archive(path: Path, content: bytes) -> None:
    """Check the whole archive by these rules, its checksums too.

    Raises:
        ConversionError: it breaks one of them; the message names the entry.

    """
    try:
        with open_archive(content) as archive:
            _check(content, archive)
    except BrokenArchive as error:
        raise ConversionError(path, f"the archive is not one that PyTorch writes: {error}") from (
            error
        )
    except DAMAGE as error:
        raise ConversionError(path, f"the archive is damaged: {error}") from error


def read_extra_files(content: bytes) -> dict[str, bytes]:
    """Return the small files that people add to a checked archive, as ``extra/NAME``."""
    with open_archive(content) as archive:
        small = [info for info in archive.infolist() if info.file_size <= MAX_EXTRA_BYTES]
        return {
            name: archive.read(info)
            for info in small
            if (name := info.filename.partition("/")[2]).startswith("extra/")
        }


class BrokenArchive(ValueError):
    """A rule is broken; the message says which."""


def open_archive(content: bytes) -> zipfile.ZipFile:
    """Open an archive whose directory is small enough to be read.

    Raises:
        BrokenArchive: it is too large, or is not where it should be.

    """
    entries, directory = _read_end(content)
    size = len(content) - directory
    if size > MAX_DIRECTORY_BYTES:
        raise BrokenArchive(f"a directory of {size} bytes, more than {MAX_DIRECTORY_BYTES}")
    entries = max(entries, content.count(ENTRY_SIGNATURE, directory))
    if entries > MAX_ENTRIES:
        raise BrokenArchive(f"{entries} entries, more than {MAX_ENTRIES}")
    return zipfile.ZipFile(io.BytesIO(content))


def _check(content: bytes, archive: zipfile.ZipFile) -> None:
    entries, directory = _read_end(content)
    infos = archive.infolist()
    if len(infos) != entries:
        raise BrokenArchive(f"{len(infos)} entries, its end says {entries}")
    _check_names([info.orig_filename for info in infos])
    total = 0
    for info in infos:
        _check_entry(info)
        total += info.file_size
    if total > MAX_CONTENT_BYTES:
        raise BrokenArchive(f"it would unpack to {total} bytes, more than {MAX_CONTENT_BYTES}")
    _check_layout(content, infos, directory)
    for info in infos:
        _check_content(archive, info)


def _read_end(content: bytes) -> tuple[int, int]:
    """Return the number of entries and where their directory begins, from the archive's end."""
    end = content[-END_SIZE:]
    if len(end) < END_SIZE or not end.startswith(END_SIGNATURE) or end[-2:] != b"\0\0":
        raise BrokenArchive("something follows its end")
    numbers = struct.unpack("<4H2I", end[4:20])
    before = len(content) - END_SIZE
    locator = content[max(0, before - END_64_LOCATOR_SIZE) : before]
    if locator.startswith(b"PK\x06\x07"):  # PyTorch writes the 64-bit end always
        before -= END_64_LOCATOR_SIZE + END_64_SIZE
        numbers = _read_end_64(content[max(0, before) :], locator, before, numbers)
    disk, directory_disk, here, entries, size, offset = numbers
    if disk or directory_disk or here != entries:
        raise BrokenArchive("it is one part of several")
    if offset + size != before:
        raise BrokenArchive("its directory does not lie before its end")
    return entries, offset


def _read_end_64(
    record: bytes, locator: bytes, position: int, short: tuple[int, ...]
) -> tuple[int, ...]:
    """Read the 64-bit end; where the short one has room for a number, it must be the same."""
    if not record.startswith(b"PK\x06\x06") or struct.unpack("<Q", locator[8:16])[0] != position:
        raise BrokenArchive("its 64-bit end is not where it should be")
    numbers = struct.unpack("<2I4Q", record[16:END_64_SIZE])
    for number, shorter, full in zip(numbers, short, END_IS_FULL, strict=True):
        if shorter not in {number, full}:
            raise BrokenArchive("its two ends differ")
    return numbers


def _check_names(names: list[str]) -> None:
    for name in names:
        parts = name.split("/")
        if not name.isprintable() or "\\" in name or ":" in name or name.startswith("/"):
            raise BrokenArchive(f"the name {ascii(name)[:80]} is not a plain relative one")
        if any(part in {"", ".", ".."} for part in parts):
            raise BrokenArchive(f"the name {ascii(name)[:80]} leads elsewhere")
    if len({name.casefold() for name in names}) != len(names):
        raise BrokenArchive("a name is there twice")
    folders = {name.partition("/")[0] if "/" in name else "" for name in names}
    is_old = {*names} >= OLD_PROGRAM and folders <= {"", "extra_files"}
    if not is_old and (len(folders) != 1 or "" in folders):
        raise BrokenArchive("its content is not in one folder")


def _check_entry(info: zipfile.ZipInfo) -> None:
    name = info.filename
    kind = stat.S_IFMT(info.external_attr >> 16)
    if kind not in {0, stat.S_IFREG}:
        raise BrokenArchive(f"{name} is a link or a device")
    if info.flag_bits & ~KNOWN_FLAGS:
        raise BrokenArchive(f"{name} is encrypted or has unknown flags")
    inner = name.partition("/")[2]
    is_code = inner.startswith("code/")
    if info.compress_type != zipfile.ZIP_STORED and not (
        is_code and info.compress_type == zipfile.ZIP_DEFLATED
    ):
        raise BrokenArchive(f"{name} is compressed, only code may be")
    if info.compress_type == zipfile.ZIP_STORED and info.file_size != info.compress_size:
        raise BrokenArchive(f"{name} has two sizes")
    if info.file_size > MAX_RATIO * max(info.compress_size, 1):
        raise BrokenArchive(f"{name} unpacks to more than {MAX_RATIO} times its size")


def _check_layout(content: bytes, infos: list[zipfile.ZipInfo], directory: int) -> None:
    """Check that local headers say what the directory says and that no two entries overlap."""
    position = 0
    for info in sorted(infos, key=lambda info: info.header_offset):
        if info.header_offset < position:
            raise BrokenArchive(f"{info.filename} overlaps with what is before it")
        position = _check_local_header(content, info) + info.compress_size
    if position > directory:
        raise BrokenArchive("its directory overlaps with an entry")


def _check_local_header(content: bytes, info: zipfile.ZipInfo) -> int:
    """Return where the content of an entry begins."""
    start = info.header_offset
    header = content[start : start + LOCAL_HEADER.size]
    if len(header) < LOCAL_HEADER.size or not header.startswith(LOCAL_SIGNATURE):
        raise BrokenArchive(f"{info.filename} has no header")
    _, _, flags, method, _, _, crc, packed, size, name_length, extra_length = LOCAL_HEADER.unpack(
        header
    )
    begin = start + LOCAL_HEADER.size
    name = content[begin : begin + name_length]
    if (flags, method, name) != (info.flag_bits, info.compress_type, info.orig_filename.encode()):
        raise BrokenArchive(f"{info.filename} has two different headers")
    for local, central in ((crc, info.CRC), (packed, info.compress_size), (size, info.file_size)):
        allowed = {central, IN_EXTRA, 0} if flags & SIZES_FOLLOW else {central, IN_EXTRA}
        if local not in allowed:
            raise BrokenArchive(f"{info.filename} has two different headers")
    return begin + int(name_length) + int(extra_length)


def _check_content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> None:
    """Read an entry in pieces: the size and the checksum must be those of the directory."""
    left = info.file_size
    with archive.open(info) as file:
        while piece := file.read(1 << 20):
            left -= len(piece)
    if left:
        raise BrokenArchive(f"{info.filename} has another size than it states")
