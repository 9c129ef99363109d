"""Forcing: a visible thought that the model did not choose, and the answer that it gives after it.

A reasoner whose answer depends on what its thought says answers wrongly after the thought of another problem; one
whose thought only fills the time does not care. It is the causal check of whether a trace means anything (Beyond
Semantics, arXiv 2505.13775, asks the question by training on other problems' traces; Lanham et al., arXiv
2307.13702, by truncating and corrupting what was written).
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
    """What `reasoner` answers to each problem, greedily, after the thought that is put in its mouth.

    A thought is a text, or token ids as `thought_ids` takes them from a trace; it stands between the reasoner's own
    markers. Raises `UsageError` for reasoners that do not think in text, for words that the tokenizer does not know,
    and for thoughts that leave no room for the answer.
    """
    writer = _check(reasoner, problems, thoughts)
    given = _Given(writer, [_ids(reasoner, thought) for thought in thoughts])
    return given.think(problems, batch_size=batch_size, progress=progress)


def resume(
    reasoner: Reasoner,
    problems: Sequence[Problem],
    prefixes: Sequence[Thought],
    *,
    temperature: float = 0.0,
    seed: int = 0,
    batch_size: int = 256,
) -> TraceSet:
    """What `reasoner` writes and answers after the beginning of a thought that is put in its mouth.

    As `force`, but the thought goes on in the reasoner's own words, greedily or sampled. The given tokens are part of
    the trace. An empty prefix is thinking as usual.
    """
    writer = _check(reasoner, problems, prefixes)
    ids = [_ids(reasoner, prefix) for prefix in prefixes]
    lengths = np.array([len(each) for each in ids])
    found: dict[int, Trace] = {}
    for length in np.unique(lengths):
        # Rows of one length, so that the thoughts of a batch keep one number.
        rows = np.flatnonzero(lengths == length).tolist()
        given = _Resumed(writer, [ids[k] for k in rows])
        traces = given.think([problems[k] for k in rows], batch_size=batch_size, temperature=temperature, seed=seed)
        found |= {k: replace(trace, id=k) for k, trace in zip(rows, traces, strict=True)}
    return TraceSet([found[k] for k in range(len(problems))])


def _check(reasoner: Reasoner, problems: Sequence[Problem], thoughts: Sequence[Thought]) -> TextReasoner:
    if not isinstance(reasoner, TextReasoner):
        raise UsageError(f"only a reasoner that thinks in text can be given a thought, but {reasoner.name} is none.")
    if len(problems) != len(thoughts):
        raise UsageError(f"each problem needs one thought, but {len(problems)} and {len(thoughts)} came.")
    return reasoner


def thought_ids(trace: Trace) -> list[int]:
    """The token ids of a trace's visible thought."""
    return [token for token, channel in zip(trace.token_ids, trace.channel, strict=True) if channel == Channel.THOUGHT]


def gold_thought(problem: Problem) -> str:
    """A problem's own steps as the text of a thought."""
    return " ".join(step.text for step in problem.steps)


def _ids(reasoner: Reasoner, thought: Thought) -> list[int]:
    if not isinstance(thought, str):
        return list(thought)
    ids = reasoner.tokenizer(thought, add_special_tokens=False)["input_ids"] if thought else []
    if reasoner.tokenizer.unk_token_id is not None and reasoner.tokenizer.unk_token_id in ids:
        raise UsageError(f"{reasoner.name} does not know every word of the thought {thought[:60]!r}.")
    return list(ids)


class _Given(TextReasoner):
    """A text reasoner that reads its thoughts instead of writing them."""

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
        """Feed each row its given thought, after the begin marker."""
        self._begin(rollout)
        given = [self._thoughts[k] for k in rollout.where.traces.tolist()]
        ending = len(self._ids(self.config.end)) if self.config.end else 0
        for thought, room, problem in zip(given, rollout.room.tolist(), problems, strict=True):
            if len(thought) + ending + 1 > room:
                raise UsageError(
                    f"a thought of {len(thought)} tokens leaves no room for the answer to {problem.question[:60]!r}: "
                    f"{self.name} has {self.max_positions} positions."
                )
        each = self.config.thoughts_per_step
        steps = [
            [min(k // each + 1, problem.n_steps) for k in range(len(thought))]
            for thought, problem in zip(given, problems, strict=True)
        ]
        rollout.feed_texts(given, channel=Channel.THOUGHT, steps=steps)
        return given


class _Resumed(_Given):
    """A text reasoner that reads the beginning of its thought and writes the rest."""

    def _think_batch(self, rollout: Rollout, problems: Sequence[Problem]) -> None:
        self._write(rollout, problems, self._read(rollout, problems))
