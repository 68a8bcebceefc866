"""Atomic writing: temporary file in the same folder, fsync, rename, fsync of the folder. A reader sees old or new."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from holdfast.core.errors import UsageError

TEMPORARY_PREFIX = ".tmp-"


def require_folder(path: Path) -> None:
    """Raise UsageError when `path` cannot be a folder because it, or one above it, is a file."""
    nearest = next(p for p in (path, *path.parents, Path("/")) if p.exists())
    if not nearest.is_dir():
        raise UsageError(f"{nearest} is a file; a folder is wanted there", hint="give another folder")


def require_new_folder(path: Path) -> None:
    """Raise UsageError unless `path` is an empty folder or can become one: no file of a user is ever replaced."""
    require_folder(path)
    if path.is_dir() and any(path.iterdir()):
        raise UsageError(f"{path} is not empty; nothing was written", hint="give a new folder")


def sync_file(path: Path) -> None:
    """fsync one file."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """fsync a folder, so that names in it survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_tree(folder: Path) -> None:
    """fsync every file and folder below `folder`, and the folder itself."""
    for path in folder.rglob("*"):
        if path.is_dir():
            sync_folder(path)
        elif path.is_file():
            sync_file(path)
    sync_folder(folder)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary name beside `path`; on success it becomes `path`, on any error it is removed.

    The temporary thing may be a file or a folder; an older folder at `path` is replaced (for a moment there is none).
    An OSError of writing that names no file (a full disk) gets `path`, so that the right disk is told.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=path.parent)) / path.name
    try:
        yield temporary
        if temporary.is_dir():
            sync_tree(temporary)
            _replace_folder(temporary, path)
        else:
            sync_file(temporary)
            temporary.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        if error.errno is not None and error.filename is None:
            error.filename = str(path)
        raise
    finally:
        shutil.rmtree(temporary.parent, ignore_errors=True)


def _replace_folder(new: Path, path: Path) -> None:
    """Rename `new` to `path`. No rename replaces a full folder: the old one steps aside, and back if that fails."""
    if not path.exists():
        new.replace(path)
        return
    aside = new.with_name(new.name + ".old")
    path.replace(aside)
    try:
        new.replace(path)
    except BaseException:
        aside.replace(path)
        raise


def atomic_write(path: Path, data: bytes) -> None:
    """Write a small file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def sweep_temporaries(folder: Path) -> None:
    """Remove what a killed process left behind in `folder`."""
    for left in folder.rglob(TEMPORARY_PREFIX + "*"):
        with suppress(FileNotFoundError):
            shutil.rmtree(left) if left.is_dir() else left.unlink()
