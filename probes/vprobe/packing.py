"""Many questions to a model about one text, asked in one pass.

A question is a text that was cut off somewhere, followed by `[START] description [END]`. All questions about
one trace share its tokens: each description sits behind the text with the positions that it would have had,
and attends to the text before its cut and to itself. So a pass over one row equals one pass for each question.
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

_MOST = 48  # questions in one row; more about one trace go into a row of their own


@dataclass(frozen=True)
class Item:
    """One question: what is `label`, for what the tokens `about` describe, after the first `at` positions of `trace`?

    `features` are what a baseline may know of it without a model.
    """

    trace: Trace
    at: int
    about: tuple[str, ...]
    label: str
    features: Float[np.ndarray, " features"] | None = None

    @property
    def group(self) -> str:
        """The structure of the problem; splits and intervals group by it."""
        return self.trace.problem.structure


@dataclass(frozen=True)
class Batch:
    """Rows of packed questions. `ends` are the (row, column) of each question's [END], `items` their numbers.

    `mask` says which columns each column attends to. `latents` stand in the cells `silent` in place of embeddings.
    """

    ids: Int[Tensor, "rows columns"]
    positions: Int[Tensor, "rows columns"]
    mask: Bool[Tensor, "rows 1 columns columns"]
    ends: tuple[Int[Tensor, " questions"], Int[Tensor, " questions"]]
    items: Int[np.ndarray, " questions"]
    silent: Bool[Tensor, "rows columns"]
    latents: Float[Tensor, "cells d_model"] | None


def batches(reasoner: Reasoner, items: Sequence[Item], size: int) -> list[Batch]:
    """All items, packed into batches of at most `size` rows of similar length.

    Raises `UsageError` on a cut outside the trace, on a description that the tokenizer does not know, and on a
    question that does not fit into the model's positions.
    """
    rows = sorted(_rows(items), key=lambda row: _width(items, row))
    return [_batch(reasoner, items, rows[k : k + size]) for k in range(0, len(rows), size)]


def _rows(items: Sequence[Item]) -> Iterator[list[int]]:
    by_trace: dict[int, list[int]] = {}
    for number, item in enumerate(items):
        by_trace.setdefault(id(item.trace), []).append(number)
    for numbers in by_trace.values():
        for start in range(0, len(numbers), _MOST):
            yield numbers[start : start + _MOST]


def _width(items: Sequence[Item], row: list[int]) -> int:
    return max(items[k].at for k in row) + sum(len(items[k].about) + 2 for k in row)


def _batch(reasoner: Reasoner, items: Sequence[Item], rows: list[list[int]]) -> Batch:
    width = max(_width(items, row) for row in rows)
    start = reasoner.embed.weight.shape[0]  # [START] and [END] follow the vocabulary
    ids = torch.full((len(rows), width), int(reasoner.pad_id))
    positions = torch.zeros(len(rows), width, dtype=torch.long)
    mask = torch.eye(width, dtype=torch.bool).repeat(len(rows), 1, 1)
    silent = torch.zeros(len(rows), width, dtype=torch.bool)
    latents, ends, numbers = [], [], []
    for r, row in enumerate(rows):
        read = max(items[k].at for k in row)
        trace = items[row[0]].trace
        ids[r, :read] = torch.tensor(trace.token_ids[:read])
        positions[r, :read] = torch.arange(read)
        mask[r, :read, :read] = torch.tril(torch.ones(read, read, dtype=torch.bool))
        for at, vector in _thoughts(trace, read):
            silent[r, at] = True
            latents.append(torch.as_tensor(vector))
        column = read
        for k in row:
            said = [start, *_described(reasoner, items[k]), start + 1]
            span = slice(column, column + len(said))
            ids[r, span] = torch.tensor(said)
            positions[r, span] = items[k].at + torch.arange(len(said))
            mask[r, span, : items[k].at] = True
            mask[r, span, span] = torch.tril(torch.ones(len(said), len(said), dtype=torch.bool))
            column += len(said)
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


def _thoughts(trace: Trace, read: int) -> Iterator[tuple[int, np.ndarray]]:
    if trace.latents is not None:
        at = [k for k, channel in enumerate(trace.channel) if channel == Channel.LATENT]
        yield from ((k, vector) for k, vector in zip(at, trace.latents, strict=True) if k < read)


def _described(reasoner: Reasoner, item: Item) -> list[int]:
    if not 1 <= item.at <= len(item.trace):
        raise UsageError(f"at must lie between 1 and the trace's {len(item.trace)} positions, but {item.at} came.")
    room = reasoner.max_positions
    if room is not None and item.at + len(item.about) + 2 > room:
        raise UsageError(
            f"a question of {len(item.about) + 2} tokens after {item.at} needs more than the {room} positions of "
            f"{reasoner.name}. Cut the text earlier."
        )
    return [reasoner.token_id(token) for token in item.about]
