"""Engines run a function over a list of specs: in this process, in several processes, on Ray or on SLURM.

An engine is chosen by name, with settings after a colon: `slurm:partition=gpu,timeout_min=60`. All engines give the
same results.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from interp.errors import UsageError, checked_count, unknown
from interp.runtime.threads import limit_threads
from interp.runtime.workers import Executor, R, S, cores, dead_worker_error

# Name of each engine to the module and class that runs it. Ray and SLURM load only when they are chosen.
ENGINES: dict[str, tuple[str, str]] = {
    "inline": (__name__, "Inline"),
    "process": (__name__, "Processes"),
    "ray": ("interp.runtime.ray_engine", "Ray"),
    "slurm": ("interp.runtime.slurm_engine", "Slurm"),
}
_WITH_SETTINGS = ("ray", "slurm")


def executor(engine: str, workers: int | None = None) -> Executor:
    """Return the engine of a name.

    Args:
        engine: A name from `ENGINES`, with settings after a colon where the engine has some:
            `slurm:partition=gpu,timeout_min=60`.
        workers: How many specs run at the same time; by default one for each core, and 1 for `inline`.

    Raises:
        UsageError: The engine or a setting is unknown, or a value does not fit.
    """
    name, _, listed = engine.partition(":")
    if name not in ENGINES:
        raise unknown("engine", name, ENGINES)
    settings: dict[str, str] = {}
    for setting in filter(None, listed.split(",")):
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise UsageError(
                f"expected settings of an engine as key=value, got {setting!r}; write slurm:partition=gpu, for example."
            )
        settings[key] = value
    if settings and name not in _WITH_SETTINGS:
        raise UsageError(f"expected no settings for engine {name}, got {', '.join(settings)}; leave them out.")
    module, class_name = ENGINES[name]
    return getattr(importlib.import_module(module), class_name)(workers, **settings)


class Inline:
    """Runs one spec after another in this process."""

    def __init__(self, workers: int | None = None) -> None:
        checked_count("workers", 1 if workers is None else workers)
        self.workers = 1

    def map(self, function: Callable[[S], R], specs: Sequence[S]) -> Iterator[tuple[int, R]]:
        """Yield (index, result) pairs in the order of `specs`."""
        for index, spec in enumerate(specs):
            yield index, function(spec)


class Processes:
    """Runs specs in worker processes on this machine; the workers share its cores."""

    def __init__(self, workers: int | None = None) -> None:
        self.workers = checked_count("workers", cores() if workers is None else workers)
        self._threads = max(1, cores() // self.workers)

    def map(self, function: Callable[[S], R], specs: Sequence[S]) -> Iterator[tuple[int, R]]:
        """Yield (index, result) pairs as workers finish them; see `Executor.map`."""
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor, as_completed
        from concurrent.futures.process import BrokenProcessPool

        # Forked children inherit the locks of torch's and numpy's threads, so workers are spawned.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(
            self.workers, mp_context=context, initializer=start_worker, initargs=(self._threads,)
        )
        worker_died = False
        try:
            index_of: dict[Any, int] = {pool.submit(function, spec): index for index, spec in enumerate(specs)}
            for future in as_completed(index_of):
                try:
                    result = future.result()
                except BrokenProcessPool:
                    worker_died = True
                    continue
                yield index_of[future], result
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        if worker_died:
            raise dead_worker_error()


def start_worker(threads: int) -> None:
    """Prepare a new process for work beside others: it has so many threads, and ends with its parent."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _exit_with_parent()
    limit_threads(threads)


def _exit_with_parent() -> None:
    """Make this worker exit when its parent does: a parent that is killed cannot stop its workers."""
    import multiprocessing
    import threading

    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait_for_parent() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait_for_parent, daemon=True).start()
