"""Batches of training problems, the same for the same seed."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from interp.organisms.catalog import Recipe
    from interp.problems.base import Problem, Task

_CHUNK = 8  # number of batches that are sorted by length together, to reduce padding


def problem_batches(task: Task, recipe: Recipe, rng: random.Random) -> Iterator[list[Problem]]:
    """Yield training batches without end, as the recipe describes them."""
    if recipe.batching == "length":
        return _by_length(_stream(task, recipe, rng), recipe, rng)
    return _by_shape(task, recipe, rng)


def _by_shape(task: Task, recipe: Recipe, rng: random.Random) -> Iterator[list[Problem]]:
    """Yield batches of one question length and one number of steps, which need no padding."""
    if recipe.pool is None:
        problems = _every_length(task, rng)
    else:
        problems = _repeat(list(islice(_every_length(task, rng), recipe.pool)), rng)
    waiting: dict[tuple[int, int], list[Problem]] = {}
    while True:
        problem = next(problems)
        shape = (len(problem.question.split()), problem.n_steps)
        batch = waiting.setdefault(shape, [])
        batch.append(problem)
        if len(batch) == recipe.batch_size:
            waiting[shape] = []
            yield _swapped(batch, rng) if recipe.swap_traces else batch


def _every_length(task: Task, rng: random.Random) -> Iterator[Problem]:
    """Yield training problems with every number of steps equally often."""
    streams: dict[int, Iterator[Problem]] = {}
    while True:
        n_steps = rng.randint(task.min_steps, task.max_steps)
        stream = streams.setdefault(n_steps, task.draws(random.Random(rng.random()), "train", n_steps))
        yield next(stream)


def _by_length(problems: Iterator[Problem], recipe: Recipe, rng: random.Random) -> Iterator[list[Problem]]:
    """Yield batches of similar length: a chunk of several batches is sorted, then its batches are shuffled."""
    size = recipe.batch_size
    while True:
        chunk = sorted(islice(problems, _CHUNK * size), key=_length)
        batches = [chunk[start : start + size] for start in range(0, len(chunk), size)]
        rng.shuffle(batches)
        yield from batches


def _length(problem: Problem) -> int:
    texts = [problem.question, problem.answer, *(step.text for step in problem.steps)]
    return sum(len(text.split()) for text in texts)


def _stream(task: Task, recipe: Recipe, rng: random.Random) -> Iterator[Problem]:
    fresh = task.draws(random.Random(rng.random()), "train")
    if recipe.pool is not None:
        pool = list(islice(fresh, recipe.pool))
        yield from _repeat(_swapped(pool, rng) if recipe.swap_traces else pool, rng)
    while True:
        chunk = list(islice(fresh, _CHUNK * recipe.batch_size))
        yield from _swapped(chunk, rng) if recipe.swap_traces else chunk


def _repeat(pool: list[Problem], rng: random.Random) -> Iterator[Problem]:
    while True:
        rng.shuffle(pool)
        yield from pool


def _swapped(problems: list[Problem], rng: random.Random) -> list[Problem]:
    """Return every problem with the steps of another one, in a random cycle; questions and answers stay."""
    order = list(range(len(problems)))
    rng.shuffle(order)
    donors = dict(zip(order, [*order[1:], order[0]], strict=True))
    return [dataclasses.replace(problem, steps=problems[donors[k]].steps) for k, problem in enumerate(problems)]
