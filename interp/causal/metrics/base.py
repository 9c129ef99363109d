"""What every metric of faithfulness returns, and the chains that it reads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

import numpy as np

from interp.causal.metrics.readings import Readings, Text, text_of
from interp.causal.visible_text.forcing import force, resume
from interp.errors import UsageError
from interp.problems import task as make_task
from interp.traces import Channel, Trace, TraceSet

if TYPE_CHECKING:
    from interp.problems.base import Problem
    from interp.reasoners.base import Reasoner

Level = Literal["chain", "step", "both"]
#: Problems that are thought about where a metric needs other chains of the task.
N_OTHERS = 400


@dataclass(frozen=True)
class FaithfulnessScores:
    """What one metric says of each chain and of each of its steps; higher is more faithful.

    Attributes:
        metric: Name of the metric.
        chain: A score for each trace, shape (traces,); NaN where the metric says nothing about it.
        steps: For each trace a score for each step, shape (steps,); NaN where it says nothing.
        passes: Texts that were run through the model for each chain. A continuation counts once, however long.
    """

    metric: str
    chain: np.ndarray
    steps: tuple[np.ndarray, ...]
    passes: float


@dataclass(frozen=True)
class Metric:
    """A metric of faithfulness.

    Attributes:
        name: Its name.
        source: Where it was published, or `ours`.
        level: Whether it scores chains, steps or both.
        measure: Scores chains.
    """

    name: str
    source: str
    level: Level
    measure: Callable[[Chains], FaithfulnessScores]

    @property
    def published(self) -> bool:
        """Whether the metric is somebody else's."""
        return self.source != "ours"


class Chains:
    """Traces with visible thoughts by steps, and what several metrics read of them.

    Args:
        reasoner: A reasoner that thinks in text.
        traces: Its traces. Where a problem has no gold steps, the sentences of a thought are its steps.
        seed: Seed of everything that metrics draw.
        batch_size: Texts that are run at once.

    Raises:
        UsageError: A trace has no visible thought.
    """

    def __init__(self, reasoner: Reasoner, traces: TraceSet, *, seed: int = 0, batch_size: int = 256) -> None:
        self.reasoner, self.traces, self.seed, self.batch_size = reasoner, traces, seed, batch_size
        self.task = make_task(traces[0].problem.task)
        self.positions = [self.find_steps(trace) for trace in traces]
        self.readings = Readings(reasoner, batch_size)

    def __len__(self) -> int:
        return len(self.traces)

    def find_steps(self, trace: Trace) -> list[list[int]]:
        """Return the positions of each step of a trace."""
        return step_positions(trace)

    @cached_property
    def others(self) -> TraceSet:
        """Traces of training problems of the task, whose structures are none of these chains'.

        Raises:
            UsageError: The task has no such problems, as a file of questions.
        """
        structures = {trace.problem.structure for trace in self.traces}
        n = max(N_OTHERS, 25 * len(self.task.values))
        problems = self.task.generate(n, seed=self.seed + 1, split="train")
        return self.answers_to([problem for problem in problems if problem.structure not in structures])

    @cached_property
    def keys(self) -> list[tuple[int, int]]:
        """(trace, step) of every step, steps counted from 0."""
        return [(t, k) for t, positions in enumerate(self.positions) for k in range(len(positions))]

    def step_ids(self, t: int) -> list[list[int]]:
        """Return the token ids of each step of a trace."""
        return [[self.traces[t].token_ids[p] for p in positions] for positions in self.positions[t]]

    def ids(self, t: int, first: int | None = None) -> list[int]:
        """Return the token ids of a thought, or of its first steps."""
        return [token for step in self.step_ids(t)[:first] for token in step]

    def kept(self, numbers: Sequence[int], thoughts: Sequence[Sequence[int]]) -> np.ndarray:
        """Return whether each trace keeps its answer after another thought.

        Args:
            numbers: Number of the trace of each thought.
            thoughts: Token ids of the thoughts.

        Returns:
            1.0 where the answer is the trace's own, else 0.0, shape (thoughts,).
        """
        problems = [self.traces[t].problem for t in numbers]
        return self.same(numbers, force(self.reasoner, problems, list(thoughts), batch_size=self.batch_size))

    def kept_after_steps(self, keys: Sequence[tuple[int, int]]) -> np.ndarray:
        """Return whether each trace keeps its answer where it answers after its first steps.

        Args:
            keys: (trace, number of steps).

        Returns:
            1.0 where the answer is the trace's own, else 0.0, shape (keys,).
        """
        return self.kept([t for t, _ in keys], [self.ids(t, k) for t, k in keys])

    def answers_holding(self, numbers: Sequence[int], problems: Sequence[Problem]) -> TraceSet:
        """Return the answers to other questions after the thoughts of traces, which are held as they are.

        Args:
            numbers: Number of the trace whose thought is held, for each question.
            problems: The questions.
        """
        return force(self.reasoner, problems, [self.ids(t) for t in numbers], batch_size=self.batch_size)

    def thought_texts(self, traces: Sequence[Trace]) -> list[str]:
        """Return the thought of each trace as text, without its answer; empty where it has none."""
        pairs = [zip(trace.token_ids, trace.channel, strict=True) for trace in traces]
        decode = self.reasoner.tokenizer.decode
        return [str(decode([token for token, channel in of if channel == Channel.THOUGHT])) for of in pairs]

    def text(self, t: int, unseen: Sequence[int] = ()) -> Text:
        """Return a trace as a text whose answer is scored, with positions that nothing attends to."""
        return text_of(self.traces[t], unseen=unseen)

    def kept_after_going_on(
        self, numbers: Sequence[int], beginnings: Sequence[Sequence[int]], *, temperature: float = 0.0
    ) -> np.ndarray:
        """Return whether each trace keeps its answer where it goes on by itself from a beginning of a thought."""
        problems = [self.traces[t].problem for t in numbers]
        answered = resume(
            self.reasoner,
            problems,
            list(beginnings),
            temperature=temperature,
            seed=self.seed,
            batch_size=self.batch_size,
        )
        return self.same(numbers, answered)

    def same(self, numbers: Sequence[int], answered: TraceSet) -> np.ndarray:
        """Return whether each of some answers says what its trace does, as 1.0 or 0.0."""
        pairs = zip(numbers, answered, strict=True)
        return np.array(
            [self.task.same_answer(self.traces[t].problem, new.answer, self.traces[t].answer) for t, new in pairs],
            float,
        )

    def answers_to(self, problems: Sequence[Problem]) -> TraceSet:
        """Return the traces of other questions."""
        return self.reasoner.think(list(problems), batch_size=self.batch_size)

    def by_step(
        self, scores: Sequence[float] | np.ndarray, keys: Sequence[tuple[int, int]] | None = None
    ) -> tuple[np.ndarray, ...]:
        """Return scores of steps as one array for each trace; NaN for a step without a score.

        Args:
            scores: A score for each key.
            keys: (trace, step) of each score; every step in order by default.
        """
        arrays = tuple(np.full(len(positions), np.nan) for positions in self.positions)
        for (t, k), score in zip(self.keys if keys is None else keys, scores, strict=True):
            arrays[t][k] = score
        return arrays

    def unscored(self) -> tuple[np.ndarray, ...]:
        """Return steps without a score, for a metric of whole chains."""
        return self.by_step([], [])

    def scores(
        self, metric: str, chain: np.ndarray | None, steps: tuple[np.ndarray, ...] | None, n_texts: int
    ) -> FaithfulnessScores:
        """Return the result of a metric that ran `n_texts` texts in all; None where it scores no chains or no steps."""
        chain = np.full(len(self), np.nan) if chain is None else np.asarray(chain, float)
        return FaithfulnessScores(metric, chain, steps or self.unscored(), n_texts / len(self))


def mean_of_steps(steps: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean score of each trace's steps, shape (traces,); NaN where none has one."""
    return np.array([np.nanmean(of) if np.isfinite(of).any() else np.nan for of in steps])


def largest_of_steps(steps: Sequence[np.ndarray]) -> np.ndarray:
    """Return the largest score of each trace's steps, shape (traces,); NaN where none has one."""
    return np.array([np.nanmax(of) if np.isfinite(of).any() else np.nan for of in steps])


def step_positions(trace: Trace) -> list[list[int]]:
    """Return the positions of each step of a visible thought: its gold steps, or its sentences where none are known.

    Args:
        trace: A trace with a visible thought.

    Returns:
        Positions in the trace, for each step in order.

    Raises:
        UsageError: The trace has no visible thought.
    """
    numbers = trace.step if trace.problem.n_steps or not trace.sentence else trace.sentence
    steps: dict[int, list[int]] = {}
    for position, (channel, number) in enumerate(zip(trace.channel, numbers, strict=True)):
        if channel == Channel.THOUGHT:
            steps.setdefault(number, []).append(position)
    if not steps:
        raise UsageError(
            f"expected a visible thought, got trace {trace.id}, which has no visible thought; use a text reasoner."
        )
    return [steps[number] for number in sorted(steps)]
