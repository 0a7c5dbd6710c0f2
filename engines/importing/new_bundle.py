# SPDX-License-Identifier: Apache-2.0
"""Write a bundle as a whole: it is made in a hidden folder beside its place, then moved there."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from perception_node.errors import ConfigError, ModelError
from perception_node.model.bundle import LABELS, MANIFEST, load_bundle, write_bundle
from perception_node.system.files import replace_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from perception_node.model.bundle import Manifest


def check_target(folder: Path, *, force: bool) -> None:
    """Check that a bundle may be made at ``folder``; ``force`` allows to replace another bundle.

    Raises:
        ConfigError: something is there, or the folder above it is not.

    """
    if not folder.parent.is_dir():
        raise ConfigError(f"{folder}: the folder {folder.parent} does not exist; make it first")
    if not (folder.exists() or folder.is_symlink()):
        return
    if not force:
        raise ConfigError(f"{folder}: is there already; choose another name, or give --force")
    if folder.is_symlink() or not (folder / MANIFEST).is_file():
        raise ConfigError(f"{folder}: is no bundle and will not be replaced; choose another name")


def write_new_bundle(
    folder: Path,
    manifest: Manifest,
    labels: tuple[str, ...],
    models: Mapping[str, Iterable[bytes | memoryview]],
    *,
    force: bool,
) -> None:
    """Write a bundle and check it; ``folder`` is complete, as it was before, or not there.

    ``models`` has the parts of each file with a model, one after another, by its name.

    Raises:
        ConfigError: ``folder`` is taken or cannot be written, or the bundle would not be valid,
            for example because of its name.

    """
    try:
        with _temporary(folder) as new:
            for name, parts in models.items():
                replace_file(new / name, *parts)
            replace_file(new / LABELS, "".join(f"{label}\n" for label in labels).encode())
            write_bundle(new, manifest)
            try:
                load_bundle(new)
            except ModelError as error:  # it names the hidden folder
                raise ConfigError(str(error).replace(str(new), str(folder))) from error
            new.chmod(0o755)
            check_target(folder, force=force)
            _move(new, folder)
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written: {error.strerror or error}") from error


@contextmanager
def _temporary(folder: Path) -> Iterator[Path]:
    """Make a hidden folder beside ``folder``; what is still in it at the end is removed."""
    path = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def _move(new: Path, folder: Path) -> None:
    """Put ``new`` in the place of ``folder``."""
    if not folder.exists():
        new.rename(folder)
        return
    with _temporary(folder) as old:
        folder.rename(old / "old")
        try:
            new.rename(folder)
        except BaseException:
            (old / "old").rename(folder)
            raise
