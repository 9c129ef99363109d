"""The engine that runs specs as Ray Core tasks (extra `ray`)."""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from interp.errors import CotlensError, UsageError, checked_count
from interp.runtime.workers import (
    R,
    S,
    checked_settings,
    cores,
    dead_worker_error,
    import_extra,
    result_of,
    run_guarded,
)

_SETTINGS: dict[str, type] = {"address": str, "num_cpus": float, "num_gpus": float, "memory_gb": float}


class Ray:
    """Runs specs as Ray tasks, on a cluster or on a Ray that this process starts and stops.

    At most two specs for each worker are submitted at a time, so a long list costs no memory. What a function writes
    must go to a file system that all nodes share.

    Args:
        workers: How many specs run at the same time; by default one for each core.
        **settings: `address` of the cluster (by default the environment variable RAY_ADDRESS, else none);
            `num_cpus`, `num_gpus` and `memory_gb` of one task.
    """

    def __init__(self, workers: int | None = None, **settings: str) -> None:
        self._settings = checked_settings("ray", settings, _SETTINGS)
        self.workers = checked_count("workers", cores() if workers is None else workers)

    def map(self, function: Callable[[S], R], specs: Sequence[S]) -> Iterator[tuple[int, R]]:
        """Yield (index, result) pairs as tasks finish; see `Executor.map`."""
        if not specs:
            return
        ray = import_extra("ray", "ray")
        starts_ray = not ray.is_initialized()
        if starts_ray:
            self._connect(ray)
        task = ray.remote(**self._task_options())(run_guarded)
        queue = iter(enumerate(specs))
        index_of: dict[Any, int] = {}
        worker_died = False
        try:
            while True:
                for index, spec in itertools.islice(queue, 2 * self.workers - len(index_of)):
                    index_of[task.remote(function, spec)] = index
                if not index_of:
                    break
                (finished, *_), _ = ray.wait(list(index_of), num_returns=1)
                index = index_of.pop(finished)
                try:
                    outcome = ray.get(finished)
                except (ray.exceptions.RayTaskError, ray.exceptions.RaySystemError) as error:
                    reason = str(error).strip().splitlines()[-1]
                    raise CotlensError(f"a task could not be run by Ray: {reason}") from None
                except ray.exceptions.RayError:
                    worker_died = True
                    continue
                yield index, result_of(outcome)
        finally:
            for pending in index_of:
                with contextlib.suppress(Exception):
                    ray.cancel(pending, force=True)
            if starts_ray:
                ray.shutdown()
        if worker_died:
            raise dead_worker_error()

    def _task_options(self) -> dict[str, Any]:
        options: dict[str, Any] = {"num_cpus": self._settings.get("num_cpus", 1), "max_retries": 0}
        if "num_gpus" in self._settings:
            options["num_gpus"] = self._settings["num_gpus"]
        if "memory_gb" in self._settings:
            options["memory"] = int(self._settings["memory_gb"] * 2**30)
        return options

    def _connect(self, ray: Any) -> None:
        address = self._settings.get("address") or os.environ.get("RAY_ADDRESS")
        quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "error"}
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # Workers import from the same places as this process.
        environment = {
            "env_vars": {"OMP_WAIT_POLICY": "PASSIVE", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        }
        try:
            if address:
                ray.init(address=address, runtime_env=environment, **quiet)
            else:
                ray.init(num_cpus=self.workers, include_dashboard=False, runtime_env=environment, **quiet)
        except (ConnectionError, RuntimeError, ValueError, OSError) as error:
            reason = str(error).strip().splitlines()[0]
            raise UsageError(
                f"Ray could not be reached{f' at {address}' if address else ''}: {reason}. For a cluster that needs a "
                "token, set RAY_AUTH_MODE=token and put the token in ~/.ray/auth_token."
            ) from None
