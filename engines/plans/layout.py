# SPDX-License-Identifier: Apache-2.0
"""How the files of the plan store are called, and how each kind is read.

All files that belong together share a stem, ``NAME.PRECISION.KEY`` or ``timing.KEY``, and its
lock: whoever changes or removes one of them holds ``STEM.lock``.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING

from perception_node.engines.plans.private_folder import TEMPORARY
from perception_node.engines.plans.stored_plan import (
    MANIFEST,
    PLAN,
    StoredPlan,
    read_manifest,
    read_plan,
)

if TYPE_CHECKING:
    from perception_node.engines.plans.fingerprint import PlanFingerprint
    from perception_node.engines.plans.private_folder import PrivateFolder

LOCK, TIMING_CACHE = ".lock", ".cache"
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")  # as in the schema of bundles
FILE_NAME = re.compile(
    r"(?P<stem>[A-Za-z0-9_.-]+\.[0-9a-f]{16})(\.json|\.lock|\.cache|\.[0-9a-f]{16}\.plan)(\.tmp)?"
)
DIGEST_CHARACTERS = 16
SHA256_BYTES = 32
MAX_TIMING_CACHE_BYTES = 1 << 30


def plan_stem(name: str, fingerprint: PlanFingerprint) -> str:
    """Return the stem of the plan of bundle ``name`` with this fingerprint.

    Raises:
        ValueError: no bundle can have this name.

    """
    if not NAME.fullmatch(name):
        msg = f"{name!r:.80} is not the name of a bundle"
        raise ValueError(msg)
    return f"{name}.{fingerprint.precision}.{fingerprint.key()}"


def plan_file(stem: str, sha256: str) -> str:
    """Return the name of a plan with this sha256: two plans never share a file."""
    return f"{stem}.{sha256[:DIGEST_CHARACTERS]}{PLAN}"


def timing_stem(key: str) -> str:
    """Return the stem of a timing cache."""
    return f"timing.{key}"


def stem_of(file: str) -> str:
    """Return the stem of a file name, "" if it is not one of ours."""
    found = FILE_NAME.fullmatch(file)
    return found["stem"] if found else ""


def stems(folder: PrivateFolder) -> list[str]:
    """Return all stems that some file has, sorted."""
    return sorted({stem_of(file) for file in folder.names()} - {""})


def files_of(folder: PrivateFolder, stem: str) -> list[str]:
    """Return all files of one stem except its lock, sorted."""
    names = folder.names()
    return [name for name in names if stem_of(name) == stem and name != stem + LOCK]


def manifests(folder: PrivateFolder) -> list[str]:
    """Return the file names of all manifests, sorted."""
    return [name for name in folder.names() if stem_of(name) and name.endswith(MANIFEST)]


def temporaries(folder: PrivateFolder) -> list[str]:
    """Return the names of files that are being written, or whose writer was killed."""
    return [name for name in folder.names() if stem_of(name) and name.endswith(TEMPORARY)]


def read_verified(folder: PrivateFolder, file: str) -> StoredPlan:
    """Return the plan of a manifest after checking both.

    Raises:
        FileNotFoundError: there is no such manifest.
        PlanError: see ``StoredPlan.read`` and ``load_stored_plan``.
        OSError: they cannot be read.

    """
    stored = read_manifest(folder, file)
    read_plan(folder, stored)
    return stored


def read_timing_cache(folder: PrivateFolder, stem: str) -> bytes:
    """Return a timing cache, b"" if it was changed or damaged.

    Raises:
        PlanIntegrityError: it is no file of this user alone.
        OSError: it is missing or cannot be read.

    """
    content = folder.read(stem + TIMING_CACHE, MAX_TIMING_CACHE_BYTES)
    digest, cache = content[:SHA256_BYTES], content[SHA256_BYTES:]
    return cache if hashlib.sha256(cache).digest() == digest else b""


def write_timing_cache(folder: PrivateFolder, stem: str, cache: bytes) -> None:
    """Replace a timing cache; see ``PrivateFolder.replace``."""
    folder.replace(stem + TIMING_CACHE, hashlib.sha256(cache).digest() + cache)
