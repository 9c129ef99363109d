"""Writing files so that a kill, a full disk or a missing permission loses nothing that was there."""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from interp.errors import StoreError


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


def commit(path: Path, content: bytes) -> str:
    """Write `content` so that `path` is either absent, old or whole; returns its sha256.

    Temporary name, fsync, rename, fsync of the folder.
    """
    with explained(f"writing {path.name}"):
        path.parent.mkdir(parents=True, exist_ok=True)
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


def file_hash(path: Path) -> str:
    """The sha256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
