"""What every kind of reasoner writes: markers, tokens that are the same in every row, and the answer."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import repeat

import torch
from jaxtyping import Int
from torch import Tensor

from interp.reasoners.rollouts.batch import Cell, Row
from interp.reasoners.rollouts.rollout import Rollout
from interp.reasoners.spans import closes_thought, n_opening
from interp.reasoners.vocabulary import Vocabulary
from interp.traces import Channel


def same_token(rollout: Rollout, token_id: int) -> Int[Tensor, " batch"]:
    """Return one token for every row of the batch."""
    return torch.full((len(rollout.rows),), token_id)


def force_marker(rollout: Rollout, vocabulary: Vocabulary, marker: str | None, active: Tensor | None = None) -> None:
    """Feed a marker to the active rows; None is no marker."""
    for token in vocabulary.marker_ids(marker) if active is None or active.any() else []:
        rollout.feed(channel=Channel.SPECIAL, ids=same_token(rollout, token), active=active)


def opening_of(row: Row, vocabulary: Vocabulary, is_given: bool = False) -> tuple[bool, bool]:
    """Find out how a row that has read its prompt begins to think.

    The tokens with which a prompt opens the thought become its begin marker.

    Args:
        row: The row.
        vocabulary: The reasoner's vocabulary.
        is_given: Whether it is given a thought, for which a closed one is opened again.

    Returns:
        Whether the thought stays closed, as its prompt has closed it; and whether the begin marker is still to be
        written.
    """
    tokenizer, begin, end = vocabulary.tokenizer, vocabulary.begin, vocabulary.end
    if not is_given and closes_thought(tokenizer, row.token_ids, end):
        return True, False
    n_tokens = n_opening(tokenizer, row.token_ids, begin, end)
    if n_tokens:
        row.relabel(n_tokens, Channel.SPECIAL)
    return False, not n_tokens


def open_thought(rollout: Rollout, vocabulary: Vocabulary, given: Sequence[bool] | None = None) -> list[bool]:
    """Feed the begin marker to every row whose prompt has neither opened nor closed the thought.

    Args:
        rollout: The batch, after its prompts.
        vocabulary: The reasoner's vocabulary.
        given: For each row whether it is given a thought, for which a closed one is opened again.

    Returns:
        For each row whether the thought stays closed, as its prompt has closed it.
    """
    has_thought = [False] * len(rollout.rows) if given is None else given
    openings = [opening_of(*row) for row in zip(rollout.rows, repeat(vocabulary), has_thought, strict=False)]
    closed = [is_closed for is_closed, _ in openings]
    needs_marker = [needs for _, needs in openings]
    force_marker(rollout, vocabulary, vocabulary.config.begin, _active(needs_marker))
    return closed


def close_thought(rollout: Rollout, vocabulary: Vocabulary, closed: Sequence[bool]) -> None:
    """Feed the end marker to every row whose thought the prompt has not closed."""
    force_marker(rollout, vocabulary, vocabulary.config.end, _active([not is_closed for is_closed in closed]))


def _active(rows: Sequence[bool]) -> Tensor | None:
    return None if all(rows) else torch.tensor(rows)


def write_answer(rollout: Rollout, vocabulary: Vocabulary) -> None:
    """Write the answer of every row until something ends it."""
    stops = vocabulary.stops
    writing = torch.ones(len(rollout.rows), dtype=torch.bool)
    answers: list[list[int]] = [[] for _ in rollout.rows]
    for _ in range(vocabulary.config.max_answer_tokens):
        ids = rollout.choose()
        going_on = [i not in stops.ids and not stops.after(a) for i, a in zip(ids.tolist(), answers, strict=True)]
        writing = writing & torch.tensor(going_on) & (rollout.room > 0)
        rollout.resting = (~writing).tolist()
        if all(rollout.resting):
            return
        rollout.feed(channel=Channel.ANSWER, ids=ids, active=writing, sampled=True)
        for answer, token, is_writing in zip(answers, ids.tolist(), writing.tolist(), strict=True):
            answer += [token] if is_writing else []


class AnswerWriter:
    """Writes the answer of one row until something ends it.

    Args:
        vocabulary: The reasoner's vocabulary.
        opening: Tokens of markers that are still to be written before the answer.
    """

    def __init__(self, vocabulary: Vocabulary, opening: Sequence[int] = ()) -> None:
        self._stops, self._longest = vocabulary.stops, vocabulary.config.max_answer_tokens
        self._opening = list(opening)
        self._answer: list[int] = []

    def next(self, chosen: int, room: int) -> Cell | None:
        """Return the next position of the row, or None when it is done."""
        if room <= 0 or len(self._answer) >= self._longest:
            return None
        if self._opening:
            return Cell(self._opening.pop(0), Channel.SPECIAL)
        if chosen in self._stops.ids or self._stops.after(self._answer):
            return None
        self._answer.append(chosen)
        return Cell(chosen, Channel.ANSWER, sampled=True)
