# SPDX-License-Identifier: Apache-2.0
"""How the files of the plan store are called, found and read.

All files that belong together share a stem, ``NAME.PRECISION.KEY`` or ``timing.KEY``, and its
lock: whoever changes or removes one of them holds ``STEM.lock``.
"""

from __future__ import annotations

import hashlib
import re
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from perception_node.engines.plans.private_folder import TEMPORARY
from perception_node.engines.plans.stored_plan import (
    AGAIN,
    MANIFEST,
    PLAN,
    StoredPlan,
    read_manifest,
    read_plan,
)
from perception_node.errors import PlanError, PlanMismatch, PlanMissing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


def find_plan(folder: PrivateFolder, name: str, fingerprint: PlanFingerprint) -> StoredPlan:
    """Return a plan of the open store; see ``PlanStore.find``.

    Raises:
        OSError: the store cannot be read.

    """
    file = plan_stem(name, fingerprint) + MANIFEST
    try:
        stored = read_verified(folder, file)
    except FileNotFoundError as error:
        raise _why_missing(folder, name, fingerprint) from error
    except PlanMissing:  # replaced between the two reads: the new manifest names the new plan
        stored = read_verified(folder, file)
    if (stored.name, stored.fingerprint) != (name, fingerprint):
        raise _mismatch(stored, name, fingerprint)
    return stored


def with_newest_options(
    folder: PrivateFolder, name: str, fingerprint: PlanFingerprint
) -> PlanFingerprint:
    """Return the fingerprint with the options of the newest plan that differs in nothing else.

    Where there is none it is returned as it is.

    Raises:
        OSError: the store cannot be read.

    """
    newest, wanted = "", fingerprint
    for stored in _readable(folder):
        same = replace(fingerprint, options=stored.fingerprint.options)
        if (stored.name, stored.fingerprint) == (name, same) and stored.created_utc > newest:
            newest, wanted = stored.created_utc, same
    return wanted


def _readable(folder: PrivateFolder) -> Iterator[StoredPlan]:
    """Yield what the manifests say that can be read; their plans were not looked at."""
    for file in manifests(folder):
        with suppress(OSError, PlanError):
            yield read_manifest(folder, file)


def _why_missing(folder: PrivateFolder, name: str, fingerprint: PlanFingerprint) -> PlanError:
    """Return the error that names the plan which comes closest."""
    wanted = (name, fingerprint.precision, fingerprint.backend)
    closest: StoredPlan | None = None
    for stored in _readable(folder):
        found = stored.fingerprint
        if (stored.name, found.precision, found.backend) == wanted and (
            closest is None or _distance(stored, fingerprint) < _distance(closest, fingerprint)
        ):
            closest = stored
    if closest is None:
        return never_built(folder.path, name, fingerprint)
    return _mismatch(closest, name, fingerprint)


def _distance(stored: StoredPlan, fingerprint: PlanFingerprint) -> int:
    return len(stored.fingerprint.differences(fingerprint))


def _mismatch(stored: StoredPlan, name: str, fingerprint: PlanFingerprint) -> PlanMismatch:
    differences = stored.fingerprint.differences(fingerprint)
    if stored.name != name:
        differences.insert(0, f"name: built for {stored.name}, here {name}")
    text = "; ".join(differences) or "the file has another plan's name"
    return PlanMismatch(stored.path, f"{text}; {AGAIN}")


def never_built(folder: Path, name: str, fingerprint: PlanFingerprint) -> PlanMissing:
    """Return the error for a plan that the store has not, and nothing like it."""
    wanted = f"{name} in {fingerprint.precision} for {fingerprint.backend}"
    advice = f"perception build BUNDLE --precision {fingerprint.precision}"
    if fingerprint.backend != "tensorrt":
        advice += f" --backend {fingerprint.backend}"
    return PlanMissing(folder, f"no plan of {wanted}; build it: {advice}")
