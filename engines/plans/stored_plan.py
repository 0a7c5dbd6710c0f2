# SPDX-License-Identifier: Apache-2.0
"""One plan and its manifest, as they lie in the plan store."""

from __future__ import annotations

import hashlib
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perception_node.engines.plans.fingerprint import PlanFingerprint
from perception_node.engines.plans.private_folder import PrivateFolder
from perception_node.errors import PlanError, PlanIntegrityError, PlanMismatch, PlanMissing
from perception_node.model.sealed_json import check_seal, parse, seal

if TYPE_CHECKING:
    from collections.abc import Iterator

SCHEMA_VERSION = 1
MANIFEST, PLAN = ".json", ".plan"
MAX_MANIFEST_BYTES = 64 << 20  # with TensorRT's description of every layer
AGAIN = "build it again: perception build"


@dataclass(frozen=True, slots=True)
class NewPlan:
    """A plan that was just built.

    Attributes:
        plan: the bytes that TensorRT serialized.
        details: what the manifest says about it besides the fingerprint: JSON without NaN.

    """

    plan: bytes
    details: dict[str, Any]


@dataclass(frozen=True, slots=True)
class DamagedPlan:
    """An entry of the store that cannot be used.

    Attributes:
        path: its manifest.
        problem: one line: what is wrong, with the path of the file.

    """

    path: Path
    problem: str


@dataclass(frozen=True, slots=True)
class StoredPlan:
    """A plan in the store whose manifest was read and checked.

    Attributes:
        path: the manifest.
        name: of the bundle.
        fingerprint: what the plan was built from, with and for.
        plan_file: name of the plan, beside the manifest.
        plan_sha256: 64 hexadecimal digits.
        plan_bytes: size of the plan.
        created_utc: when it was built, "2026-11-22T18:51:57Z".
        details: free JSON of the builder.

    """

    path: Path
    name: str
    fingerprint: PlanFingerprint
    plan_file: str
    plan_sha256: str
    plan_bytes: int
    created_utc: str
    details: dict[str, Any]

    def read(self) -> bytes:
        """Return the plan: owner, permissions and sha256 are checked, on the bytes returned.

        Raises:
            PlanMissing: it was removed or replaced since its manifest was read.
            PlanIntegrityError: it was changed or damaged, or somebody else may change it.
            PlanError: it cannot be read.

        """
        with as_plan_error(self.path), PrivateFolder(self.path.parent) as folder:
            return read_plan(folder, self)


def load_stored_plan(path: Path) -> StoredPlan:
    """Return the plan that lies at ``path``, which is the plan itself or its manifest.

    Raises:
        PlanMissing: there is no such file, or no manifest speaks of this plan.
        PlanMismatch: another version of this package wrote it.
        PlanIntegrityError: it was changed or damaged, or somebody else may change it.
        PlanError: it cannot be read.

    """
    file = path.name
    if path.suffix == PLAN:  # STEM.DIGEST.plan
        file = file.rsplit(".", 2)[0] + MANIFEST
    with as_plan_error(path):
        try:
            with PrivateFolder(path.parent) as folder:
                stored = read_manifest(folder, file)
        except FileNotFoundError as error:
            raise PlanMissing(path, f"no manifest of a plan: there is no {file}") from error
    if path.name not in {file, stored.plan_file}:
        raise PlanMissing(path, f"{file} speaks of another plan: {stored.plan_file}")
    return stored


def read_manifest(folder: PrivateFolder, file: str) -> StoredPlan:
    """Return what a manifest in the store says; see ``load_stored_plan``.

    Raises:
        FileNotFoundError: there is no such file.

    """
    path = folder.path / file
    content = folder.read(file, MAX_MANIFEST_BYTES)
    try:
        data = parse(content)
        check_seal(content, data)
    except ValueError as error:
        problem = f"was changed or damaged ({error}); {AGAIN}"
        raise PlanIntegrityError(path, problem) from error
    try:
        return _from_json(path, data)
    except (KeyError, TypeError, ValueError) as error:
        problem = f"written by another version of this package ({error!r}); {AGAIN}"
        raise PlanMismatch(path, problem) from error


def write_manifest(folder: PrivateFolder, stored: StoredPlan) -> None:
    """Write the manifest of a plan that lies in the store already.

    Raises:
        OSError: it cannot be written; the old one is as it was.

    """
    data = {
        "schema_version": SCHEMA_VERSION,
        "name": stored.name,
        "fingerprint": asdict(stored.fingerprint),
        "plan": {
            "file": stored.plan_file,
            "sha256": stored.plan_sha256,
            "bytes": stored.plan_bytes,
        },
        "created_utc": stored.created_utc,
        "details": stored.details,
    }
    folder.replace(stored.path.name, seal(data))


def read_plan(folder: PrivateFolder, stored: StoredPlan) -> bytes:
    """Return the plan of a manifest; see ``StoredPlan.read``."""
    path = folder.path / stored.plan_file
    try:
        plan = folder.read(stored.plan_file, stored.plan_bytes)
    except FileNotFoundError as error:
        raise PlanMissing(path, f"the manifest is here, the plan is not; {AGAIN}") from error
    found = hashlib.sha256(plan).hexdigest()
    if found != stored.plan_sha256:
        problem = f"sha256 is {found[:12]}..., it was built as {stored.plan_sha256[:12]}..."
        raise PlanIntegrityError(path, f"{problem}; changed or damaged, {AGAIN}")
    return plan


@contextmanager
def as_plan_error(path: Path) -> Iterator[None]:
    """Turn an operating system's error into a ``PlanError``."""
    try:
        yield
    except OSError as error:
        raise PlanError(path, f"cannot be read: {error.strerror or error}") from error


def _from_json(path: Path, data: dict[str, Any]) -> StoredPlan:
    if data["schema_version"] != SCHEMA_VERSION:
        msg = f"schema_version {data['schema_version']!r:.40}"
        raise ValueError(msg)
    name, plan, details = data["name"], data["plan"], data["details"]
    texts = (name, plan["file"], plan["sha256"], data["created_utc"])
    if not all(isinstance(text, str) for text in texts) or not isinstance(details, dict):
        msg = "a field has another type"
        raise TypeError(msg)
    if Path(plan["file"]).name != plan["file"] or type(plan["bytes"]) is not int:
        msg = f"plan {str(plan)[:80]!r}"
        raise ValueError(msg)
    return StoredPlan(
        path=path,
        name=name,
        fingerprint=PlanFingerprint.from_json(data["fingerprint"]),
        plan_file=plan["file"],
        plan_sha256=plan["sha256"],
        plan_bytes=plan["bytes"],
        created_utc=data["created_utc"],
        details=details,
    )
