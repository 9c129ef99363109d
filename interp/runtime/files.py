"""Crash-safe writing of files, on disk and behind URLs."""

from __future__ import annotations

import errno
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from interp.errors import StoreError, UsageError

# A `UPath` has the methods of a path but is no `Path`, so runtime type checks must not insist on one.
if TYPE_CHECKING:
    AnyPath = Path
else:
    AnyPath = Any


def as_path(where: Path | str) -> AnyPath:
    """Return the path of a file or folder on disk, or behind a URL that fsspec knows.

    Args:
        where: A path, or a URL such as `memory://runs` or `s3://bucket/runs`.

    Returns:
        A `Path`, also for a `file://` URL; for another URL a `UPath`, which has the same methods.

    Raises:
        UsageError: No installed package handles the URL's scheme.
    """
    if not isinstance(where, str) or "://" not in where:
        return Path(where) if isinstance(where, str) else where
    scheme, _, rest = where.partition("://")
    if scheme in ("file", "local"):
        from urllib.parse import unquote

        return Path(unquote(rest))
    from upath import UPath

    try:
        path: Any = UPath(where)
        _ = path.fs
    except (ValueError, ImportError) as error:
        raise UsageError(
            f"{where!r} cannot be reached: {error}. Install fsspec's package for it, or use a folder."
        ) from None
    return path


def is_local(path: AnyPath) -> bool:
    """Return whether a path is on a disk of this machine, where files can be mapped, synced and renamed."""
    return getattr(path, "protocol", "") in ("", "file", "local")


@contextmanager
def explain_os_errors(action: str) -> Iterator[None]:
    """Turn an `OSError` into a `StoreError` of one line that says what to do.

    The errors with which safetensors and torch report that a file cannot be written are treated likewise.

    Args:
        action: What is being done, such as "writing traces.parquet".
    """
    try:
        yield
    except Exception as error:
        os_error = error if isinstance(error, OSError) else _saving_error(error)
        if os_error is None:
            raise
        at = f" at {os_error.filename}" if os_error.filename else ""
        raise StoreError(f"{action} failed{at}. {os_error_hint(os_error)}") from None


def _saving_error(error: Exception) -> OSError | None:
    """Return the `OSError` behind an error of safetensors or torch while it saves; None for other errors."""
    number = re.search(r"\(os error (\d+)\)", str(error))
    if type(error).__name__ == "SafetensorError" and number:
        return OSError(int(number[1]), os.strerror(int(number[1])))
    if isinstance(error, RuntimeError) and "PytorchStreamWriter failed" in str(error):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # torch does not say why
    return None


def os_error_hint(error: OSError) -> str:
    """Return what an `OSError` means and what to do, as sentences."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "The disk is full. Free some room and run the same command again: what is committed is kept."
    if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        return "No permission to write there. Choose another --out."
    if error.errno == errno.ENOENT:
        return "The folder is not there and cannot be made. Choose another --out."
    if error.errno in (errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        return "There is a file where a folder is needed. Choose another --out."
    if error.errno == errno.ENAMETOOLONG:
        return "The name is longer than the file system allows. Choose a shorter one."
    return error.strerror or str(error)


def commit(path: AnyPath, content: bytes) -> str:
    """Write a file atomically: after a crash it is absent, old or complete.

    On disk: write to a temporary name, fsync, rename, fsync the folder. Behind a URL: one put, which object stores
    do atomically.

    Args:
        path: The file. Missing folders are made.
        content: All of its bytes.

    Returns:
        The sha256 of `content`, as hex digits.

    Raises:
        StoreError: The file system refuses.
    """
    with explain_os_errors(f"writing {path.name}"):
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
    """Return the sha256 of a file's content, as hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def refuse_existing(path: AnyPath, option: str = "--out", what: str = "file") -> None:
    """Refuse a path at which something is, before anything is computed.

    Args:
        path: Where a result is to be written.
        option: The option that named the path.
        what: `file` or `folder`.

    Raises:
        UsageError: The path exists.
    """
    if path.exists():
        raise UsageError(
            f"expected a new {what} for {option}, got {path}, which exists already; choose another {option}, or remove it."
        )


def refuse_results(folder: AnyPath | None, *patterns: str) -> None:
    """Refuse a folder that holds an earlier result, before anything is computed.

    Args:
        folder: Where results are to be written; None where none are.
        patterns: Names of the files that are written, as for `Path.glob`.

    Raises:
        UsageError: One of the files exists.
    """
    earlier = [] if folder is None else [path for pattern in patterns for path in sorted(folder.glob(pattern))]
    for path in earlier:
        refuse_existing(path)
