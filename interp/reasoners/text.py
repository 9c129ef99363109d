"""`text`: visible reasoning, one token after another until the end marker."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Literal, Unpack

from interp.errors import UsageError
from interp.models.markers import MarkerFinder, MarkerMatch
from interp.problems.base import Problem
from interp.reasoners.base import Reasoner
from interp.reasoners.config import ReasonerConfig
from interp.reasoners.options import CheckedThinkOptions, ThinkOptions
from interp.reasoners.rollouts.batch import Cell, Row
from interp.reasoners.rollouts.queue import write_rows
from interp.reasoners.rollouts.rollout import Rollout
from interp.reasoners.rollouts.writing import close_thought, open_thought, opening_of, write_answer
from interp.reasoners.vocabulary import Vocabulary
from interp.runtime.progress import Progress
from interp.traces import Channel, TraceSet

_NO_LIMIT = 10**9  # tokens


class TextReasoner(Reasoner):
    """Thinks in text between two markers, each of one token or several.

    No begin marker is written where the prompt has opened the thought itself, or where there is none. Where the prompt
    has closed the thought, the answer follows at once. A thought that is not closed when its budget is spent
    (`max_thought_tokens`, or the model's positions) is closed by force, and the answer follows. Each row goes on at its
    own pace, so no padding is between its tokens.

    Markers are found by their tokens and in the text. The first end marker closes the thought, with two exceptions. A
    begin marker in the answer opens the thought again. An end marker in the answer closes it where the model had written
    a begin marker inside the thought. Either makes everything before part of the thought.
    """

    kind = "text"
    thinks_in_text = True
    replaces_rows = True

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
            problems: The problems to answer.
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
        n = len(rollout.rows)  # the other problems wait for a row
        closed = open_thought(rollout, self.vocabulary)
        self._write(rollout, problems, [()] * n, closed)

    def _answer_after(
        self, rollout: Rollout, problems: Sequence[Problem], *, thoughts: Sequence[Sequence[int]]
    ) -> None:
        _, closed = self._read(rollout, problems, thoughts)
        close_thought(rollout, self.vocabulary, closed)
        write_answer(rollout, self.vocabulary)

    def _go_on(self, rollout: Rollout, problems: Sequence[Problem], *, thoughts: Sequence[Sequence[int]]) -> None:
        self._write(rollout, problems, *self._read(rollout, problems, thoughts))

    def _read(
        self, rollout: Rollout, problems: Sequence[Problem], thoughts: Sequence[Sequence[int]]
    ) -> tuple[list[Sequence[int]], list[bool]]:
        """Feed each row its given thought after the begin marker.

        Returns:
            The thoughts of the rows, and for each row whether its prompt has closed the thought and none is given.
        """
        given = [thoughts[k] for k in rollout.state.traces.tolist()]
        closed = open_thought(rollout, self.vocabulary, [bool(thought) for thought in given])
        n_ending = len(self.vocabulary.end.ids)
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
        return given, closed

    def _write(
        self,
        rollout: Rollout,
        problems: Sequence[Problem],
        given: Sequence[Sequence[int]],
        closed: Sequence[bool],
    ) -> None:
        """Write thoughts, then answers; `given` are the tokens of each thought that were fed already."""
        n = len(rollout.rows)
        writers = [
            _Writer(self.vocabulary, *row) for row in zip(rollout.rows, problems[:n], given, closed, strict=True)
        ]
        first = int(rollout.state.traces[0])
        write_rows(rollout, writers, lambda row, index: self._begun(row, problems[index - first]))

    def _begun(self, row: Row, problem: Problem) -> _Writer:
        """Return the writer of a row that has just read its prompt."""
        is_closed, needs_marker = opening_of(row, self.vocabulary)
        opening = self.vocabulary.marker_ids(self.config.begin) if needs_marker else []
        return _Writer(self.vocabulary, row, problem, (), is_closed, opening=opening)


def label_text(vocabulary: Vocabulary, row: Row, problem: Problem, ids: Sequence[int], *, closed: bool) -> None:
    """Append a text that was written elsewhere to a row, in the channels that it would have if it were written here.

    Args:
        vocabulary: The reasoner's vocabulary. Its limits of tokens do not count.
        row: The prompt and the begin marker.
        problem: The problem.
        ids: The text's tokens: the thought, its end marker, and the answer.
        closed: Whether the thought is closed already, so that the text is the answer.

    Raises:
        UsageError: A token or a text ends the answer before the text ends.
    """
    unlimited = vocabulary.config.model_copy(update={"max_thought_tokens": _NO_LIMIT, "max_answer_tokens": _NO_LIMIT})
    writer = _Writer(vocabulary, row, problem, (), closed, unlimited)
    for k, token in enumerate(ids):
        cell = writer.next(token, 3 * _NO_LIMIT)
        if cell is None or cell.token != token:
            rest = vocabulary.tokenizer.decode(list(ids[k:]))
            raise UsageError(
                f"expected a text that ends where {vocabulary.name} stops, got one that goes on: {rest[:60]!r} is left."
            )
        row.append(cell.token, cell.channel, cell.step, cell.thought)


class _Writer:
    """Decides what one row writes next, from what the model would write there."""

    def __init__(
        self,
        vocabulary: Vocabulary,
        row: Row,
        problem: Problem,
        given: Sequence[int],
        is_closed: bool,
        config: ReasonerConfig | None = None,
        opening: Sequence[int] = (),
    ) -> None:
        config = vocabulary.config if config is None else config
        self._row, self._n_steps, self._per_step = row, problem.n_steps, config.thoughts_per_step
        self._begin, self._end, self._stops = vocabulary.begin, vocabulary.end, vocabulary.stops
        self._separator = vocabulary.token_id(config.separator) if config.separator else None
        self._n_finished = sum(token == self._separator for token in given)  # steps written to their separator
        self._n_written, self._budget = len(given), config.max_thought_tokens
        self._kept_free = len(self._end.ids) + config.max_answer_tokens
        self._answer: list[int] = []
        self._longest_answer = config.max_answer_tokens
        self._forced = list(opening)  # a begin marker that is still to be written
        self._phase: Literal["thought", "answer"] = "answer" if is_closed else "thought"
        self._may_reopen = not is_closed
        self._first = len(row.token_ids) + len(opening) - len(given)  # where the thought begins
        self._n_seen = self._first  # positions that were looked through for markers
        self._n_nested = 0  # begin markers inside the thought that no end marker has answered

    def next(self, chosen: int, room: int) -> Cell | None:
        """Return the next position of the row, or None when it is done.

        Args:
            chosen: The token that the model would write.
            room: How many more positions the row can take.
        """
        cell = self._next(chosen, room)
        self._n_seen = len(self._row.token_ids) + (cell is not None)
        return cell

    def _next(self, chosen: int, room: int) -> Cell | None:
        if self._forced:
            return Cell(self._forced.pop(0), Channel.SPECIAL) if room > 0 else None
        if self._phase == "thought":
            # What was given or injected may end with the marker.
            match = self._end.at_end(self._written(self._end)) if len(self._row.token_ids) > self._n_seen else None
            if match is not None:
                self._close(match)
                if match.after.strip():
                    self._row.channel[-1] = Channel.ANSWER
                    self._answer = self._row.token_ids[-1:]
            elif (match := self._end.at_end([*self._written(self._end), chosen])) is not None:
                return self._last_of_marker(chosen, match) if room > 0 else None
            elif self._n_written >= self._budget or room <= self._kept_free or chosen in self._stops.ids:
                self._phase, self._forced = "answer", list(self._end.ids)
                return self._next(chosen, room)
            else:
                return self._thought(chosen)
        return self._in_answer(chosen, room)

    def _in_answer(self, chosen: int, room: int) -> Cell | None:
        full = len(self._answer) >= self._longest_answer or room <= 0
        if full or chosen in self._stops.ids or self._stops.after(self._answer, self._row.answer_beginning):
            return None
        n_thought = len(self._row.token_ids) - self._first  # if all that was written became the thought
        may_reopen = self._may_reopen and n_thought < self._budget and room > self._kept_free
        if may_reopen and self._begin.at_end([*self._answer, chosen]) is not None:
            self._reopen()
            return self._thought(chosen)
        if self._n_nested and n_thought <= self._budget:
            match = self._end.at_end([*self._answer, chosen])
            if match is not None:
                self._n_nested -= 1
                self._reopen()
                return self._last_of_marker(chosen, match)
        self._answer.append(chosen)
        return Cell(chosen, Channel.ANSWER, sampled=True)

    def _written(self, marker: MarkerFinder) -> list[int]:
        """Return the last tokens of the thought, as many as may hold a piece of the marker."""
        return self._row.token_ids[max(self._first, len(self._row.token_ids) - marker.look_back) :]

    def _last_of_marker(self, token: int, match: MarkerMatch) -> Cell:
        """Return the position of the token that completes the end marker."""
        self._close(match._replace(n_tokens=match.n_tokens - 1))
        if not match.after.strip():
            return Cell(token, Channel.SPECIAL, sampled=True)
        self._answer = [token]
        return Cell(token, Channel.ANSWER, sampled=True)

    def _close(self, match: MarkerMatch) -> None:
        """Make the end marker of the last tokens, and go on with the answer."""
        if match.n_tokens:
            self._row.relabel(match.n_tokens, Channel.SPECIAL)
        self._row.thought_ending = match.before
        self._row.answer_beginning = match.after if match.after.strip() else None
        self._phase, self._answer = "answer", []

    def _reopen(self) -> None:
        """Make everything since the thought began part of it."""
        row = self._row
        for k in range(self._first, len(row.token_ids)):
            if not row.thought[k]:
                self._n_written += 1
                row.channel[k], row.step[k], row.thought[k] = Channel.THOUGHT, self._step(), self._n_written
        row.thought_ending, row.answer_beginning = "", None
        self._phase, self._answer = "thought", []

    def _step(self) -> int:
        step = -(-self._n_written // self._per_step) if self._separator is None else self._n_finished + 1
        return min(step, self._n_steps)

    def _thought(self, token: int) -> Cell:
        self._n_nested += self._begin.at_end([*self._written(self._begin), token]) is not None
        self._n_written += 1
        step = self._step()
        self._n_finished += token == self._separator
        return Cell(token, Channel.THOUGHT, step=step, thought=self._n_written, sampled=True)
