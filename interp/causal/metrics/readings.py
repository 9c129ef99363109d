"""Single passes over texts: how likely an answer is, also where some positions are not seen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.errors import UsageError
from interp.traces import Channel, Trace

if TYPE_CHECKING:
    from interp.reasoners.base import Reasoner


@dataclass(frozen=True)
class Text:
    """Tokens that are run through a model once.

    Attributes:
        ids: Token ids.
        first: The first position that is scored: the answer, or more.
        unseen: Positions that no later position may attend to.
        fed: Position to what is fed there in place of the token's embedding, shape (d_model,): continuous thoughts.
    """

    ids: list[int]
    first: int
    unseen: tuple[int, ...] = ()
    fed: Mapping[int, np.ndarray] = field(default_factory=dict)


class Readings:
    """Runs texts through the model of a reasoner, without writing anything.

    Args:
        reasoner: The reasoner.
        batch_size: Texts that are run at once.
    """

    def __init__(self, reasoner: Reasoner, batch_size: int = 256) -> None:
        self.reasoner, self.batch_size = reasoner, batch_size

    @torch.no_grad()
    def logprobs(self, texts: Sequence[Text]) -> list[Float[np.ndarray, " scored"]]:
        """Return the log-probability of each scored token of each text."""
        scored: list[np.ndarray] = []
        for part, states in self._states(texts):
            for text, of in zip(part, states, strict=True):
                before = self.reasoner.unembed(of[text.first - 1 : len(text.ids) - 1])
                chosen = torch.log_softmax(before.float(), -1).gather(
                    1, torch.tensor(text.ids[text.first :], device=before.device)[:, None]
                )
                scored.append(chosen[:, 0].cpu().numpy())
        return scored

    @torch.no_grad()
    def distributions(self, texts: Sequence[Text]) -> Float[np.ndarray, "texts vocab"]:
        """Return the log-probabilities of the token at each text's first scored position, shape (texts, vocabulary)."""
        rows: list[np.ndarray] = []
        for part, states in self._states(texts):
            before = torch.stack([of[text.first - 1] for text, of in zip(part, states, strict=True)])
            rows.append(torch.log_softmax(self.reasoner.unembed(before).float(), -1).cpu().numpy())
        return np.concatenate(rows)

    def _states(self, texts: Sequence[Text]) -> Iterator[tuple[Sequence[Text], Tensor]]:
        order = sorted(range(len(texts)), key=lambda k: len(texts[k].ids))
        if [len(texts[k].ids) for k in order] != [len(text.ids) for text in texts]:
            # Texts of similar length share a batch; their results go back in order.
            results: dict[int, Tensor] = {}
            for start in range(0, len(order), self.batch_size):
                numbers = order[start : start + self.batch_size]
                states = self._run([texts[k] for k in numbers]).last_hidden_state
                results |= dict(zip(numbers, states, strict=True))
            for k, text in enumerate(texts):
                yield [text], results.pop(k)[None]
            return
        for start in range(0, len(texts), self.batch_size):
            part = texts[start : start + self.batch_size]
            yield part, self._run(part).last_hidden_state

    def _run(self, texts: Sequence[Text]) -> Any:
        network = self.reasoner.network
        width = max(len(text.ids) for text in texts)
        ids = torch.zeros(len(texts), width, dtype=torch.long)
        mask = torch.zeros(len(texts), width, dtype=torch.long)
        for row, text in enumerate(texts):
            ids[row, : len(text.ids)] = torch.tensor(text.ids)
            mask[row, : len(text.ids)] = 1
            mask[row, list(text.unseen)] = 0
        device = network.device
        positions = torch.arange(width, device=device)[None].expand(len(texts), -1)
        embeddings = network.embed(ids.to(device))
        for row, text in enumerate(texts):
            for position, vector in text.fed.items():
                embeddings[row, position] = torch.as_tensor(vector).to(embeddings)
        return network.base(
            inputs_embeds=embeddings,
            attention_mask=mask.to(device),
            position_ids=positions,
            use_cache=False,
        )


def answer_start(trace: Trace) -> int:
    """Return the position of a trace's first answer token.

    Raises:
        UsageError: The trace has no answer.
    """
    first = next((k for k, channel in enumerate(trace.channel) if channel == Channel.ANSWER), None)
    if first is None:
        raise UsageError(f"expected a trace with an answer, got trace {trace.id} without one; leave it out.")
    return first


def text_of(trace: Trace, *, unseen: Sequence[int] = (), from_thought: bool = False) -> Text:
    """Return a trace as a text whose answer is scored, or whose thought and answer are."""
    end = max(k for k, channel in enumerate(trace.channel) if channel == Channel.ANSWER) + 1
    first = answer_start(trace)
    if from_thought:
        first = next(k for k, channel in enumerate(trace.channel) if channel == Channel.THOUGHT)
    return Text(list(trace.token_ids[:end]), first, tuple(unseen))
