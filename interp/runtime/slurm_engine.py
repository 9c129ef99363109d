"""The engine that runs specs as SLURM jobs through submitit (extra `slurm`)."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from interp.errors import CotlensError, PartialError, checked_count
from interp.runtime.workers import Outcome, R, S, checked_settings, cores, import_extra, result_of, run_guarded

_LOCAL_POLL_SECONDS = 2.0  # between two checks of submitit's local jobs
_QUEUE_POLL_SECONDS = 10.0
_QUEUE_GRACE_SECONDS = 30.0  # for the files of an ended job to reach this machine
_SLURM_OPTIONS = ("partition", "account", "qos", "constraint")
_TEXT_SETTINGS = ("folder", "cluster", *_SLURM_OPTIONS)
_NUMBER_SETTINGS = ("timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node")


class Slurm:
    """Runs specs as the tasks of one SLURM array; each job takes an equal share of the specs.

    What a function writes must go to a file system that all nodes share.

    Args:
        workers: How many jobs run at the same time; by default one for each core of this machine.
        **settings: `folder` for logs and pickles, on a shared file system (by default `.cotlens/slurm`);
            `cluster`: `slurm`, `local` or `debug` (by default what is available); `partition`, `account`, `qos`,
            `constraint`, `timeout_min`, `mem_gb`, `cpus_per_task`, `gpus_per_node`.
    """

    def __init__(self, workers: int | None = None, **settings: str) -> None:
        types = {**dict.fromkeys(_TEXT_SETTINGS, str), **dict.fromkeys(_NUMBER_SETTINGS, int)}
        self._settings = checked_settings("slurm", settings, types)
        self.workers = checked_count("workers", cores() if workers is None else workers)

    def map(self, function: Callable[[S], R], specs: Sequence[S]) -> Iterator[tuple[int, R]]:
        """Yield (index, result) pairs as jobs end; see `Executor.map`."""
        if not specs:
            return
        submitit = import_extra("submitit", "slurm")
        logging.getLogger("submitit").setLevel(logging.ERROR)  # it warns at every poll where there is no accounting
        settings = dict(self._settings)
        folder = Path(settings.pop("folder", ".cotlens/slurm")).absolute()
        cluster = settings.pop("cluster", None) or ("slurm" if shutil.which("sbatch") else "local")
        submitter = submitit.AutoExecutor(folder=folder, cluster=cluster)
        parameters = {f"slurm_{key}" if key in _SLURM_OPTIONS else key: value for key, value in settings.items()}
        parameters.setdefault("timeout_min", 24 * 60)
        if cluster == "slurm":
            parameters["slurm_array_parallelism"] = self.workers
        submitter.update_parameters(name="cotlens", **parameters)
        shares = [list(range(k, len(specs), self.workers)) for k in range(min(self.workers, len(specs)))]
        shared_specs = [[specs[index] for index in share] for share in shares]
        jobs = submitter.map_array(run_until_error, itertools.repeat(function), shared_specs)
        share_of = dict(zip(jobs, shares, strict=True))
        died = []
        try:
            for job in ended_jobs(jobs, JobQueue([job.job_id for job in jobs]) if cluster == "slurm" else None):
                share = share_of.pop(job)
                if not job.done():
                    died.append(job.job_id)
                    continue
                try:
                    outcomes = job.result()
                except submitit.core.utils.UncompletedJobError:
                    died.append(job.job_id)
                    continue
                except submitit.core.utils.FailedJobError as error:
                    reason = str(error).strip().splitlines()[-1]
                    raise CotlensError(f"job {job.job_id} failed; its log is {job.paths.stderr}: {reason}") from None
                for index, outcome in zip(share, outcomes, strict=False):
                    yield index, result_of(outcome)
        finally:
            for job in share_of:
                with contextlib.suppress(Exception):
                    job.cancel(check=False)
        if died:
            raise PartialError(
                f"jobs ended before their work did ({', '.join(died)}; logs in {folder}): killed, out of memory, or out "
                "of time. What was finished is kept: run the same command again."
            )


def run_until_error(function: Callable[[S], R], specs: Sequence[S]) -> list[Outcome]:
    """Run the specs of one job, up to the first that fails, and return their outcomes."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    outcomes = []
    for spec in specs:
        outcomes.append(run_guarded(function, spec))
        if outcomes[-1][0] == "error":
            break
    return outcomes


def ended_jobs(jobs: Sequence[Any], queue: JobQueue | None) -> Iterator[Any]:
    """Yield jobs as they end, including jobs that left SLURM's queue without a result."""
    running = list(jobs)
    while running:
        for job in list(running):
            if job.done() or (queue is not None and queue.is_lost(job.job_id)):
                running.remove(job)
                yield job
        if running:
            # Every check reads the jobs' folder, which on a cluster is a shared file system.
            time.sleep(_LOCAL_POLL_SECONDS if queue is None else queue.poll_seconds)


class JobQueue:
    """SLURM's queue as `squeue` shows it.

    Accounting would also know jobs that have left the queue, but not every cluster keeps it.

    Args:
        ids: Ids of jobs or of an array's tasks: "123" or "123_4".
        poll_seconds: Shortest time between two calls of `squeue`.
        grace_seconds: How long a job must be absent before it counts as lost.
    """

    def __init__(
        self,
        ids: Sequence[str],
        poll_seconds: float = _QUEUE_POLL_SECONDS,
        grace_seconds: float = _QUEUE_GRACE_SECONDS,
    ) -> None:
        self._job_ids = ",".join(sorted({job_id.partition("_")[0] for job_id in ids}))
        self.poll_seconds, self._grace_seconds = poll_seconds, grace_seconds
        self._last_poll = -float("inf")
        self._queued: set[str] | None = None
        self._missing_since: dict[str, float] = {}

    def is_lost(self, job_id: str) -> bool:
        """Return whether a job has been absent from the queue for longer than the grace time."""
        now = time.monotonic()
        if now - self._last_poll >= self.poll_seconds:
            self._last_poll, self._queued = now, self._poll()
        if self._queued is None or job_id in self._queued:
            self._missing_since.pop(job_id, None)
            return False
        return now - self._missing_since.setdefault(job_id, now) >= self._grace_seconds

    def _poll(self) -> set[str] | None:
        """Return the ids in the queue, or None where `squeue` does not answer."""
        command = ["squeue", "--noheader", "--array", "--format=%i", f"--jobs={self._job_ids}"]
        try:
            listing = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        if listing.returncode:
            # SLURM forgets a job some minutes after it ended.
            return set() if "Invalid job id" in listing.stderr else None
        return set(listing.stdout.split())
