"""Forcing: give a reasoner a visible thought that it did not write, and record its answer.

A reasoner whose answer depends on its thought answers wrongly after the thought of another problem; one whose thought
does not matter answers the same. This is the causal check of whether a trace means anything (Lanham et al., arXiv
2307.13702, truncate and corrupt what was written; "Beyond Semantics", arXiv 2505.13775, trains on other problems'
traces).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from interp.errors import UsageError
from interp.problems.base import Problem
from interp.reasoners.base import Reasoner
from interp.reasoners.rollout import Rollout
from interp.reasoners.text import TextReasoner
from interp.runtime.progress import Progress
from interp.traces import Channel, Trace, TraceSet

Thought = str | Sequence[int]


def force(
    reasoner: Reasoner,
    problems: Sequence[Problem],
    thoughts: Sequence[Thought],
    *,
    batch_size: int = 64,
    progress: Progress | None = None,
) -> TraceSet:
    """Answer each problem greedily after a given thought.

    Args:
        reasoner: A reasoner that thinks in text.
        problems: The problems.
        thoughts: One for each problem: a text, or token ids as `thought_ids` returns them. Each is put between the
            reasoner's markers.
        batch_size: Problems that are answered at once.
        progress: Called with (problems done, problems in all).

    Returns:
        One trace for each problem.

    Raises:
        UsageError: The reasoner does not think in text, the tokenizer does not know a word, or a thought leaves no
            room for the answer.
    """
    writer = _check(reasoner, problems, thoughts)
    forced = _Forced(writer, [_ids(reasoner, thought) for thought in thoughts])
    return forced.think(problems, batch_size=batch_size, progress=progress)


def resume(
    reasoner: Reasoner,
    problems: Sequence[Problem],
    prefixes: Sequence[Thought],
    *,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int = 256,
) -> TraceSet:
    """Continue each given beginning of a thought in the reasoner's own words, and answer.

    Args:
        reasoner: A reasoner that thinks in text.
        problems: The problems.
        prefixes: One for each problem, as in `force`; they become part of the traces. An empty one is thinking as
            usual.
        temperature: 0 is greedy.
        seed: Seed of the sampling.
        batch_size: Problems that are thought about at once.

    Returns:
        One trace for each problem, in order.

    Raises:
        UsageError: As in `force`.
    """
    writer = _check(reasoner, problems, prefixes)
    ids = [_ids(reasoner, prefix) for prefix in prefixes]
    lengths = np.array([len(prefix) for prefix in ids])
    resumed: dict[int, Trace] = {}
    for length in np.unique(lengths):
        # Rows of one length, so that all thoughts of a batch have the same number.
        rows = np.flatnonzero(lengths == length).tolist()
        writing = _Resumed(writer, [ids[k] for k in rows])
        traces = writing.think([problems[k] for k in rows], batch_size=batch_size, temperature=temperature, seed=seed)
        resumed |= {k: replace(trace, id=k) for k, trace in zip(rows, traces, strict=True)}
    return TraceSet([resumed[k] for k in range(len(problems))])


def _check(reasoner: Reasoner, problems: Sequence[Problem], thoughts: Sequence[Thought]) -> TextReasoner:
    if not isinstance(reasoner, TextReasoner):
        raise UsageError(
            f"expected a reasoner that thinks in text, got {reasoner.name}; use a text reasoner such as chain-text."
        )
    if len(problems) != len(thoughts):
        raise UsageError(
            f"expected one thought for each problem, got {len(thoughts)} for {len(problems)}; give as many."
        )
    return reasoner


def thought_ids(trace: Trace) -> list[int]:
    """Return the token ids of a trace's visible thought."""
    return [token for token, channel in zip(trace.token_ids, trace.channel, strict=True) if channel == Channel.THOUGHT]


def gold_thought(problem: Problem) -> str:
    """Return a problem's gold steps as the text of a thought."""
    return " ".join(step.text for step in problem.steps)


def _ids(reasoner: Reasoner, thought: Thought) -> list[int]:
    if not isinstance(thought, str):
        return list(thought)
    ids = reasoner.tokenizer(thought, add_special_tokens=False)["input_ids"] if thought else []
    if reasoner.tokenizer.unk_token_id is not None and reasoner.tokenizer.unk_token_id in ids:
        raise UsageError(
            f"expected words that {reasoner.name} knows, got a thought with unknown ones, {thought[:60]!r}; use words of its vocabulary."
        )
    return list(ids)


class _Forced(TextReasoner):
    """A text reasoner that reads given thoughts instead of writing its own."""

    def __init__(self, reasoner: TextReasoner, thoughts: Sequence[list[int]]) -> None:
        super().__init__(
            reasoner.model, reasoner.tokenizer, reasoner.config, name=reasoner.name, weights=reasoner.weights
        )
        self._thoughts = thoughts

    def _think_batch(self, rollout: Rollout, problems: Sequence[Problem]) -> None:
        self._read(rollout, problems)
        self._mark(rollout, self.config.end)
        self._answer(rollout)

    def _read(self, rollout: Rollout, problems: Sequence[Problem]) -> list[list[int]]:
        """Feed each row its given thought, after the begin marker, and return the thoughts."""
        self._begin(rollout)
        thoughts = [self._thoughts[k] for k in rollout.where.traces.tolist()]
        ending = len(self._ids(self.config.end)) if self.config.end else 0
        for thought, room, problem in zip(thoughts, rollout.room.tolist(), problems, strict=True):
            if len(thought) + ending + 1 > room:
                raise UsageError(
                    f"expected a thought that leaves room for the answer to {problem.question[:60]!r}, got {len(thought)} tokens: "
                    f"{self.name} has {self.max_positions} positions; shorten the thought."
                )
        per_step = self.config.thoughts_per_step
        steps = [
            [min(k // per_step + 1, problem.n_steps) for k in range(len(thought))]
            for thought, problem in zip(thoughts, problems, strict=True)
        ]
        rollout.feed_texts(thoughts, channel=Channel.THOUGHT, steps=steps)
        return thoughts


class _Resumed(_Forced):
    """A text reasoner that reads the beginning of its thought and writes the rest."""

    def _think_batch(self, rollout: Rollout, problems: Sequence[Problem]) -> None:
        self._write(rollout, problems, self._read(rollout, problems))
