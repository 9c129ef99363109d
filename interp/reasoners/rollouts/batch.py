"""What a batch of traces holds while it is being thought: rows, cells, and which position each cell is."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Int
from torch import Tensor

from interp.traces import Channel


@dataclass
class Row:
    """One trace of the batch so far; every list but `latents` and `events` has one entry for each position.

    A token may hold the end of the thought and the beginning of the end marker, or the end of the marker and the
    beginning of the answer. It belongs to the answer if it holds visible text of it, else to the marker.

    Attributes:
        thought_ending: The end of the thought's text, where a token of the marker holds it.
        answer_beginning: The answer's text in its first token, where that token holds a piece of the marker too.
    """

    token_ids: list[int] = field(default_factory=list)
    channel: list[str] = field(default_factory=list)
    step: list[int] = field(default_factory=list)
    thought: list[int] = field(default_factory=list)
    entropy: list[float] = field(default_factory=list)
    logprob: list[float] = field(default_factory=list)
    latents: list[Tensor] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    thought_ending: str = ""
    answer_beginning: str | None = None

    def append(self, token: int, channel: Channel, step: int, thought: int) -> None:
        """Append one position; its entropy and log-probability are NaN until they are measured."""
        self.token_ids.append(token)
        self.channel.append(channel)
        self.step.append(step)
        self.thought.append(thought)
        self.entropy.append(float("nan"))
        self.logprob.append(float("nan"))

    def extend(self, tokens: Sequence[int], channel: Channel, steps: Sequence[int], thoughts: Iterable[int]) -> None:
        """Append several positions of one channel, not measured yet."""
        for token, step, thought in zip(tokens, steps, thoughts, strict=True):
            self.append(token, channel, step, thought)

    def relabel(self, n: int, channel: Channel) -> None:
        """Move the last `n` positions to `channel`, outside the thought."""
        self.channel[-n:], self.step[-n:], self.thought[-n:] = [channel] * n, [0] * n, [0] * n


class Cell(NamedTuple):
    """One position of one row: its token, its channel, and whether the model chose the token."""

    token: int
    channel: Channel
    step: int = 0
    thought: int = 0
    sampled: bool = False


class BatchState:
    """Which (trace, position) each cell of the tensor now passing through the model is.

    Attributes:
        traces: For each batch row the index of its problem or trace in the list that is thought about or replayed.
        positions: For each cell its position in the trace, padding aside; -1 is padding.
        rows: What each trace of the batch holds so far; only while thinking.
        n_reread: The number of columns that earlier passes have read too, in models that keep no cache; 0 in others.
    """

    def __init__(self) -> None:
        self.traces: Int[np.ndarray, " batch"] = np.empty(0, dtype=np.int64)
        self.positions: Int[np.ndarray, "batch pos"] = np.empty((0, 0), dtype=np.int64)
        self.rows: list[Row] = []
        self.n_reread = 0

    def new_columns(self) -> BatchState:
        """Return the state of the columns that no earlier pass has read."""
        if not self.n_reread:
            return self
        new = BatchState()
        new.traces, new.positions, new.rows = self.traces, self.positions[:, self.n_reread :], self.rows
        return new
