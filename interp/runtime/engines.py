"""Engines that work through a list of small picklable specs: here, in processes of this machine, or on a cluster.

An engine is named with its settings, as in `slurm:partition=gpu,timeout_min=60`. Each gives the same results: a spec
says everything by name, and what it makes goes to the disk by way of the function, not through the engine.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from interp.errors import PartialError, UsageError, checked_count, unknown

S = TypeVar("S")
R = TypeVar("R")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@runtime_checkable
class Executor(Protocol):
    """Calls a function on every spec. Results come as they are done, each with its spec's place in the list.

    A failure of the function is raised as it is; a worker that dies raises `PartialError`, after the results of
    the others. `workers` is how many specs are under way at a time.
    """

    workers: int

    def map(self, function: Callable[[S], R], specs: Sequence[S]) -> Iterator[tuple[int, R]]: ...


class Inline:
    """One spec after another, in this process."""

    def __init__(self, workers: int | None = None) -> None:
        checked_count("workers", 1 if workers is None else workers)
        self.workers = 1

    def map(self, function: Callable[[S], R], specs: Sequence[S]) -> Iterator[tuple[int, R]]:
        for number, spec in enumerate(specs):
            yield number, function(spec)


class Processes:
    """Several worker processes on this machine, which share its cores among them."""

    def __init__(self, workers: int | None = None) -> None:
        self.workers = checked_count("workers", cores() if workers is None else workers)
        self._threads = max(1, cores() // self.workers)

    def map(self, function: Callable[[S], R], specs: Sequence[S]) -> Iterator[tuple[int, R]]:
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor, as_completed
        from concurrent.futures.process import BrokenProcessPool

        # Forked children inherit the locks of torch's and numpy's threads, so workers start anew.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(self.workers, mp_context=context, initializer=_start, initargs=(self._threads,))
        died = False
        try:
            waiting: dict[Any, int] = {pool.submit(function, spec): number for number, spec in enumerate(specs)}
            for done in as_completed(waiting):
                try:
                    result = done.result()
                except BrokenProcessPool:
                    died = True
                    continue
                yield waiting[done], result
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        if died:
            raise died_worker()


def died_worker() -> PartialError:
    return PartialError(
        "a worker process died (killed, or out of memory). What was finished is kept: run the same command "
        "again, with fewer --workers if memory was short."
    )


def _ray(workers: int | None = None, **settings: str) -> Executor:
    from interp.runtime.clusters import Ray

    return Ray(workers, **settings)


def _slurm(workers: int | None = None, **settings: str) -> Executor:
    from interp.runtime.clusters import Slurm

    return Slurm(workers, **settings)


ENGINES: dict[str, Callable[..., Executor]] = {"inline": Inline, "process": Processes, "ray": _ray, "slurm": _slurm}
_CONFIGURED = ("ray", "slurm")


def executor(engine: str, workers: int | None = None) -> Executor:
    """The engine of that name, with the settings behind its colon. Raises `UsageError` on unknown ones."""
    name, _, settings = engine.partition(":")
    if name not in ENGINES:
        raise unknown("engine", name, ENGINES)
    given: dict[str, str] = {}
    for setting in filter(None, settings.split(",")):
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise UsageError(f"settings of an engine are key=value, as in slurm:partition=gpu, but {setting!r} came.")
        given[key] = value
    if given and name not in _CONFIGURED:
        raise UsageError(f"engine {name} has no settings, but {', '.join(given)} came.")
    return ENGINES[name](workers, **given)


def _start(threads: int) -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    _end_with_parent()
    import torch

    torch.set_num_threads(threads)


def _end_with_parent() -> None:
    """A driver that is killed cannot tell its workers to stop; each ends itself, whatever it was doing."""
    import multiprocessing
    import threading

    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
