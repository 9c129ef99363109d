"""Engines that reach beyond one machine: Ray Core (extra `ray`) and SLURM by way of submitit (extra `slurm`).

Both move specs and small results only; what a function makes it writes to a file system that all nodes see.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from interp.errors import CotlensError, PartialError, UsageError, checked_count, unknown
from interp.runtime.engines import cores, died_worker
from interp.runtime.slurm_queue import Queue

S = TypeVar("S")
R = TypeVar("R")
_POLL = 2.0  # seconds between two looks at submitit's local jobs


class Ray:
    """Ray tasks, on the cluster at `address` (or in RAY_ADDRESS), else on a Ray of this process's own.

    Settings: `address`, `num_cpus` and `num_gpus` of one task, `memory_gb` that it may take. No more than two specs
    a worker are under way at a time, so a long list costs nothing.
    """

    def __init__(self, workers: int | None = None, **settings: str) -> None:
        known: dict[str, type] = {"address": str, "num_cpus": float, "num_gpus": float, "memory_gb": float}
        self._settings = _checked("ray", settings, known)
        self.workers = checked_count("workers", cores() if workers is None else workers)

    def map(self, function: Callable[[S], R], specs: Sequence[S]) -> Iterator[tuple[int, R]]:
        if not specs:
            return
        ray = _module("ray", "ray")
        started = not ray.is_initialized()
        if started:
            self._connect(ray)
        options: dict[str, Any] = {"num_cpus": self._settings.get("num_cpus", 1), "max_retries": 0}
        if "num_gpus" in self._settings:
            options["num_gpus"] = self._settings["num_gpus"]
        if "memory_gb" in self._settings:
            options["memory"] = int(self._settings["memory_gb"] * 2**30)
        task = ray.remote(**options)(guarded)
        todo = iter(enumerate(specs))
        waiting: dict[Any, int] = {}
        died = False
        try:
            while True:
                for number, spec in itertools.islice(todo, 2 * self.workers - len(waiting)):
                    waiting[task.remote(function, spec)] = number
                if not waiting:
                    break
                (done, *_), _ = ray.wait(list(waiting), num_returns=1)
                number = waiting.pop(done)
                try:
                    outcome = ray.get(done)
                except (ray.exceptions.RayTaskError, ray.exceptions.RaySystemError) as error:
                    said = str(error).strip().splitlines()[-1]
                    raise CotlensError(f"a task could not be run by Ray: {said}") from None
                except ray.exceptions.RayError:
                    died = True
                    continue
                yield number, opened(outcome)
        finally:
            for left in waiting:
                with contextlib.suppress(Exception):
                    ray.cancel(left, force=True)
            if started:
                ray.shutdown()
        if died:
            raise died_worker()

    def _connect(self, ray: Any) -> None:
        address = self._settings.get("address") or os.environ.get("RAY_ADDRESS")
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Workers are to use this very environment, and find what this process finds.
        environment = {
            "env_vars": {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        }
        try:
            if address:
                ray.init(address=address, runtime_env=environment, **quiet)
            else:
                ray.init(num_cpus=self.workers, include_dashboard=False, runtime_env=environment, **quiet)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            first = str(error).strip().splitlines()[0]
            raise UsageError(
                f"Ray could not be reached{f' at {address}' if address else ''}: {first}. A cluster that asks for a token "
                "wants RAY_AUTH_MODE=token in the environment, and the token in ~/.ray/auth_token."
            ) from None


class Slurm:
    """SLURM jobs by submitit, `workers` at a time, each with an equal share of the specs.

    Settings: `folder` for logs and pickles (on a file system that all nodes see; `.cotlens/slurm` below the working
    folder), `cluster` (`slurm`, `local` or `debug`; what is there by default), `partition`, `account`, `qos`,
    `constraint`, `timeout_min`, `mem_gb`, `cpus_per_task`, `gpus_per_node`.
    """

    _SLURM = ("partition", "account", "qos", "constraint")

    def __init__(self, workers: int | None = None, **settings: str) -> None:
        known: dict[str, type] = dict.fromkeys(("folder", "cluster", *self._SLURM), str)
        known |= dict.fromkeys(("timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node"), int)
        self._settings = _checked("slurm", settings, known)
        self.workers = checked_count("workers", cores() if workers is None else workers)

    def map(self, function: Callable[[S], R], specs: Sequence[S]) -> Iterator[tuple[int, R]]:
        if not specs:
            return
        submitit = _module("submitit", "slurm")
        logging.getLogger("submitit").setLevel(logging.ERROR)  # at every look it warns where there is no accounting
        settings = dict(self._settings)
        folder = Path(settings.pop("folder", ".cotlens/slurm")).absolute()
        cluster = settings.pop("cluster", None) or ("slurm" if shutil.which("sbatch") else "local")
        chosen = submitit.AutoExecutor(folder=folder, cluster=cluster)
        parameters = {f"slurm_{key}" if key in self._SLURM else key: value for key, value in settings.items()}
        parameters.setdefault("timeout_min", 24 * 60)
        if cluster == "slurm":
            parameters["slurm_array_parallelism"] = self.workers
        chosen.update_parameters(name="cotlens", **parameters)
        shares = [list(range(k, len(specs), self.workers)) for k in range(min(self.workers, len(specs)))]
        jobs = chosen.map_array(work_through, itertools.repeat(function), [[specs[n] for n in each] for each in shares])
        waiting = dict(zip(jobs, shares, strict=True))
        died = []
        try:
            for job in _ended(jobs, Queue([job.job_id for job in jobs]) if cluster == "slurm" else None):
                share = waiting.pop(job)
                if not job.done():
                    died.append(job.job_id)
                    continue
                try:
                    outcomes = job.result()
                except submitit.core.utils.UncompletedJobError:
                    died.append(job.job_id)
                    continue
                except submitit.core.utils.FailedJobError as error:
                    said = str(error).strip().splitlines()[-1]
                    raise CotlensError(f"job {job.job_id} failed; its log is {job.paths.stderr}: {said}") from None
                for number, outcome in zip(share, outcomes, strict=False):
                    yield number, opened(outcome)
        finally:
            for job in waiting:
                with contextlib.suppress(Exception):
                    job.cancel(check=False)
        if died:
            raise PartialError(
                f"jobs ended before their work did ({', '.join(died)}; logs in {folder}): killed, out of memory, or out "
                "of time. What was finished is kept: run the same command again."
            )


def _ended(jobs: Sequence[Any], queue: Queue | None) -> Iterator[Any]:
    """Jobs as they end, also those that are neither in SLURM's queue nor known to its accounting, and left no result."""
    going = list(jobs)
    while going:
        for job in list(going):
            if job.done() or (queue is not None and queue.lost(job.job_id)):
                going.remove(job)
                yield job
        if going:
            # Each look touches the jobs' folder, which on a cluster is many machines' file system.
            time.sleep(_POLL if queue is None else queue.every)


def guarded(function: Callable[[S], R], spec: S) -> tuple[str, Any]:
    """The result of a spec or the error of this project that it ended with, so that errors travel as they are."""
    try:
        return "done", function(spec)
    except CotlensError as error:
        return "failed", error


def opened(outcome: tuple[str, Any]) -> Any:
    """The result in an outcome; raises the error in it."""
    kind, value = outcome
    if kind == "failed":
        raise value
    return value


def work_through(function: Callable[[S], R], specs: Sequence[S]) -> list[tuple[str, Any]]:
    """Every spec of one job, up to the first that fails."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    outcomes = []
    for spec in specs:
        outcomes.append(guarded(function, spec))
        if outcomes[-1][0] == "failed":
            break
    return outcomes


def _checked(engine: str, settings: dict[str, str], known: dict[str, type]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if name not in known:
            raise unknown(f"setting of engine {engine}", name, known)
        try:
            found[name] = known[name](value)
        except ValueError:
            raise UsageError(f"setting {name} of engine {engine} must be a number, but {value!r} came.") from None
    return found


def _module(name: str, extra: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError:
        raise UsageError(f"engine {extra} needs the package {name}: pip install 'cotlens[{extra}]'.") from None
