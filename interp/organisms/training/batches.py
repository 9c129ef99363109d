"""Training problems in batches, the same ones for the same seed."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interp.organisms.catalog import Recipe
    from interp.problems.base import Problem, Task

_CHUNK = 8  # batches that are sorted by length together, so that little is padded


def problem_batches(task: Task, recipe: Recipe, rng: random.Random) -> Iterator[list[Problem]]:
    """An endless stream of training batches, as the recipe asks for them."""
    if recipe.batching == "length":
        return _by_length(_stream(task, recipe, rng), recipe, rng)
    return _by_shape(task, recipe, rng)


def _by_shape(task: Task, recipe: Recipe, rng: random.Random) -> Iterator[list[Problem]]:
    """Batches of one question length and one number of steps, so that nothing is padded."""
    if recipe.pool is None:
        problems = _every_length(task, rng)
    else:
        problems = _again_and_again(list(islice(_every_length(task, rng), recipe.pool)), rng)
    waiting: dict[tuple[int, int], list[Problem]] = {}
    while True:
        problem = next(problems)
        shape = (len(problem.question.split()), problem.n_steps)
        full = waiting.setdefault(shape, [])
        full.append(problem)
        if len(full) == recipe.batch_size:
            waiting[shape] = []
            yield _swapped(full, rng) if recipe.swap_traces else full


def _every_length(task: Task, rng: random.Random) -> Iterator[Problem]:
    """Training problems with every number of steps equally often."""
    streams: dict[int, Iterator[Problem]] = {}
    while True:
        n_steps = rng.randint(task.min_steps, task.max_steps)
        stream = streams.setdefault(n_steps, task.draws(random.Random(rng.random()), "train", n_steps))
        yield next(stream)


def _by_length(problems: Iterator[Problem], recipe: Recipe, rng: random.Random) -> Iterator[list[Problem]]:
    """Batches of similar length: sorted inside a chunk of several batches, which then come in random order."""
    size = recipe.batch_size
    while True:
        chunk = sorted(islice(problems, _CHUNK * size), key=_length)
        batches = [chunk[start : start + size] for start in range(0, len(chunk), size)]
        rng.shuffle(batches)
        yield from batches


def _length(problem: Problem) -> int:
    words = [problem.question, problem.answer, *(step.text for step in problem.steps)]
    return sum(len(each.split()) for each in words)


def _stream(task: Task, recipe: Recipe, rng: random.Random) -> Iterator[Problem]:
    fresh = task.draws(random.Random(rng.random()), "train")
    if recipe.pool is not None:
        kept = list(islice(fresh, recipe.pool))
        yield from _again_and_again(_swapped(kept, rng) if recipe.swap_traces else kept, rng)
    while True:
        chunk = list(islice(fresh, _CHUNK * recipe.batch_size))
        yield from _swapped(chunk, rng) if recipe.swap_traces else chunk


def _again_and_again(pool: list[Problem], rng: random.Random) -> Iterator[Problem]:
    while True:
        rng.shuffle(pool)
        yield from pool


def _swapped(problems: list[Problem], rng: random.Random) -> list[Problem]:
    """Every problem with the steps of another one: the traces in a random cycle, the questions and answers kept."""
    order = list(range(len(problems)))
    rng.shuffle(order)
    donors = dict(zip(order, [*order[1:], order[0]], strict=True))
    return [dataclasses.replace(each, steps=problems[donors[k]].steps) for k, each in enumerate(problems)]
