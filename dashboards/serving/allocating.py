"""How the C library of the server keeps memory that is free again."""

from __future__ import annotations

import ctypes
import platform

# Numbers of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _ARENA_MAX = -1, -3, -8
ARENAS = 2
LARGE = 1 << 20  # bytes


def give_memory_back() -> bool:
    """Let free memory go back to the system, and return whether the C library can be told so.

    Every visit draws its page in a thread of its own. glibc then keeps up to eight heaps for each core, and each keeps
    what the largest page took. Few heaps, and a mapping of its own for each large array, keep the server as small after
    a day of clicking as after the first minute. Call it before threads start.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    mallopt = ctypes.CDLL(None).mallopt
    # A fixed limit also ends that glibc raises it after every large array that is freed, up to 32 MB.
    settings = ((_ARENA_MAX, ARENAS), (_MMAP_THRESHOLD, LARGE), (_TRIM_THRESHOLD, 4 * LARGE))
    accepted = [mallopt(name, value) == 1 for name, value in settings]
    return all(accepted)
