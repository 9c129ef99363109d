"""Memory of the server: what many threads took and let go of goes back to the system."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

_PROGRAM = """
import sys, threading
from pathlib import Path
from dashboards.serving.allocating import give_memory_back

if sys.argv[1] == "settled":
    assert give_memory_back()

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon:")) / 1000

together, turn = threading.Barrier(12), threading.Lock()

def draw():
    together.wait()  # all threads live at once, and each draws in its turn
    with turn:
        held = [bytes(3_000) for _ in range(4_000)]
        kept.append(bytes(3_000))  # at the end of the heap, so that it cannot shrink
        del held
    together.wait()

kept = []
before = anonymous()
threads = [threading.Thread(target=draw) for _ in range(12)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(anonymous() - before)
"""


def _growth(how: str) -> float:
    words = [sys.executable, "-c", _PROGRAM, how]
    return float(subprocess.run(words, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc keeps many heaps")
def test_threads_that_end_leave_little_memory_behind() -> None:
    usual, settled = _growth("usual"), _growth("settled")
    assert usual > 100
    assert settled < usual / 3
