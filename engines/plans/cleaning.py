# SPDX-License-Identifier: Apache-2.0
"""Remove from the plan store what is of no use, and nothing that another process writes."""

from __future__ import annotations

import os
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from perception_node.engines.plans import layout
from perception_node.engines.plans.layout import LOCK, TIMING_CACHE
from perception_node.engines.plans.stored_plan import MANIFEST, StoredPlan
from perception_node.errors import PlanError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from perception_node.engines.plans.private_folder import PrivateFolder

# Not every OSError: with too many files open, for one, no plan could be read.
UNUSABLE = (FileNotFoundError, PermissionError, PlanError)


@contextmanager
def lock_if_free(folder: PrivateFolder, stem: str) -> Iterator[bool]:
    """Hold the lock of ``stem`` unless another process has it; say which."""
    lock = folder.try_lock(stem + LOCK)
    try:
        yield lock is not None
    finally:
        if lock is not None:
            os.close(lock)


def prune(
    folder: PrivateFolder,
    fits: Callable[[StoredPlan], bool] | None,
    on_skip: Callable[[str], None],
) -> list[Path]:
    """Remove what is of no use from the whole store; see ``PlanStore.prune``."""
    removed: list[Path] = []
    for stem in layout.stems(folder):
        try:
            with lock_if_free(folder, stem) as free:
                if free:
                    removed += remove_useless(folder, stem, fits, on_skip)
                    if not layout.files_of(folder, stem):
                        folder.remove(stem + LOCK)
        except (PlanError, OSError) as error:  # its lock is a link, a FIFO or a folder
            on_skip(_describe(folder.path / (stem + LOCK), error))
    return removed


def remove_useless(
    folder: PrivateFolder,
    stem: str,
    fits: Callable[[StoredPlan], bool] | None,
    on_skip: Callable[[str], None],
) -> list[Path]:
    """Remove the files of a stem that are of no use, and return their paths; hold its lock.

    Temporaries, plans without a manifest, a damaged pair, or one for which ``fits`` says False.

    Raises:
        OSError: the folder cannot be read.

    """
    kept, removed = _useful(folder, stem, fits), []
    for file in layout.files_of(folder, stem):
        if file in kept:
            continue
        try:
            folder.remove(file)
            removed.append(folder.path / file)
        except (PlanError, OSError) as error:
            on_skip(_describe(folder.path / file, error))
    return removed


def _describe(path: Path, error: PlanError | OSError) -> str:
    if isinstance(error, PlanError):
        return str(error)
    return f"{path}: cannot be removed: {error.strerror or error}"


def remove_temporaries(folder: PrivateFolder, stem: str) -> None:
    """Remove what writers left that were killed; the lock of ``stem`` is held already."""
    for temporary in layout.temporaries(folder):
        if layout.stem_of(temporary) == stem:
            folder.remove(temporary)
            continue
        # What is wrong with other plans does not hinder this build; prune() names it.
        with suppress(PlanError, OSError), lock_if_free(folder, layout.stem_of(temporary)) as free:
            if free:
                folder.remove(temporary)


def _useful(
    folder: PrivateFolder, stem: str, fits: Callable[[StoredPlan], bool] | None
) -> set[str]:
    kept = set()
    try:
        stored = layout.read_verified(folder, stem + MANIFEST)
    except UNUSABLE:
        pass
    else:
        if fits is None or fits(stored):
            kept |= {stem + MANIFEST, stored.plan_file}
    with suppress(*UNUSABLE):
        if layout.read_timing_cache(folder, stem):
            kept.add(stem + TIMING_CACHE)
    return kept
