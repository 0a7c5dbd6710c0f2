# SPDX-License-Identifier: Apache-2.0
"""What a Fast DDS profile says about shared memory."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

from perception_node.errors import ConfigError, quote
from perception_node.system.files import read_regular_file

if TYPE_CHECKING:
    from pathlib import Path

LARGEST_FILE_BYTES = 1 << 20
DEFAULT_SEGMENT_BYTES = 512 << 10  # where the profile names no segment_size


def read_segment_bytes(file: Path) -> int:
    """Return the size of the shared-memory segment that each process gets by this profile.

    Fast DDS takes the participant profile with ``is_default_profile="true"``, and of the
    transports only those that ``userTransports`` names.

    Returns:
        Bytes; of the smallest segment where there are several.

    Raises:
        ConfigError: the file cannot be read, is no XML, or sets up no shared memory.

    """
    root = _parse(file)
    used = {_text(name) for name in _default_participant(file, root).iterfind(_USED)}
    sizes = [
        _segment_bytes(file, transport)
        for transport in root.iterfind(".//{*}transport_descriptor")
        if _text(transport.find("{*}transport_id")) in used
        and _text(transport.find("{*}type")) == "SHM"
    ]
    if not sizes:
        msg = f"{file}: the default participant's userTransports name no transport of type SHM"
        raise ConfigError(msg)
    return min(sizes)


_USED = "{*}rtps/{*}userTransports/{*}transport_id"


def _parse(file: Path) -> ET.Element:
    try:
        data = read_regular_file(file, LARGEST_FILE_BYTES)
    except OSError as error:
        msg = f"{file}: {error.strerror or error}"
        raise ConfigError(msg) from error
    try:
        return ET.fromstring(data)  # noqa: S314 - the user's own file, and a small one
    except (ET.ParseError, ValueError, LookupError) as error:  # the last: an unknown encoding
        msg = f"{file}: not XML: {error}"
        raise ConfigError(msg) from error


def _default_participant(file: Path, root: ET.Element) -> ET.Element:
    for participant in root.iterfind(".//{*}participant"):
        if participant.get("is_default_profile") == "true":
            return participant
    msg = f'{file}: no participant profile with is_default_profile="true"'
    raise ConfigError(msg)


def _segment_bytes(file: Path, transport: ET.Element) -> int:
    size = transport.find("{*}segment_size")
    if size is None:
        return DEFAULT_SEGMENT_BYTES
    try:
        return int(_text(size))
    except ValueError:
        msg = f"{file}: segment_size {quote(_text(size))} is not a number of bytes"
        raise ConfigError(msg) from None


def _text(element: ET.Element | None) -> str:
    return "" if element is None else (element.text or "").strip()
