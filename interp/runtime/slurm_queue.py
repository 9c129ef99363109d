"""Which jobs SLURM still has, by `squeue`: what became of others is known by accounting, which not every cluster keeps."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence

_EVERY = 10.0  # seconds between two looks
_GRACE = 30.0  # seconds in which what a job left behind may still have to reach this machine


class Queue:
    """The queue as it was at the last look, at most one every `every` seconds.

    `ids` are those of jobs or of an array's tasks, as 123 or 123_4.
    """

    def __init__(self, ids: Sequence[str], every: float = _EVERY, grace: float = _GRACE) -> None:
        self._asked = ",".join(sorted({each.partition("_")[0] for each in ids}))
        self.every, self._grace = every, grace
        self._looked = -float("inf")
        self._there: set[str] | None = None
        self._missing: dict[str, float] = {}

    def lost(self, job_id: str) -> bool:
        """Whether the queue has not had this job for so long that what it did must be all that it will do."""
        now = time.monotonic()
        if now - self._looked >= self.every:
            self._looked, self._there = now, self._look()
        if self._there is None or job_id in self._there:
            self._missing.pop(job_id, None)
            return False
        return now - self._missing.setdefault(job_id, now) >= self._grace

    def _look(self) -> set[str] | None:
        """The ids that wait, run or end; None where the queue could not be asked."""
        command = ["squeue", "--noheader", "--array", "--format=%i", f"--jobs={self._asked}"]
        try:
            asked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        if asked.returncode:
            # Of jobs that ended some minutes ago SLURM knows nothing more.
            return set() if "Invalid job id" in asked.stderr else None
        return set(asked.stdout.split())
