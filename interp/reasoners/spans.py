"""Parts of a text, found among its tokens: markers, channels, sentences and steps.

Channels are given to the tokens that are there. No text is decoded and encoded again: it need not have the same tokens,
and templates strip thoughts from a conversation's history.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from interp.models.markers import MarkerFinder, find_marker
from interp.models.pieces import token_texts
from interp.problems.base import Problem
from interp.reasoners.rollouts.batch import Row
from interp.text.gold_steps import place_steps
from interp.text.segments import numbers, sentence_ends, step_ends
from interp.traces import LEFT_OUT, UNPLACED, Channel


def n_opening_ids(prompt: Sequence[int], begin: Sequence[int], end: Sequence[int]) -> int:
    """Return how many tokens at the end of a prompt open the thought: the marker and white space after it, else 0.

    Templates such as DeepSeek-R1's end with the marker and a line break. A marker more than a few tokens from the end
    belongs to the question, and one that is closed again opens nothing.
    """
    if not begin:
        return 0
    start = find_marker(prompt, begin, max(0, len(prompt) - len(begin) - 2))
    if start is None or find_marker(prompt, end, start + len(begin)) is not None:
        return 0
    return len(prompt) - start


def n_opening(tokenizer: Any, prompt: Sequence[int], begin: MarkerFinder, end: MarkerFinder) -> int:
    """Return how many tokens at the end of a prompt open the thought, found by their ids or in their text, else 0."""
    n_tokens = n_opening_ids(prompt, begin.ids, end.ids)
    if n_tokens or not begin.text.strip():
        return n_tokens
    pieces = token_texts(tokenizer, prompt[-begin.look_back - 2 :])
    before, marker, after = "".join(pieces).rpartition(begin.text.strip())
    if not marker or after.strip():
        return 0
    ends = list(accumulate(map(len, pieces)))
    return len(pieces) - next(k for k, offset in enumerate(ends) if offset > len(before))


def closes_thought(tokenizer: Any, prompt: Sequence[int], end: MarkerFinder) -> bool:
    """Return whether a prompt has closed the thought itself: it ends with the end marker, white space aside.

    Templates do so where thinking is switched off: with an empty thought (Qwen3, GLM) or a bare end marker
    (DeepSeek-V3.1).
    """
    marker = end.text.strip()
    return bool(marker) and tokenizer.decode(list(prompt[-end.look_back - 4 :])).rstrip().endswith(marker)


def channels(ids: Sequence[int], n_prompt: int, begin: Sequence[int], end: Sequence[int]) -> list[str]:
    """Return the channel of every token of a text.

    A thought that is never closed runs to the end and leaves no answer. One that is closed but not opened was opened by
    the prompt. Without either marker, everything after the prompt is the answer.

    Args:
        ids: Token ids of prompt and text.
        n_prompt: How many of them are the prompt.
        begin: Token ids of the marker that opens a thought.
        end: Token ids of the marker that closes it.
    """
    channel = [str(Channel.PROMPT)] * n_prompt + [str(Channel.ANSWER)] * (len(ids) - n_prompt)
    n_opening = n_opening_ids(ids[:n_prompt], begin, end)
    channel[n_prompt - n_opening : n_prompt] = [str(Channel.SPECIAL)] * n_opening
    start = n_prompt
    if not n_opening:
        opens, closes = find_marker(ids, begin, n_prompt), find_marker(ids, end, n_prompt)
        if opens is not None and (closes is None or opens < closes):
            start = opens + len(begin)
            channel[n_prompt:start] = [str(Channel.SPECIAL)] * (start - n_prompt)
        elif closes is None:
            return channel
    closes = find_marker(ids, end, start)
    stop = len(ids) if closes is None else closes
    channel[start:stop] = [str(Channel.THOUGHT)] * (stop - start)
    if closes is not None:
        channel[closes : closes + len(end)] = [str(Channel.SPECIAL)] * len(end)
    return channel


@dataclass(frozen=True)
class WrittenSteps:
    """The parts of a visible thought; `step` and `sentence` have one entry for each position of the row.

    Attributes:
        step: The step that a position belongs to, from 1; 0 outside the thought.
        sentence: The sentence that it belongs to, from 1; 0 outside the thought.
        value_positions: For each gold step the position at which its value is complete; `LEFT_OUT` or `UNPLACED` where
            it has none.
    """

    step: list[int]
    sentence: list[int]
    value_positions: list[int]


def written_steps(
    tokenizer: Any,
    row: Row,
    problem: Problem,
    *,
    correct: bool,
    parts: Sequence[tuple[int, int]] | None = None,
) -> WrittenSteps:
    """Find the steps and sentences of the visible thought of a row.

    With gold steps, a position belongs to the step whose text ends next. Without, steps are those of the text itself:
    blank lines, `Step 2`, lists, else sentences.

    Args:
        tokenizer: The tokenizer.
        row: The finished row.
        problem: Its problem.
        correct: Whether its answer is right. A step without a place is `UNPLACED` only then: reasoning that went wrong
            need not write it.
        parts: For each gold step the first of its tokens in the visible thought, and the one after its last; None where
            the text itself has to say.
    """
    positions = [k for k, channel in enumerate(row.channel) if channel == Channel.THOUGHT]
    pieces = token_texts(tokenizer, [row.token_ids[k] for k in positions])
    text, starts = "".join(pieces), [0, *accumulate(map(len, pieces))]
    # A token belongs to the part that its first visible letter is in; a part ends after its last one.
    offsets = [start + len(piece) - len(piece.lstrip()) + 1 for start, piece in zip(starts, pieces, strict=False)]
    values: list[int] = []
    ends: Sequence[int | None]
    if problem.steps:
        in_letters = None if parts is None else [(starts[first], starts[last]) for first, last in parts]
        places = place_steps(text, problem.steps, in_letters)
        ends = [place.end for place in places]
        for place in places:
            if place.value_end is not None:
                # The first token after which that much is written: the one that writes the value's last character.
                values.append(positions[bisect_left(starts, place.value_end) - 1])
            else:
                values.append(UNPLACED if correct and not place.left_out else LEFT_OUT)
    else:
        ends = step_ends(text)
    columns = []
    for part_ends in (ends, sentence_ends(text)):
        column = [0] * len(row.token_ids)
        for k, number in zip(positions, numbers(offsets, part_ends), strict=True):
            column[k] = number
        columns.append(column)
    return WrittenSteps(columns[0], columns[1], values)


def counted_parts(row: Row, n_steps: int, per_step: int, separator: int | None) -> list[tuple[int, int]] | None:
    """Return the tokens of each step as they were counted while thinking; None where the count does not fit the steps.

    Args:
        row: The finished row, whose `step` is the count.
        n_steps: Number of gold steps.
        per_step: Tokens of a step, where nothing separates them.
        separator: Id of the token that ends a step, or None.

    Returns:
        For each step the first of its tokens in the visible thought, and the one after its last.
    """
    thought = [(row.step[k], row.token_ids[k]) for k, channel in enumerate(row.channel) if channel == Channel.THOUGHT]
    parts, start = [], 0
    for number in range(1, n_steps + 1):
        tokens = [token for step, token in thought if step == number]
        if separator is None:
            fits = len(tokens) == per_step
        else:
            ended = tokens[-1:] == [separator]
            fits = len(tokens) > 1 and tokens.count(separator) == ended and (ended or number == n_steps)
        if not fits:
            return None
        parts.append((start, start + len(tokens)))
        start += len(tokens)
    return parts
