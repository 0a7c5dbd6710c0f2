# SPDX-License-Identifier: Apache-2.0
"""What ``metadata.yaml`` says of a bag: which files it has. How they are packed, they show."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import yaml

from perception_node.system.files import read_regular_file

if TYPE_CHECKING:
    from pathlib import Path

    from perception_node.untyped import YamlIndex

METADATA = "metadata.yaml"
NEWEST_VERSION = 9
MAX_BYTES = 1 << 22
MAX_NODES = 50_000  # a bag of 100 topics and 1000 files has about 20 000
MAX_DEPTH = 20
STORAGES = {"mcap", "sqlite3", ""}


class _Loader(yaml.SafeLoader):
    """A loader without links from one place to another, and with an end."""

    nodes = depth = 0

    def compose_node(self, parent: yaml.Node | None, index: YamlIndex) -> yaml.Node | None:
        self.nodes += 1
        self.depth += 1
        if self.check_event(yaml.AliasEvent) or self.nodes > MAX_NODES or self.depth > MAX_DEPTH:
            raise ValueError("metadata.yaml has links, or too many or too deep entries")
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


def read_metadata(path: Path) -> list[str]:
    """Return the names of a bag's files, in the order of time.

    Raises:
        ValueError, OSError, yaml.YAMLError: it cannot be read, or says something unknown.

    """
    content = read_regular_file(path, MAX_BYTES)
    loader = _Loader(content)
    try:
        about = loader.get_single_data()["rosbag2_bagfile_information"]
        files, version = about["relative_file_paths"], about["version"]
        storage, mode = about.get("storage_identifier"), about.get("compression_mode") or "none"
        method = about.get("compression_format") or ""
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"metadata.yaml lacks something: {error}") from error
    finally:
        loader.dispose()
    if not isinstance(version, int) or version > NEWEST_VERSION:
        raise ValueError(f"metadata.yaml is of version {version!a:.20}, above {NEWEST_VERSION}")
    if (storage or "") not in STORAGES:
        raise ValueError(f"it is stored by {storage!a:.20}; {_advise_conversion(path)}")
    if not isinstance(files, list) or not all(isinstance(name, str) for name in files):
        raise ValueError("metadata.yaml names no files")
    mode = str(mode).lower()
    if mode not in {"none", "file", "message"} or (mode != "none" and method != "zstd"):
        packing = f"{mode[:20]!a} by {method!a:.20}"
        raise ValueError(f"it is packed as {packing}; {_advise_conversion(path)}")
    return files


def _advise_conversion(path: Path) -> str:
    target = "{output_bags: [{uri: converted, storage_id: mcap, all_topics: true}]}"
    folder = shlex.quote(str(path.parent))
    return f"run: echo '{target}' > to.yaml && ros2 bag convert -i {folder} -o to.yaml"
