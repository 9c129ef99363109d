"""`text`: visible reasoning, one token after another until the end marker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import torch

from interp.problems.base import Problem
from interp.reasoners.base import Reasoner
from interp.reasoners.rollout import Cell, Rollout, Row
from interp.reasoners.spans import opened
from interp.traces import Channel


class TextReasoner(Reasoner):
    """Thinks in text between two markers, each of one token or several.

    Where the prompt has opened the thought itself, or there is no begin marker, none is written. A thought that is
    not closed when its budget is spent (`max_thought_tokens`, or the model's positions) is closed by force, and the
    answer follows. Each row goes on at its own pace, so nothing stands between its tokens: a model whose attention
    reaches back a number of columns sees what it would see alone.
    """

    kind = "text"

    def _think_batch(self, rollout: Rollout, problems: Sequence[Problem]) -> None:
        self._begin(rollout)
        self._write(rollout, problems)

    def _begin(self, rollout: Rollout) -> None:
        """Open the thought of every row whose prompt has not opened it."""
        begin, end = (self._ids(marker) if marker else [] for marker in (self.config.begin, self.config.end))
        before = [opened(row.token_ids, begin, end) for row in rollout.rows]
        for row, n in zip(rollout.rows, before, strict=True):
            if n:
                row.relabel(n, Channel.SPECIAL)
        self._mark(rollout, self.config.begin, torch.tensor([not n for n in before]))

    def _write(self, rollout: Rollout, problems: Sequence[Problem], given: Sequence[Sequence[int]] = ()) -> None:
        """Write thoughts after those `given` (token ids, equally many for each row, fed already), then the answer."""
        texts = given or [()] * len(problems)
        writers = [_Writer(self, *each) for each in zip(rollout.rows, problems, texts, strict=True)]
        while True:
            chosen, room = rollout.choose().tolist(), rollout.room.tolist()
            cells = [writer.next(token, left) for writer, token, left in zip(writers, chosen, room, strict=True)]
            if not any(cells):
                return
            rollout.feed_rows(cells)


class _Writer:
    """One row: what stands next in it, given what the model would write there."""

    def __init__(self, reasoner: TextReasoner, row: Row, problem: Problem, given: Sequence[int]) -> None:
        config = reasoner.config
        self._row, self._n_steps, self._per_step = row, problem.n_steps, config.thoughts_per_step
        self._ending = reasoner._ids(config.end) if config.end else []
        self._stops = reasoner.stops
        self._separator = reasoner.token_id(config.separator) if config.separator else None
        self._finished = sum(token == self._separator for token in given)  # steps written to their separator
        self._written, self._budget = len(given), config.max_thought_tokens
        self._kept_free = len(self._ending) + config.max_answer_tokens
        self._answer: list[int] = []
        self._longest_answer = config.max_answer_tokens
        self._forced: list[int] = []
        self._phase: Literal["thought", "answer"] = "thought"

    def next(self, chosen: int, room: int) -> Cell | None:
        """The next position, where the model would write `chosen` and has `room` positions left; None when done."""
        if self._forced:
            return Cell(self._forced.pop(0), Channel.SPECIAL) if room > 0 else None
        if self._phase == "thought":
            n = len(self._ending)
            if n > 1 and self._row.ends_with(self._ending):
                self._row.relabel(n, Channel.SPECIAL)
            elif n == 1 and chosen == self._ending[0]:
                self._phase = "answer"
                return Cell(chosen, Channel.SPECIAL, sampled=True) if room > 0 else None
            elif self._written >= self._budget or room <= self._kept_free or chosen in self._stops.ids:
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
        self._written += 1
        step = -(-self._written // self._per_step) if self._separator is None else self._finished + 1
        self._finished += token == self._separator
        return Cell(token, Channel.THOUGHT, step=min(step, self._n_steps), thought=self._written, sampled=True)
