# SPDX-License-Identifier: Apache-2.0
"""Class names in the forms people keep them in: text, JSON, YAML, CSV; in a file or in metadata.

Numbers and WordNet ids in front of names are cut off. Numbers must be those of the classes, from
0 on, each once: a list that leaves one open would shift all names behind it.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from perception_node.engines.importing.label_table import read_table
from perception_node.errors import ConfigError, first_line, quote
from perception_node.model.bundle import MAX_LABELS_BYTES
from perception_node.system.files import read_regular_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from perception_node.untyped import Json, YamlIndex

LABEL_FORMS = "class names in their order: text, JSON, YAML or CSV"
MAX_FILE_BYTES = 4 * MAX_LABELS_BYTES  # other forms say more than names
MAX_DEPTH = 20
YAML_SUFFIXES, TABLE_SUFFIXES = {".yaml", ".yml"}, {".csv", ".tsv"}
NUMBERED = re.compile(r"(\d{1,6})\s*(?:[:,;=)]|\.(?=\s)|\s)\s*(\S.*)")
SYNSET = re.compile(r"n\d{8}[\s,:]+(\S.*)")
# Keys under which files hold their names, and which of a model's metadata are looked at.
LISTS = ("id2label", "names", "labels", "label_names", "class_names", "classes", "label2id")
METADATA = ("labels", "names", "id2label", "class_names", "classes")
NAME_KEYS, INDEX_KEYS = ("name", "label", "class_name", "class"), ("index", "id", "class_id")


class LabelProblem(ValueError):
    """These are no class names; the message says why, on one line."""


def find_labels(text: str) -> tuple[str, ...]:
    """Return the class names in the file ``text``, or those it lists itself: ``no,yes``.

    Raises:
        ConfigError: there is no such file, it cannot be read, or it holds no class names.

    """
    path = Path(text)
    if "," in text and not os.path.lexists(text):  # also where it is too long for a file's name
        return tuple(name.strip() for name in text.split(","))
    try:
        content = read_regular_file(path, MAX_FILE_BYTES).decode("utf-8-sig")
        return tuple(parse_labels(content, path.suffix.lower()))
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: not UTF-8 text: {error}") from error
    except LabelProblem as error:
        raise ConfigError(f"{path}: {error}") from error


def parse_labels(text: str, suffix: str = "") -> list[str]:
    """Return the class names in a file's text; ``suffix`` says what kind of file, if it has one.

    Raises:
        LabelProblem: it holds none, or not one for each number.

    """
    if suffix in TABLE_SUFFIXES:
        return _arrange(_table(text, suffix))
    if suffix in YAML_SUFFIXES:
        return labels_in(_parse_yaml(text))
    if suffix.startswith(".json") or text.lstrip()[:1] in {"[", "{"}:
        return labels_in(_parse_json(text))
    return _cut([line.strip() for line in text.rstrip().splitlines()])


def labels_in_metadata(metadata: dict[str, str]) -> list[str] | None:
    """Return class names from a model's metadata: JSON, a Python dict, or names with commas."""
    for key in METADATA:
        text = metadata.get(key, "").strip()
        if len(text) > MAX_FILE_BYTES:
            continue
        try:
            if text[:1] in {"[", "{"}:
                return labels_in(_parse_json(text))
        except LabelProblem:
            continue
        names = [name.strip() for name in text.split(",")]
        if len(names) > 1 and all(names):
            return names
    return None


def labels_in(data: Json) -> list[str]:
    """Return the class names in JSON's or YAML's data: a list, or a map by number or by name.

    Raises:
        LabelProblem: it holds none, or not one for each number.

    """
    if isinstance(data, dict):
        for key in LISTS:
            if isinstance(data.get(key), (list, dict)):
                return labels_in(data[key])
        return _arrange(_pairs_of_map(data))
    if isinstance(data, list) and data and all(isinstance(entry, str) for entry in data):
        return _cut([entry.strip() for entry in data])
    if isinstance(data, list) and data and all(isinstance(entry, dict) for entry in data):
        return _labels_of_records(data)
    raise LabelProblem("it holds no list of class names")


def _cut(lines: list[str]) -> list[str]:
    """Cut off what stands before the names, if it does so on every line."""
    numbered = [NUMBERED.fullmatch(line) for line in lines]
    pairs = [(int(found[1]), found[2]) for found in numbered if found]
    if pairs and len(pairs) == len(lines) and {0, 1} & {number for number, _ in pairs}:
        return _arrange(pairs)
    return _cut_synsets(lines)


def _cut_synsets(names: list[str]) -> list[str]:
    found = [SYNSET.fullmatch(name) for name in names]
    return [match[1] for match in found if match] if all(found) else names


def _arrange(pairs: Iterable[tuple[int, str]]) -> list[str]:
    """Return names in the order of their numbers, which must be 0, 1, 2 and so on."""
    names: dict[int, str] = {}
    for number, name in pairs:
        if number in names:
            raise LabelProblem(f"number {number} is there twice: {_two(names[number], name)}")
        names[number] = name.strip()
    if not names:
        raise LabelProblem("it holds no class names")
    missing = next((n for n in range(len(names)) if n not in names), None)
    if missing is not None:
        problem = f"the classes are numbered from {min(names)} to {max(names)} without {missing}"
        raise LabelProblem(f"{problem}; number them from 0 on, or list the names alone as JSON")
    return _cut_synsets([names[number] for number in range(len(names))])


def _two(first: str, second: str) -> str:
    return f"{quote(first)} and {quote(second)}"


def _pairs_of_map(data: dict[Any, Any]) -> list[tuple[int, str]]:
    """Return numbers and names of a map from one to the other, in whichever direction."""
    if all(_is_number(key) for key in data):
        return [(int(key), _name(value)) for key, value in data.items()]
    if all(_is_number(value) for value in data.values()):
        return [(int(value), str(key)) for key, value in data.items()]
    raise LabelProblem("it is no map from numbers to class names")


def _is_number(value: object) -> bool:
    return re.fullmatch(r"\d{1,6}", str(value), re.ASCII) is not None


def _name(value: object) -> str:
    """Return a name: a text, the last of [WordNet id, name], or a field of a record."""
    if isinstance(value, list) and value:
        value = value[-1]
    if isinstance(value, dict):
        value = next((value[key] for key in NAME_KEYS if key in value), None)
    if not isinstance(value, str):
        raise LabelProblem(f"{quote(str(value))} is no class name")
    return value


def _labels_of_records(records: list[dict[str, Any]]) -> list[str]:
    for key in INDEX_KEYS:
        if all(_is_number(record.get(key)) for record in records):
            return _arrange((int(record[key]), _name(record)) for record in records)
    return _cut([_name(record).strip() for record in records])


def _table(text: str, suffix: str) -> list[tuple[int, str]]:
    try:
        return read_table(text, suffix)
    except ValueError as error:
        raise LabelProblem(str(error)) from error


def _parse_json(text: str) -> Json:
    """Parse JSON, JSON line by line, or what else YAML understands, such as a Python dict."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    try:
        return _join([json.loads(line) for line in text.splitlines() if line.strip()])
    except (ValueError, RecursionError):
        return _parse_yaml(text)


def _join(entries: list[Any]) -> list[Any] | dict[Any, Any]:
    """Return lines of JSON as one: records and names as a list, maps as one map."""
    if all(isinstance(entry, dict) and len(entry) == 1 for entry in entries):
        return {key: value for entry in entries for key, value in entry.items()}
    return entries


class _TextLoader(yaml.SafeLoader):
    """A loader with an end, to which ``no`` is a name and not false."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - declared so by PyYAML
    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: YamlIndex) -> yaml.Node | None:
        self.depth += 1
        if self.check_event(yaml.AliasEvent) or self.depth > MAX_DEPTH:
            raise LabelProblem("its YAML has links, or is too deep")
        node: yaml.Node | None = super().compose_node(parent, index)
        self.depth -= 1
        return node


def _parse_yaml(text: str) -> Json:
    loader = None
    try:
        loader = _TextLoader(text)
        return loader.get_single_data()
    except LabelProblem:
        raise
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        raise LabelProblem(f"neither JSON nor YAML: {first_line(error)}") from error
    finally:
        if loader is not None:
            loader.dispose()
