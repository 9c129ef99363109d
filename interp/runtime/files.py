"""Writing files so that a kill, a full disk or a missing permission loses nothing that was there."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.errors import StoreError, UsageError

# What `place` gives. A `UPath` has a path's methods without being one, which runtime type checks would not forgive.
if TYPE_CHECKING:
    AnyPath = Path
else:
    AnyPath = Any


def place(where: Path | str) -> AnyPath:
    """A folder or file on disk, or behind any URL that fsspec knows (`memory://runs`, `s3://bucket/runs`).

    What comes back for a URL is a `UPath`, which has the methods of a path. Raises `UsageError` for a scheme that
    nothing installed speaks.
    """
    if not isinstance(where, str) or "://" not in where:
        return Path(where) if isinstance(where, str) else where
    from upath import UPath

    try:
        found: Any = UPath(where)
        _ = found.fs
    except (ValueError, ImportError) as error:
        raise UsageError(
            f"{where!r} cannot be reached: {error}. Install fsspec's package for it, or use a folder."
        ) from None
    return found


def is_local(path: AnyPath) -> bool:
    """Whether a path lies on a disk of this machine, where it can be mapped, synced and renamed."""
    return getattr(path, "protocol", "") in ("", "file", "local")


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn what the file system refuses into one line that says what to do."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            hint = "The disk is full. Free some room and run the same command again: what is committed is kept."
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            hint = "No permission to write there. Choose another --out."
        elif error.errno == errno.ENOENT:
            hint = "The folder is not there and cannot be made. Choose another --out."
        elif error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
            hint = "A file stands where a folder is needed. Choose another --out."
        else:
            hint = error.strerror or str(error)
        raise StoreError(f"{doing} failed at {error.filename or '?'}. {hint}") from None


def commit(path: AnyPath, content: bytes) -> str:
    """Write `content` so that `path` is either absent, old or whole; returns its sha256.

    Temporary name, fsync, rename, fsync of the folder; behind a URL one put, which object stores do whole or not.
    """
    with explained(f"writing {path.name}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not is_local(path):
            path.write_bytes(content)
            return hashlib.sha256(content).hexdigest()
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)
    return hashlib.sha256(content).hexdigest()


def file_hash(path: AnyPath) -> str:
    """The sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
