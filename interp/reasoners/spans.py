"""Parts of a text, found among its tokens: markers, channels, sentences and steps.

Channels are given to the tokens that are there. No text is decoded and encoded again: it need not have the same tokens,
and templates strip thoughts from a conversation's history.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from interp.models.markers import MarkerFinder, find_marker
from interp.models.pieces import token_texts
from interp.problems.base import Problem
from interp.reasoners.batch import Row
from interp.text.segments import gold_step_ends, numbers, sentence_ends, step_ends
from interp.traces import Channel


def opened(prompt: Sequence[int], begin: Sequence[int], end: Sequence[int]) -> int:
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
    n_tokens = opened(prompt, begin.ids, end.ids)
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
    n_opening = opened(ids[:n_prompt], begin, end)
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


def steps_and_sentences(tokenizer: Any, row: Row, problem: Problem) -> tuple[list[int], list[int]]:
    """Return the step and the sentence of every position of a row, 0 outside the visible thought.

    With gold steps, a position belongs to the step whose value is written next. Without, steps are those of the text
    itself: blank lines, `Step 2`, lists, else sentences.
    """
    positions = [k for k, channel in enumerate(row.channel) if channel == Channel.THOUGHT]
    step, sentence = [0] * len(row.token_ids), [0] * len(row.token_ids)
    pieces = token_texts(tokenizer, [row.token_ids[k] for k in positions])
    text, starts = "".join(pieces), [0]
    for piece in pieces:
        starts.append(starts[-1] + len(piece))
    # A token belongs to the part that its first visible letter is in; a part ends after its last one.
    offsets = [start + len(piece) - len(piece.lstrip()) + 1 for start, piece in zip(starts, pieces, strict=False)]
    steps = gold_step_ends(text, problem.steps) if problem.steps else step_ends(text)
    for ends, column in ((steps, step), (sentence_ends(text), sentence)):
        for k, number in zip(positions, numbers(offsets, ends), strict=True):
            column[k] = number
    return step, sentence
