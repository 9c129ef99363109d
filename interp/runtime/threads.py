"""Threads of PyTorch and of numpy's linear algebra (BLAS): how many there are, and where one is faster than several."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

# From this width on a second thread of numpy's linear algebra pays.
_WIDE = 512


def limit_threads(threads: int) -> None:
    """Make PyTorch and numpy's linear algebra use at most this many threads in this process, from now on."""
    import torch

    torch.set_num_threads(threads)
    _pools().limit(limits=threads, user_api="blas")


@contextlib.contextmanager
def one_thread_if_narrow(width: int) -> Iterator[None]:
    """Let numpy's linear algebra use one thread where matrices are narrow.

    Its threads wait for each other by spinning. To sweep probes over activations of width 128 took twice as long with two
    threads as with one on a machine that does something else too, and on a busy one a fit of class means 10 times as long
    and more.

    Args:
        width: Width of the matrices.
    """
    if width >= _WIDE:
        yield
        return
    with _pools().limit(limits=1, user_api="blas"):
        yield


@functools.cache
def _pools() -> Any:
    # A library is limited only if it is loaded.
    import numpy  # noqa: F401
    import scipy.linalg  # noqa: F401
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
