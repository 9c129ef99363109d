"""`text`: visible reasoning, one token after another until the end marker."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, Unpack

import torch

from interp.errors import UsageError
from interp.problems.base import Problem
from interp.reasoners.base import Reasoner
from interp.reasoners.batch import Cell, Row
from interp.reasoners.options import CheckedThinkOptions, ThinkOptions
from interp.reasoners.rollout import Rollout
from interp.reasoners.spans import opened
from interp.reasoners.vocabulary import Vocabulary
from interp.reasoners.writing import force_marker, write_answer
from interp.runtime.progress import Progress
from interp.traces import Channel, TraceSet


class TextReasoner(Reasoner):
    """Thinks in text between two markers, each of one token or several.

    No begin marker is written where the prompt has opened the thought itself, or where there is none. A thought that is
    not closed when its budget is spent (`max_thought_tokens`, or the model's positions) is closed by force, and the
    answer follows. Each row goes on at its own pace, so no padding is between its tokens: a model with sliding windows
    sees what it would see alone.
    """

    kind = "text"
    thinks_in_text = True

    def think_given(
        self,
        problems: Sequence[Problem],
        thoughts: Sequence[Sequence[int]],
        *,
        go_on: bool = False,
        progress: Progress | None = None,
        **options: Unpack[ThinkOptions],
    ) -> TraceSet:
        """Answer after given thoughts.

        Args:
            problems: The problems.
            thoughts: Token ids of each problem's thought, without markers.
            go_on: Go on thinking after the given tokens. Otherwise the thought ends there.
            progress: Called with (problems done, problems in all).
            **options: See `ThinkOptions`.

        Raises:
            UsageError: The numbers of problems and thoughts differ, or a thought leaves no room for an answer.
        """
        if len(problems) != len(thoughts):
            raise UsageError(
                f"expected one thought for each of {len(problems)} problems, got {len(thoughts)}; give as many."
            )
        think_batch = partial(self._go_on if go_on else self._answer_after, thoughts=thoughts)
        return self._think_with(think_batch, list(problems), CheckedThinkOptions(**options), progress)

    def _think_batch(self, rollout: Rollout, problems: Sequence[Problem]) -> None:
        self._begin(rollout)
        self._write(rollout, problems, [()] * len(problems))

    def _answer_after(
        self, rollout: Rollout, problems: Sequence[Problem], *, thoughts: Sequence[Sequence[int]]
    ) -> None:
        self._read(rollout, problems, thoughts)
        force_marker(rollout, self.vocabulary, self.config.end)
        write_answer(rollout, self.vocabulary)

    def _go_on(self, rollout: Rollout, problems: Sequence[Problem], *, thoughts: Sequence[Sequence[int]]) -> None:
        self._write(rollout, problems, self._read(rollout, problems, thoughts))

    def _begin(self, rollout: Rollout) -> None:
        """Open the thought of every row whose prompt has not opened it."""
        begin, end = (self.vocabulary.marker_ids(marker) for marker in (self.config.begin, self.config.end))
        n_opening = [opened(row.token_ids, begin, end) for row in rollout.rows]
        for row, n in zip(rollout.rows, n_opening, strict=True):
            if n:
                row.relabel(n, Channel.SPECIAL)
        force_marker(rollout, self.vocabulary, self.config.begin, torch.tensor([not n for n in n_opening]))

    def _read(
        self, rollout: Rollout, problems: Sequence[Problem], thoughts: Sequence[Sequence[int]]
    ) -> list[Sequence[int]]:
        """Feed each row its given thought after the begin marker, and return the thoughts of the rows."""
        self._begin(rollout)
        given = [thoughts[k] for k in rollout.state.traces.tolist()]
        n_ending = len(self.vocabulary.marker_ids(self.config.end))
        for thought, room, problem in zip(given, rollout.room.tolist(), problems, strict=True):
            if len(thought) + n_ending + 1 > room:
                raise UsageError(
                    f"expected a thought that leaves room for the answer to {problem.question[:60]!r}, got {len(thought)} "
                    f"tokens: {self.name} has {self.network.max_positions} positions; shorten the thought."
                )
        per_step = self.config.thoughts_per_step
        steps = [
            [min(k // per_step + 1, problem.n_steps) for k in range(len(thought))]
            for thought, problem in zip(given, problems, strict=True)
        ]
        rollout.feed_texts(given, channel=Channel.THOUGHT, steps=steps)
        return given

    def _write(self, rollout: Rollout, problems: Sequence[Problem], given: Sequence[Sequence[int]]) -> None:
        """Write thoughts, then answers; `given` are the tokens of each thought that were fed already."""
        writers = [_Writer(self.vocabulary, *row) for row in zip(rollout.rows, problems, given, strict=True)]
        while True:
            chosen, room = rollout.choose().tolist(), rollout.room.tolist()
            cells = [writer.next(token, left) for writer, token, left in zip(writers, chosen, room, strict=True)]
            if not any(cells):
                return
            rollout.feed_rows(cells)


class _Writer:
    """Decides what one row writes next, from what the model would write there."""

    def __init__(self, vocabulary: Vocabulary, row: Row, problem: Problem, given: Sequence[int]) -> None:
        config = vocabulary.config
        self._row, self._n_steps, self._per_step = row, problem.n_steps, config.thoughts_per_step
        self._ending = vocabulary.marker_ids(config.end)
        self._stops = vocabulary.stops
        self._separator = vocabulary.token_id(config.separator) if config.separator else None
        self._n_finished = sum(token == self._separator for token in given)  # steps written to their separator
        self._n_written, self._budget = len(given), config.max_thought_tokens
        self._kept_free = len(self._ending) + config.max_answer_tokens
        self._answer: list[int] = []
        self._longest_answer = config.max_answer_tokens
        self._forced: list[int] = []
        self._phase: Literal["thought", "answer"] = "thought"

    def next(self, chosen: int, room: int) -> Cell | None:
        """Return the next position of the row, or None when it is done.

        Args:
            chosen: The token that the model would write.
            room: How many more positions the row can take.
        """
        if self._forced:
            return Cell(self._forced.pop(0), Channel.SPECIAL) if room > 0 else None
        if self._phase == "thought":
            n = len(self._ending)
            if n > 1 and self._row.ends_with(self._ending):
                self._row.relabel(n, Channel.SPECIAL)
            elif n == 1 and chosen == self._ending[0]:
                self._phase = "answer"
                return Cell(chosen, Channel.SPECIAL, sampled=True) if room > 0 else None
            elif self._n_written >= self._budget or room <= self._kept_free or chosen in self._stops.ids:
                self._phase, self._forced = "answer", list(self._ending)
                return self.next(chosen, room)
            else:
                return self._thought(chosen)
            self._phase = "answer"
        full = len(self._answer) >= self._longest_answer or room <= 0
        if full or chosen in self._stops.ids or self._stops.after(self._answer):
            return None
        self._answer.append(chosen)
        return Cell(chosen, Channel.ANSWER, sampled=True)

    def _thought(self, token: int) -> Cell:
        self._n_written += 1
        step = -(-self._n_written // self._per_step) if self._separator is None else self._n_finished + 1
        self._n_finished += token == self._separator
        return Cell(token, Channel.THOUGHT, step=min(step, self._n_steps), thought=self._n_written, sampled=True)
