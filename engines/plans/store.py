# SPDX-License-Identifier: Apache-2.0
"""The plan store: one folder per user and machine that holds the plans TensorRT built here.

::

    plans/                                         mode 0700; all files 0600
    ├── efficientnet_lite0.fp16.KEY.json           manifest: fingerprint, sha256 of plan and itself
    ├── efficientnet_lite0.fp16.KEY.DIGEST.plan    the plan; DIGEST is its own
    ├── efficientnet_lite0.fp16.KEY.lock           held by the process that builds
    └── timing.KEY.cache                           TensorRT's timings on this GPU, with a sha256

A plan is executable code, so only what this user wrote is ever read. The manifest is written
last: until then the old manifest names the old plan, and a plan without a manifest is nothing.
"""

from __future__ import annotations

import hashlib
import os
import time
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING

from perception_node.engines.plans import layout
from perception_node.engines.plans.cleaning import (
    lock_if_free,
    prune,
    remove_temporaries,
    remove_useless,
)
from perception_node.engines.plans.private_folder import PrivateFolder
from perception_node.engines.plans.stored_plan import (
    MANIFEST,
    DamagedPlan,
    NewPlan,
    StoredPlan,
    as_plan_error,
    write_manifest,
)
from perception_node.errors import ConfigError, EngineBuildError, PlanError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from perception_node.engines.plans.fingerprint import PlanFingerprint

DEFAULT_TIMEOUT_S = 3600.0  # a large model on a small Jetson takes most of an hour
POLL_S = 0.1


def default_folder() -> Path:
    """Return ``$XDG_CACHE_HOME/perception_node/plans``, or the same in ``~/.cache``.

    Raises:
        ConfigError: this user has no home folder.

    """
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not cache.is_absolute():  # the XDG specification ignores relative paths
        try:
            cache = Path.home() / ".cache"
        except RuntimeError as error:
            msg = f"no folder for plans: {error} set XDG_CACHE_HOME"
            raise ConfigError(msg) from error
    return cache / "perception_node" / "plans"


class PlanStore:
    """All plans of one user on one machine.

    Any number of processes may use a store at once. Reading needs no lock and works on a
    read-only disk.

    Args:
        folder: made when the first plan is built; None for ``default_folder()``.

    """

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = default_folder() if folder is None else folder

    def find(
        self, name: str, fingerprint: PlanFingerprint, *, any_options: bool = False
    ) -> StoredPlan:
        """Return the plan of bundle ``name`` that was built with exactly this fingerprint.

        With ``any_options`` it is the newest plan whatever the builder's options were, which
        matter to who builds it and not to who runs it.

        Raises:
            PlanMissing: nobody has built it for this precision and this backend.
            PlanMismatch: it was built with another fingerprint; the fields that differ are named.
            PlanIntegrityError: the plan, its manifest or the folder was changed or damaged, or
                others may change it.
            PlanError: the store cannot be read.

        """
        with as_plan_error(self.folder):
            try:
                with PrivateFolder(self.folder) as folder:
                    if any_options:
                        fingerprint = layout.with_newest_options(folder, name, fingerprint)
                    return layout.find_plan(folder, name, fingerprint)
            except FileNotFoundError as error:
                raise layout.never_built(self.folder, name, fingerprint) from error

    def build_once(
        self,
        name: str,
        fingerprint: PlanFingerprint,
        build: Callable[[], NewPlan],
        *,
        on_wait: Callable[[], None] | None = None,
        timeout_s: float = DEFAULT_TIMEOUT_S,
        force: bool = False,
    ) -> StoredPlan:
        """Return the plan with this fingerprint, built by ``build`` if the store has no good one.

        Of several processes that need the same plan, one builds and the others wait for it. A
        damaged plan counts as none. An error of ``build`` is passed on, and the old plan stays.

        Args:
            name: of the bundle.
            fingerprint: what the plan is bound to.
            build: called at most once, while this process holds the lock of this plan.
            on_wait: called ten times a second while another process builds; raise to give up.
            timeout_s: how long to wait for another process, seconds.
            force: build even if the store has a good plan.

        Raises:
            PlanIntegrityError: others may change the folder.
            EngineBuildError: the store cannot be written, or another process builds for longer
                than ``timeout_s``.

        """
        if not force and (stored := self._good_plan(name, fingerprint)):
            return stored
        stem = layout.plan_stem(name, fingerprint)
        with self._locked(stem, on_wait, timeout_s) as folder:
            # Another process may have built it while this one waited.
            if not force and (stored := self._good_plan(name, fingerprint)):
                return stored
            with self._writing():
                remove_temporaries(folder, stem)
                folder.check_writable(stem + MANIFEST)  # before the minutes that a build takes
            new = build()
            with self._writing():
                return _commit(folder, name, fingerprint, new)

    def entries(self) -> list[StoredPlan | DamagedPlan]:
        """Return all plans of the store, each read and checked, sorted by file name.

        Raises:
            PlanIntegrityError: others may change the folder.
            PlanError: the folder cannot be read.

        """
        with as_plan_error(self.folder):
            try:
                with PrivateFolder(self.folder) as folder:
                    return [_entry(folder, file) for file in layout.manifests(folder)]
            except FileNotFoundError:
                return []

    def prune(
        self,
        fits: Callable[[StoredPlan], bool] | None = None,
        on_skip: Callable[[str], None] = lambda _: None,
    ) -> list[Path]:
        """Remove what nobody can use, and return the paths of the removed files.

        That is: temporaries, plans without a manifest, damaged entries and those for which
        ``fits`` returns False. What another process builds at the moment is left alone. What
        cannot be removed, such as a folder, or has no file as its lock, stays as well: ``on_skip``
        gets a line about each.

        Raises:
            PlanIntegrityError: others may change the folder.
            EngineBuildError: the folder cannot be written.

        """
        with self._writing():
            try:
                folder = PrivateFolder(self.folder)
            except FileNotFoundError:
                return []
            with folder:
                return prune(folder, fits, on_skip)

    def read_timing_cache(self, key: str) -> bytes:
        """Return TensorRT's timing cache for ``PlanFingerprint.timing_cache_key()``.

        It only saves time: if anything is wrong with it, it is empty.
        """
        try:
            with PrivateFolder(self.folder) as folder:
                return layout.read_timing_cache(folder, layout.timing_stem(key))
        except (OSError, PlanError):
            return b""

    def write_timing_cache(self, key: str, cache: bytes) -> bool:
        """Replace a timing cache, and tell whether that was possible."""
        stem = layout.timing_stem(key)
        try:
            with PrivateFolder(self.folder, create=True) as folder:
                with lock_if_free(folder, stem) as free:
                    if free:  # else another process writes what it has just learnt
                        sealed = hashlib.sha256(cache).digest() + cache
                        folder.replace(stem + layout.TIMING_CACHE, sealed)
                return free
        except (OSError, PlanError):
            return False

    def _good_plan(self, name: str, fingerprint: PlanFingerprint) -> StoredPlan | None:
        try:
            return self.find(name, fingerprint)
        except PlanError:
            return None

    @contextmanager
    def _locked(
        self, stem: str, on_wait: Callable[[], None] | None, timeout_s: float
    ) -> Iterator[PrivateFolder]:
        """Make and open the folder and hold the lock of ``stem``."""
        with self._writing():
            folder = PrivateFolder(self.folder, create=True)
        with folder:
            deadline = time.monotonic() + timeout_s
            while (lock := self._try_lock(folder, stem)) is None:
                if time.monotonic() >= deadline:
                    msg = f"{self.folder}: another process still builds {stem}"
                    raise EngineBuildError(f"{msg} after {timeout_s:.0f} s; wait for it or end it")
                if on_wait is not None:
                    on_wait()
                time.sleep(POLL_S)
            try:
                yield folder
            finally:
                os.close(lock)

    def _try_lock(self, folder: PrivateFolder, stem: str) -> int | None:
        with self._writing():
            return folder.try_lock(stem + layout.LOCK)

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Turn an operating system's error into one that says what became of the plan."""
        try:
            yield
        except OSError as error:
            msg = f"{self.folder}: the plan store cannot be written: {error.strerror or error}"
            raise EngineBuildError(
                f"{msg}; older plans are kept, free space or choose another folder"
            ) from error


def _commit(
    folder: PrivateFolder, name: str, fingerprint: PlanFingerprint, new: NewPlan
) -> StoredPlan:
    """Write a plan, then its manifest, then remove the plan it replaces."""
    stem = layout.plan_stem(name, fingerprint)
    sha256 = hashlib.sha256(new.plan).hexdigest()
    stored = StoredPlan(
        path=folder.path / f"{stem}{MANIFEST}",
        name=name,
        fingerprint=fingerprint,
        plan_file=layout.plan_file(stem, sha256),
        plan_sha256=sha256,
        plan_bytes=len(new.plan),
        created_utc=datetime.now(timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ"),
        details=new.details,
    )
    try:
        folder.replace(stored.plan_file, new.plan)
        write_manifest(folder, stored)
    finally:
        with suppress(OSError):
            remove_useless(folder, stem, None, lambda _: None)
    return layout.find_plan(folder, name, fingerprint)


def _entry(folder: PrivateFolder, file: str) -> StoredPlan | DamagedPlan:
    path = folder.path / file
    try:
        with as_plan_error(path):
            return layout.read_verified(folder, file)
    except PlanError as error:
        return DamagedPlan(path, str(error))
