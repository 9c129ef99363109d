"""Locks of folders, so that two processes never write one result at the same time."""

from __future__ import annotations

import errno
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from interp.errors import StoreError
from interp.runtime.files import AnyPath, explain_os_errors, is_local

LOCK = ".lock"
# File systems without locks, such as some network file systems, answer with one of these.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)


@contextmanager
def locked(folder: AnyPath, work: str) -> Iterator[None]:
    """Hold the lock of a folder within a `with` block; the folder is made where it is missing.

    The kernel frees the lock when the process ends, also when it is killed. Behind a URL and on file systems without
    locks nothing is locked; the latter gives a warning.

    Args:
        folder: The folder that is written.
        work: What is done there, such as "capturing to", for the message.

    Raises:
        StoreError: Another process holds the lock, or the folder cannot be made or written.
    """
    from filelock import FileLock, Timeout

    if not is_local(folder):
        yield
        return
    path = folder / LOCK
    lock = FileLock(path, timeout=0)
    with explain_os_errors(f"opening {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:
            raise StoreError(
                f"another process is {work} {folder} now. Wait until it has finished, or choose another --out."
            ) from None
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            warnings.warn(f"{folder} cannot be locked ({error.strerror}); let only one process write it.", stacklevel=3)
    try:
        yield
    finally:
        if lock.is_locked:
            path.unlink(missing_ok=True)  # while it is held: whoever waits for it then makes a new one
            lock.release()
