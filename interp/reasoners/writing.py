"""What every kind of reasoner writes: markers, tokens that are the same in every row, and the answer."""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from interp.reasoners.rollout import Rollout
from interp.reasoners.vocabulary import Vocabulary
from interp.traces import Channel


def same_token(rollout: Rollout, token_id: int) -> Int[Tensor, " batch"]:
    """Return one token for every row of the batch."""
    return torch.full((len(rollout.rows),), token_id)


def force_marker(rollout: Rollout, vocabulary: Vocabulary, marker: str | None, active: Tensor | None = None) -> None:
    """Feed a marker to the active rows; None is no marker."""
    for token in vocabulary.marker_ids(marker) if active is None or active.any() else []:
        rollout.feed(channel=Channel.SPECIAL, ids=same_token(rollout, token), active=active)


def write_answer(rollout: Rollout, vocabulary: Vocabulary) -> None:
    """Write the answer of every row until something ends it."""
    stops = vocabulary.stops
    writing = torch.ones(len(rollout.rows), dtype=torch.bool)
    answers: list[list[int]] = [[] for _ in rollout.rows]
    for _ in range(vocabulary.config.max_answer_tokens):
        ids = rollout.choose()
        going_on = [i not in stops.ids and not stops.after(a) for i, a in zip(ids.tolist(), answers, strict=True)]
        writing = writing & torch.tensor(going_on) & (rollout.room > 0)
        if not writing.any():
            return
        rollout.feed(channel=Channel.ANSWER, ids=ids, active=writing, sampled=True)
        for answer, token, is_writing in zip(answers, ids.tolist(), writing.tolist(), strict=True):
            answer += [token] if is_writing else []
