"""An activation oracle: a small language model that answers questions about a latent, without seeing the problem.

As in activation oracles (Karvonen et al., arXiv 2512.15674) and LatentQA (Pan et al., arXiv 2412.08686), one model is
trained on many kinds of questions about activations, and the activation is injected at the length of the model's own
embeddings, so that only its direction counts. The answers come from the problems, never from a decoder. What a problem's
question alone gives away the oracle cannot know, because it does not see it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.activations import ActivationSource
from interp.decoders.base import Readings
from interp.decoders.low_rank import RANK, AdaptedWriter
from interp.decoders.writer import Vocabulary, Writer, taught_writer
from interp.errors import StoreError, UsageError, checked_count, unknown
from interp.models.address import Address
from interp.runtime.progress import Progress
from interp.traces import Trace

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

_BATCH = 512


def _value(trace: Trace, step: int) -> str | None:
    return trace.problem.steps[step - 1].value if 1 <= step <= trace.problem.n_steps else None


def _parity(trace: Trace, step: int) -> str | None:
    value = _value(trace, step)
    return ("yes" if int(value) % 2 == 0 else "no") if value is not None and value.isdigit() else None


def _rule(trace: Trace, step: int) -> str | None:
    """The operation that comes after `step`, where the task's problems name theirs in order."""
    rules = trace.problem.meta.get("operations", ())
    return str(rules[step]) if step < len(rules) else None


# name -> what is asked of a latent that belongs to a step, and the answer to it
QUESTIONS: dict[str, tuple[str, Callable[[Trace, int], str | None]]] = {
    "value": ("what is the value ?", _value),
    "previous": ("what was the value one step before ?", lambda trace, step: _value(trace, step - 1)),
    "even": ("is the value even ?", _parity),
    "rule": ("which rule comes next ?", _rule),
}


class Oracle:
    """Answers the questions of `QUESTIONS` about a latent; behind the `Decoder` protocol it is asked for the value.

    Norm-matched: every latent is scaled to the length of a standard embedding before it is injected. With a `reasoner`
    the oracle is that model itself, frozen, with low-rank adapters (`interp.decoders.low_rank`).
    """

    name = "oracle"
    follows_probe = True

    def __init__(
        self,
        *,
        questions: Sequence[str] = tuple(QUESTIONS),
        d_model: int = 128,
        n_layers: int = 2,
        n_heads: int = 4,
        updates: int = 500,
        batch_size: int = 128,
        learning_rate: float = 2e-3,
        seed: int = 0,
        progress: Progress | None = None,
        reasoner: Reasoner | None = None,
        rank: int = RANK,
    ) -> None:
        for question in questions:
            if question not in QUESTIONS:
                raise unknown("question for the oracle", question, QUESTIONS)
        if not questions:
            raise UsageError(f"an oracle needs questions to learn. Known: {', '.join(QUESTIONS)}.")
        self.questions = tuple(questions)
        self.d_model, self.n_layers, self.n_heads = d_model, n_layers, n_heads
        self.updates = checked_count("updates", updates)
        self.batch_size = checked_count("batch_size", batch_size)
        self.learning_rate, self.seed, self.progress = learning_rate, seed, progress
        self.reasoner, self.rank = reasoner, checked_count("rank", rank)
        self.writer_: Writer | None = None

    def fit(
        self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray | None = None
    ) -> Oracle:
        """Learn all questions about `rows`; their answers are those of the problems, and `targets` those of `value`."""
        self.address_, self.weights_ = address, store.meta["reasoner"]["weights"]
        latents = self._latents(store, rows)
        prompts, answers, at = [], [], []
        for question in self.questions:
            said = QUESTIONS[question][0]
            found = targets if question == "value" and targets is not None else answers_to(store, rows, question)
            for k, each in enumerate(found):
                if each is not None:
                    prompts.append(said.split())
                    answers.append(str(each))
                    at.append(k)
        if not answers:
            raise UsageError(
                "none of the oracle's questions has an answer on these rows. Choose other questions or rows."
            )
        self.longest_ = max(len(each.split()) for each in answers)
        self.writer_ = taught_writer(
            self._make,
            prompts,
            latents[at],
            answers,
            standardise=False,  # lengths are matched instead
            updates=self.updates,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            seed=self.seed,
            progress=self.progress,
        )
        return self

    def decode(self, store: ActivationSource, address: Address, rows: pd.DataFrame, *, top_k: int = 5) -> Readings:
        if address != getattr(self, "address_", address):
            raise UsageError(f"this oracle was fitted at {self.address_}, but {address} came. Fit one there.")
        return self.ask(store, rows, "value", top_k=top_k)

    def ask(self, store: ActivationSource, rows: pd.DataFrame, question: str, *, top_k: int = 1) -> Readings:
        """The likeliest answers to one question about each row, with their probabilities.

        Raises `UsageError` on a question that it did not learn, `StoreError` on another model's latents.
        """
        if self.writer_ is None:
            raise UsageError("this oracle is not fitted; call fit first.")
        if question not in self.questions:
            raise unknown("question that this oracle learned", question, self.questions)
        if store.meta["reasoner"]["weights"] != self.weights_:
            raise StoreError(
                "this oracle was fitted to another model's latents than "
                f"{store.meta['reasoner']['name']}'s, which this store holds. Fit one to this store."
            )
        prompt = QUESTIONS[question][0].split()
        latents = self._latents(store, rows)
        texts = np.empty((len(rows), top_k), dtype=object)
        texts[:] = ""
        scores = np.zeros((len(rows), top_k))
        for start in range(0, len(rows), _BATCH):
            part = latents[start : start + _BATCH]
            ids = self.writer_.prompt_ids([prompt] * len(part))
            found, chances = self.writer_.candidates(ids, part, beams=top_k, longest=self.longest_)
            for k, (said, p) in enumerate(zip(found, chances.numpy(), strict=True)):
                possible = p > 0
                texts[start + k, : len(said)][possible] = np.array(said, dtype=object)[possible]
                scores[start + k, : len(said)] = p
        return Readings(texts, scores)

    def _make(self, words: Vocabulary, d_latent: int | None, positions: int) -> Writer:
        if self.reasoner is not None:
            return AdaptedWriter(words, d_latent, self.reasoner, positions=positions, rank=self.rank)
        sizes = {"d_model": self.d_model, "n_layers": self.n_layers, "n_heads": self.n_heads}
        return Writer(words, d_latent, positions=positions, **sizes)

    def _latents(self, store: ActivationSource, rows: pd.DataFrame) -> Tensor:
        acts = torch.from_numpy(store.acts(self.address_, rows))
        return acts / acts.norm(dim=1, keepdim=True).clamp(min=1e-6) * acts.shape[1] ** 0.5


class AdaptedOracle(Oracle):
    """The oracle as low-rank adapters on the reasoner's own model, not a model of its own."""

    name = "adapted_oracle"
    needs_model = True

    def __init__(self, reasoner: Reasoner, **options: Any) -> None:
        super().__init__(reasoner=reasoner, **options)


def answers_to(store: ActivationSource, rows: pd.DataFrame, question: str) -> np.ndarray:
    """The right answer to a question about each row, None where it has none. `rows` has column read_step or step."""
    if question not in QUESTIONS:
        raise unknown("question for the oracle", question, QUESTIONS)
    steps = rows["read_step"] if "read_step" in rows else rows["step"]
    answer = QUESTIONS[question][1]
    return np.array([answer(store.traces[t], s) for t, s in zip(rows["trace"], steps, strict=True)], dtype=object)
