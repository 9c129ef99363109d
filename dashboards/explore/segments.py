"""A trace as a transcript: prompt, steps or sentences, and answer, each with its first and last position."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from interp.text.segments import sentence_ends, step_ends
from interp.text.token_text import TokenText
from interp.traces import Channel, Trace

UNITS = ("sentences", "steps")


@dataclass(frozen=True)
class Segment:
    """A part of a transcript.

    Attributes:
        start: Its first position.
        stop: The position after its last.
        name: What it is: `prompt`, `thought 2`, `sentence 3`, `answer`.
        channel: The channel of its positions.
        text: Its text.
    """

    start: int
    stop: int
    name: str
    channel: str
    text: str


def segments_of(trace: Trace, unit: str) -> list[Segment]:
    """Return the parts of a trace in order; every position lies in one.

    Args:
        trace: The trace.
        unit: `sentences` or `steps`: what visible thoughts are cut into.
    """
    numbers = _numbers(trace, unit)
    keys = [(channel, int(number)) for channel, number in zip(trace.channel, numbers, strict=True)]
    starts = [k for k, key in enumerate(keys) if not k or key != keys[k - 1]]
    words, parts = TokenText.of(trace), []
    for start, stop in zip(starts, [*starts[1:], len(trace)], strict=True):
        channel, number = keys[start]
        text = words.join(trace.tokens[start:stop])
        parts.append(Segment(start, stop, _name(channel, number, unit), channel, text))
    return parts


def _numbers(trace: Trace, unit: str) -> np.ndarray:
    """Return the number of each position's step or sentence, 0 outside thoughts."""
    thinks = np.array([channel == Channel.THOUGHT for channel in trace.channel])
    numbers = np.where(thinks, 0, np.array(trace.thought) * np.array([c == Channel.LATENT for c in trace.channel]))
    if not thinks.any():
        return numbers
    given = np.array(trace.sentence if unit == "sentences" and trace.sentence else trace.step)
    if not given[thinks].any():
        given = _cut(trace, thinks, unit)
    return np.where(thinks, given, numbers)


def _cut(trace: Trace, thinks: np.ndarray, unit: str) -> np.ndarray:
    """Number the sentences or steps of a thought that was recorded without them."""
    where, words = np.flatnonzero(thinks), TokenText.of(trace)
    pieces = [words.text(trace.tokens[k]) for k in where]
    ends = (sentence_ends if unit == "sentences" else step_ends)("".join(pieces))
    numbers = np.zeros(len(trace), int)
    if ends:
        offsets = np.cumsum([len(piece) for piece in pieces])
        numbers[where] = np.minimum(np.searchsorted(ends, offsets), len(ends) - 1) + 1
    return numbers


def _name(channel: str, number: int, unit: str) -> str:
    if channel == Channel.LATENT:
        return f"thought {number}"
    if channel == Channel.THOUGHT:
        return f"{unit.removesuffix('s')} {number}" if number else "thought"
    return {"special": "marker"}.get(channel, channel)
