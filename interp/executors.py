"""Engines that work through a list of small picklable specs: here, or in processes of their own."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from interp.errors import PartialError, checked_count, unknown

S = TypeVar("S")
R = TypeVar("R")


def cores() -> int:
    """How many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@runtime_checkable
class Executor(Protocol):
    """Calls a function on every spec. Results come as they are done, each with its spec's place in the list."""

    def map(self, function: Callable[[S], R], specs: Sequence[S]) -> Iterator[tuple[int, R]]: ...


class Inline:
    """One spec after another, in this process."""

    def map(self, function: Callable[[S], R], specs: Sequence[S]) -> Iterator[tuple[int, R]]:
        for number, spec in enumerate(specs):
            yield number, function(spec)


class Processes:
    """Several worker processes on this machine, which share its cores among them."""

    def __init__(self, workers: int | None = None) -> None:
        self.workers = checked_count("workers", cores() if workers is None else workers)
        self._threads = max(1, cores() // self.workers)

    def map(self, function: Callable[[S], R], specs: Sequence[S]) -> Iterator[tuple[int, R]]:
        """Raises `PartialError` when a worker is killed; what was finished is kept."""
        import multiprocessing
        from concurrent.futures import ProcessPoolExecutor, as_completed
        from concurrent.futures.process import BrokenProcessPool

        # Forked children inherit the locks of torch's and numpy's threads, so workers start anew.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPoolExecutor(self.workers, mp_context=context, initializer=_start, initargs=(self._threads,))
        try:
            waiting: dict[Any, int] = {pool.submit(function, spec): number for number, spec in enumerate(specs)}
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        except BrokenProcessPool:
            raise PartialError(
                "a worker process died (killed, or out of memory). What was finished is kept: run the same command "
                "again, with fewer --workers if memory was short."
            ) from None
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


ENGINES: dict[str, Callable[..., Executor]] = {"inline": lambda workers=None: Inline(), "process": Processes}


def executor(engine: str, workers: int | None = None) -> Executor:
    """The engine of that name. Raises `UsageError` on an unknown one."""
    if engine not in ENGINES:
        raise unknown("engine", engine, ENGINES)
    return ENGINES[engine](workers)


def _start(threads: int) -> None:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    import torch

    torch.set_num_threads(threads)
