"""What a rollout tells a progress function while a batch is being thought."""

from __future__ import annotations

import time
from collections.abc import Callable

from interp.reasoners.rollouts.batch import Row
from interp.reasoners.rollouts.rollout import Rollout
from interp.runtime.progress import Progress, WritingProgress, Written
from interp.traces import Channel

_EVERY = 0.2  # seconds between two reports
_KEPT = 0.7  # share of the pace so far when a new one is measured: passes get slower as texts get longer


class WritingReport:
    """Reports after passes of the model how many rows are done, how many tokens are written, and the time left.

    Time left is an estimate from the problems done once there are as many as a batch has rows. In the last rows, that
    would be too little: the longest ones are left. There it is a bound, from the limits of tokens and the pace.

    Args:
        progress: What is told.
        total: Problems in all.
        start: Problems that were done before.
        most_tokens: The most positions that a row can take after its prompt.
        most_answer_tokens: The most of them in the answer.
        clock: Returns seconds.
    """

    def __init__(
        self,
        progress: WritingProgress,
        total: int,
        *,
        start: int = 0,
        most_tokens: int,
        most_answer_tokens: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._progress, self._total, self._start = progress, total, start
        self._most, self._most_answer, self._clock = most_tokens, most_answer_tokens, clock
        self._began = self._reported = clock()
        self._n_done, self._n_tokens = start, 0  # of finished batches
        self._n_passes = 0  # since the last report
        self._pace: float | None = None  # seconds for one pass
        self._reads_prompts = True

    def finish(self, rows: list[Row]) -> None:
        """Count the rows of a finished batch."""
        self._n_done += len(rows)
        self._n_tokens += sum(map(_n_written, rows))
        self._pace, self._reads_prompts = None, True

    def __call__(self, rollout: Rollout) -> None:
        """Report how far a batch is, unless that was done a moment ago."""
        now = self._clock()
        if self._reads_prompts:  # this pass says nothing about the pace of writing
            self._reported, self._n_passes, self._reads_prompts = now, 0, False
            return
        self._n_passes += 1
        if now - self._reported < _EVERY:
            return
        pace = (now - self._reported) / self._n_passes
        self._pace = pace if self._pace is None else _KEPT * self._pace + (1 - _KEPT) * pace
        self._reported, self._n_passes = now, 0
        going_on = [k for k, rests in enumerate(rollout.resting) if not rests]
        done = self._n_done + len(rollout.replaced) + len(rollout.rows) - len(going_on)
        n_tokens = self._n_tokens + sum(map(_n_written, [*rollout.replaced, *rollout.rows]))
        left, is_bound = None, False
        if self._total - done <= len(going_on):
            room = rollout.room.tolist()
            passes = max((min(self._most_left(rollout.rows[k]), room[k]) for k in going_on), default=0)
            left, is_bound = passes * self._pace, True
        elif done - self._start >= len(rollout.rows):
            left = (now - self._began) * (self._total - done) / (done - self._start)
        self._progress.written(Written(done, self._total, n_tokens, left, is_bound))

    def _most_left(self, row: Row) -> int:
        n_answer = row.channel.count(Channel.ANSWER)
        left = self._most_answer - n_answer if n_answer else self._most - _n_written(row)
        return max(left, 0)


def writing_report(
    progress: Progress | None, total: int, *, start: int, most_tokens: int, most_answer_tokens: int
) -> WritingReport | None:
    """Return a report to `progress`, or None where it takes none."""
    if not isinstance(progress, WritingProgress):
        return None
    return WritingReport(progress, total, start=start, most_tokens=most_tokens, most_answer_tokens=most_answer_tokens)


def _n_written(row: Row) -> int:
    return len(row.channel) - row.channel.count(Channel.PROMPT) - row.channel.count(Channel.SPECIAL)
