"""Sentences and steps of a visible thought, brought from offsets in its text back to its tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from interp.problems.base import Problem
from interp.reasoners.rollout import Row
from interp.text.segments import gold_step_ends, numbers, sentence_ends, step_ends
from interp.traces import Channel


def segmented(tokenizer: Any, row: Row, problem: Problem) -> tuple[list[int], list[int]]:
    """The step and the sentence of every position of a row, 0 outside the visible thought.

    With gold steps, a position belongs to the step whose value is said next; without any, steps are those of the
    text itself (blank lines, `Step 2`, lists; else sentences).
    """
    at = [k for k, channel in enumerate(row.channel) if channel == Channel.THOUGHT]
    step, sentence = [0] * len(row.token_ids), [0] * len(row.token_ids)
    pieces = written(tokenizer, [row.token_ids[k] for k in at])
    text, begins = "".join(pieces), [0]
    for piece in pieces:
        begins.append(begins[-1] + len(piece))
    # A token belongs to the part that its first visible letter is in; a part ends after its last one.
    offsets = [begin + len(piece) - len(piece.lstrip()) + 1 for begin, piece in zip(begins, pieces, strict=False)]
    steps = gold_step_ends(text, problem.steps) if problem.steps else step_ends(text)
    for parts, out in ((steps, step), (sentence_ends(text), sentence)):
        for k, number in zip(at, numbers(offsets, parts), strict=True):
            out[k] = number
    return step, sentence


def written(tokenizer: Any, ids: Sequence[int]) -> list[str]:
    """The text that each token adds; a letter that takes several tokens comes with the last of them."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return [tokenizer.decode([i]) for i in ids]
    from tokenizers.decoders import DecodeStream

    stream = DecodeStream(skip_special_tokens=False)
    return [stream.step(backend, int(i)) or "" for i in ids]
