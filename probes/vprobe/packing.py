"""Many questions to a model about one text, asked in one pass.

A question is a text that is cut off somewhere, followed by `[START] description [END]`. All questions about one trace
share its tokens: each description follows the text, has the position ids that it would have alone, and attends to the
text before its cut and to itself. So a pass over one row equals one pass for each question.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from interp.errors import UsageError
from interp.traces import Channel, Trace

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

_MAX_QUESTIONS = 48  # in one row; further questions about a trace go into another row


@dataclass(frozen=True)
class Item:
    """One question about a trace.

    Attributes:
        trace: The trace that is cut off.
        n_positions: How many of its positions are read, from the first.
        about: The tokens of the description.
        label: The right answer.
        features: What a baseline may know without a model, shape (features,).
    """

    trace: Trace
    n_positions: int
    about: tuple[str, ...]
    label: str
    features: Float[np.ndarray, " features"] | None = None

    @property
    def group(self) -> str:
        """The structure of the problem; splits and intervals group by it."""
        return self.trace.problem.structure


@dataclass(frozen=True)
class Batch:
    """Rows of packed questions.

    Attributes:
        ids: Token ids; [START] and [END] follow the vocabulary.
        positions: Position ids.
        mask: Which columns each column attends to.
        ends: Row and column of each question's [END].
        items: Number of each question's item.
        silent: Cells that hold a latent in place of an embedding.
        latents: The latents of those cells, in order.
    """

    ids: Int[Tensor, "rows columns"]
    positions: Int[Tensor, "rows columns"]
    mask: Bool[Tensor, "rows 1 columns columns"]
    ends: tuple[Int[Tensor, " questions"], Int[Tensor, " questions"]]
    items: Int[np.ndarray, " questions"]
    silent: Bool[Tensor, "rows columns"]
    latents: Float[Tensor, "cells d_model"] | None


def batches(reasoner: Reasoner, items: Sequence[Item], size: int) -> list[Batch]:
    """Pack items into batches of rows of similar length.

    Args:
        reasoner: The model that will read them.
        items: The questions.
        size: Largest number of rows in a batch.

    Raises:
        UsageError: A cut lies outside its trace, the tokenizer does not know a description, or a question does not fit
            into the model's positions.
    """
    rows = sorted(_rows(items), key=lambda row: _width(items, row))
    return [_batch(reasoner, items, rows[k : k + size]) for k in range(0, len(rows), size)]


def _rows(items: Sequence[Item]) -> Iterator[list[int]]:
    by_trace: dict[int, list[int]] = {}
    for number, item in enumerate(items):
        by_trace.setdefault(id(item.trace), []).append(number)
    for numbers in by_trace.values():
        for start in range(0, len(numbers), _MAX_QUESTIONS):
            yield numbers[start : start + _MAX_QUESTIONS]


def _width(items: Sequence[Item], row: list[int]) -> int:
    return max(items[k].n_positions for k in row) + sum(len(items[k].about) + 2 for k in row)


def _batch(reasoner: Reasoner, items: Sequence[Item], rows: list[list[int]]) -> Batch:
    width = max(_width(items, row) for row in rows)
    start = reasoner.embed.weight.shape[0]  # [START] and [END] follow the vocabulary
    ids = torch.full((len(rows), width), int(reasoner.vocabulary.pad_id))
    positions = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.eye(width, dtype=torch.bool).repeat(len(rows), 1, 1)
    silent = torch.zeros(len(rows), width, dtype=torch.bool)
    latents, ends, numbers = [], [], []
    for r, row in enumerate(rows):
        read = max(items[k].n_positions for k in row)
        trace = items[row[0]].trace
        ids[r, :read] = torch.tensor(trace.token_ids[:read])
        positions[r, :read] = torch.arange(read)
        mask[r, :read, :read] = torch.tril(torch.ones(read, read, dtype=torch.bool))
        for position, vector in _latents(trace, read):
            silent[r, position] = True
            latents.append(torch.as_tensor(vector))
        column = read
        for k in row:
            question = [start, *_description_ids(reasoner, items[k]), start + 1]
            span = slice(column, column + len(question))
            ids[r, span] = torch.tensor(question)
            positions[r, span] = items[k].n_positions + torch.arange(len(question))
            mask[r, span, : items[k].n_positions] = True
            mask[r, span, span] = torch.tril(torch.ones(len(question), len(question), dtype=torch.bool))
            column += len(question)
            ends.append((r, column - 1))
            numbers.append(k)
    device = reasoner.device
    return Batch(
        ids.to(device),
        positions.to(device),
        mask[:, None].to(device),
        tuple(torch.tensor(part, device=device) for part in zip(*ends, strict=True)),  # type: ignore[arg-type]
        np.array(numbers),
        silent.to(device),
        torch.stack(latents).to(device) if latents else None,
    )


def _latents(trace: Trace, read: int) -> Iterator[tuple[int, np.ndarray]]:
    if trace.latents is not None:
        positions = [k for k, channel in enumerate(trace.channel) if channel == Channel.LATENT]
        yield from ((k, vector) for k, vector in zip(positions, trace.latents, strict=True) if k < read)


def _description_ids(reasoner: Reasoner, item: Item) -> list[int]:
    if not 1 <= item.n_positions <= len(item.trace):
        raise UsageError(
            f"expected `n_positions` from 1 to the trace's {len(item.trace)} positions, got {item.n_positions}; cut it there."
        )
    most = reasoner.network.max_positions
    if most is not None and item.n_positions + len(item.about) + 2 > most:
        raise UsageError(
            f"expected at most {most} positions, the maximum of {reasoner.name}, got a question of {len(item.about) + 2} "
            f"tokens after {item.n_positions}; cut the text earlier."
        )
    return [reasoner.vocabulary.token_id(token) for token in item.about]
