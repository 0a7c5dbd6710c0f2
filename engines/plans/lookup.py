# SPDX-License-Identifier: Apache-2.0
"""Find a plan in the plan store, or say why there is none that fits."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

from perception_node.engines.plans import layout
from perception_node.engines.plans.stored_plan import AGAIN, MANIFEST, StoredPlan, read_manifest
from perception_node.errors import PlanError, PlanMismatch, PlanMissing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from perception_node.engines.plans.fingerprint import PlanFingerprint
    from perception_node.engines.plans.private_folder import PrivateFolder


def find_plan(folder: PrivateFolder, name: str, fingerprint: PlanFingerprint) -> StoredPlan:
    """Return a plan of the open store; see ``PlanStore.find``.

    Raises:
        OSError: the store cannot be read.

    """
    file = layout.plan_stem(name, fingerprint) + MANIFEST
    try:
        stored = layout.read_verified(folder, file)
    except FileNotFoundError as error:
        raise _why_missing(folder, name, fingerprint) from error
    except PlanMissing:  # replaced between the two reads: the new manifest names the new plan
        stored = layout.read_verified(folder, file)
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
    for file in layout.manifests(folder):
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
