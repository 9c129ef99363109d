"""`cotlens demo`: a study of one organism, and of the organisms that it is compared with."""

from __future__ import annotations

import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import interp
from dashboards.figures import accuracy_of
from dashboards.headline import headline
from dashboards.measures import demo_measures
from dashboards.record import open_run, peak_rss_mb, write_run
from dashboards.stage_runner import StageRunner
from dashboards.study import raise_for_defects, run_record, run_stages
from interp.errors import UsageError, checked_count
from interp.organisms.catalog import recipe
from interp.problems.base import checked_seed
from interp.reasoners import Reasoner
from interp.runtime.console import Bars
from interp.runtime.engines import start_worker
from interp.runtime.progress import Progress
from interp.runtime.threads import limit_threads
from interp.runtime.workers import cores, dead_worker_error

if TYPE_CHECKING:
    from interp.problems import Problem

MIN_PROBLEMS = 300
# Organisms of other kinds, which an organism of the same task is compared with.
COMPARED = ("chain-coconut", "chain-direct", "chain-pause-as-thought", "chain-text")


def run_demo(
    out: Path, organism: str, *, n: int, seed: int, bars: Bars, started: float | None = None
) -> dict[str, Any]:
    """Study an organism, compare it with others, and write a report.

    Args:
        out: Folder of the run. An unfinished run of the same options is resumed.
        organism: Name of a shipped organism.
        n: Number of held-out problems, at least 300.
        seed: Seed of the problems.
        bars: Where progress is shown.
        started: When the clock began, as `time.monotonic` counts; now by default.

    Returns:
        The content of `run.json`.

    Raises:
        UsageError: The organism is unknown or has no thoughts, or there are too few problems.
        StoreError: `out` holds another run, or something else.
        PartialError: A stage failed unexpectedly; the others are kept.
    """
    from dashboards.report import build_report

    started = time.monotonic() if started is None else started
    made = recipe(organism)
    checked_seed(seed)
    if checked_count("n", n) < MIN_PROBLEMS:
        raise UsageError(
            f"expected n of at least {MIN_PROBLEMS}, got {n}; splits and intervals mean little on fewer problems."
        )
    if made.kind == "direct":
        raise UsageError(
            f"{organism} answers without thinking, so it has no thoughts to read. Choose another organism, or see what "
            f"can be read before its answer: `cotlens study {organism}`."
        )
    options = {"organism": organism, "n_problems": n, "seed": seed, "task": made.task}
    with open_run(out, options):
        reasoner = interp.load(organism)
        problems = reasoner.task.generate(n, seed=seed, split="test")
        with _compared(_Comparisons(tuple(_others(organism)), problems, out / "comparisons"), bars) as comparisons:
            studied = run_stages(reasoner, problems, out, bars)
            result = run_record(studied, options, out)
            with bars.stage("waiting for the organisms that it is compared with"):
                result["comparisons"], most_beside = comparisons()
        own = peak_rss_mb()
        result["peak_rss_mb"] = None if own is None else own + most_beside
        result["headline"] = headline(result)
        result["seconds"] = round(time.monotonic() - started, 1)
        result["measures"] = demo_measures(result)
        write_run(out, result)
        with bars.stage("writing the report"):
            build_report(out)
        # Written again, because the time of the report counts for the command.
        result["seconds"] = round(time.monotonic() - started, 1)
        result["measures"] = demo_measures(result)
        write_run(out, result)
    raise_for_defects(studied, out)
    return result


def _others(organism: str) -> list[str]:
    """Return the organisms that an organism is compared with."""
    return [name for name in COMPARED if recipe(name).task == recipe(organism).task and name != organism]


@dataclass(frozen=True)
class _Comparisons:
    """Organisms to compare with, on the same problems; full studies are kept in folders of `out`."""

    organisms: tuple[str, ...]
    problems: Sequence[Problem]
    out: Path


@contextmanager
def _compared(spec: _Comparisons, bars: Bars) -> Iterator[Callable[[], tuple[list[dict[str, Any]], float]]]:
    """Study the other organisms in a process of their own, while this one goes on; each has half of the cores.

    Small models gain little from a second thread. Yields a function that waits for the figures of the others, and
    returns them with the peak memory of that process in MB. On a single core they are studied when it is called.
    """
    if cores() < 2 or not spec.organisms:
        yield lambda: ([_compare(name, spec, bars) for name in spec.organisms], 0.0)
        return
    context = multiprocessing.get_context("spawn")
    receiving, sending = context.Pipe(duplex=False)
    beside = context.Process(target=_send_comparisons, args=(sending, spec, max(1, cores() // 2)), daemon=True)
    beside.start()
    sending.close()  # so that its end is seen here
    limit_threads(max(1, cores() // 2))
    try:
        yield partial(_received, receiving)
    finally:
        beside.terminate()  # where this one is interrupted, nobody waits for the other
        beside.join()
        limit_threads(cores())


def _send_comparisons(sending: Connection, spec: _Comparisons, threads: int) -> None:
    """Send the figures of all organisms, or the error that ended them; the work of the other process."""
    start_worker(threads)
    try:
        sending.send(_compare_all(spec))
    except Exception as error:
        sending.send(error)


def _received(receiving: Connection) -> tuple[list[dict[str, Any]], float]:
    """Return what the other process sends.

    Raises:
        Exception: The error that ended it.
    """
    try:
        sent = receiving.recv()
    except EOFError:
        raise dead_worker_error() from None
    if isinstance(sent, Exception):
        raise sent
    figures: tuple[list[dict[str, Any]], float] = sent
    return figures


def _compare_all(spec: _Comparisons) -> tuple[list[dict[str, Any]], float]:
    """Return the figures of all organisms, and the peak memory of this process in MB."""
    return [_compare(name, spec, None) for name in spec.organisms], peak_rss_mb() or 0.0


def _compare(name: str, spec: _Comparisons, bars: Bars | None) -> dict[str, Any]:
    """Return the figures of another organism on the same problems, with a full study if it thinks silently."""
    other: Reasoner = interp.load(name)
    entry: dict[str, Any] = {"organism": name, "kind": other.kind, "summary": recipe(name).summary}
    if other.kind in ("pause", "continuous"):
        same = run_stages(other, spec.problems, spec.out / name, bars, dictionaries=False, twin=False)
        figures = same.figures()
        kept = ("accuracy", "ci", "n", "steps", "interchange", "skipped")
        return entry | {key: figures[key] for key in kept}

    def think(report: Progress | None) -> interp.TraceSet:
        return other.think(spec.problems, batch_size=128, progress=report)

    return entry | accuracy_of(StageRunner(name, bars).run("thinking", think))
