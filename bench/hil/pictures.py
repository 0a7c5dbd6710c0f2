# SPDX-License-Identifier: Apache-2.0
"""The pictures of a scenario's camera: of the sample, a bag or a folder, as in ``bench``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from perception_node.bench.camera.load import Load, make_messages
from perception_node.errors import BagError, ConfigError
from perception_node.wire.json_lines import read_json_lines

if TYPE_CHECKING:
    from pathlib import Path

    from perception_node.bench.hil.scenario import CameraPlan

KEYS = {  # what ``Load`` calls the same
    "--bag": "camera.source.bag",
    "--topic": "camera.source.topic",
    "--images": "camera.source.images",
    "--size": "camera.size",
    "--encoding": "camera.encoding",
    "--transport": "camera.transport",
    "--rate": "camera.rate_hz",
}


def make_load(plan: CameraPlan) -> Load:
    """Return what the camera plays.

    Raises:
        ConfigError: it cannot be played; names the key.

    """
    sources: dict[str, Any] = {}
    if plan.path is not None:
        sources[plan.source] = plan.path
    width, height = plan.size
    try:
        load = Load(
            rate_hz=plan.rate_hz,
            width=width,
            height=height,
            encoding=plan.encoding,
            transport=plan.transport,
            topic=plan.bag_topic,
            **sources,
        )
    except (BagError, ConfigError, OSError, ValueError) as error:
        raise ConfigError(_name_keys(str(error))) from error
    if load.transport != plan.transport:
        msg = f"camera.transport: must be {load.transport}, which is what the bag holds"
        raise ConfigError(f"{msg}, found {plan.transport}")
    return load


def read_pictures(plan: CameraPlan) -> list[bytes]:
    """Return serialized images to be shown in turn: at most 64, of a bag its first ones.

    Raises:
        ConfigError: they cannot be read.

    """
    try:
        return [bytes(message) for message in make_messages(make_load(plan))]
    except (BagError, ConfigError) as error:
        raise ConfigError(_name_keys(str(error))) from error


def read_golden(path: Path, topic: str) -> list[str]:
    """Return the best label of each image of a topic, as ``perception replay`` wrote it.

    Args:
        path: the golden file.
        topic: of the bag that is played.

    Raises:
        ConfigError: it cannot be read, or says nothing of this topic.

    """
    try:
        records = read_json_lines(path)
        labels = [_best_label(record) for record in records if record["topic"] == topic]
    except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
        msg = f"{path}: no golden file: {error}; make it with perception replay --update-golden"
        raise ConfigError(msg) from error
    if not labels:
        raise ConfigError(f"{path}: nothing of {topic}; make it of the bag that is played")
    return labels


def _best_label(record: dict[str, Any]) -> str:
    results = record.get("results")
    return str(results[0]["label"]) if results else ""


def _name_keys(text: str) -> str:
    for option, key in KEYS.items():
        text = text.replace(option, key)
    return text
