"""Activation oracle: a small language model that answers questions about a latent, without seeing the problem.

As in activation oracles (Karvonen et al., arXiv 2512.15674) and LatentQA (Pan et al., arXiv 2412.08686), one model is
trained on several questions about activations. The activation is injected at the length of the model's own embeddings, so
only its direction counts. The answers come from the problems, never from a decoder. The oracle does not see a problem's
question, so it cannot answer from it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Unpack

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from interp.activations import ActivationSource
from interp.decoders.base import DecoderTraits, RankedTexts
from interp.decoders.low_rank import RANK
from interp.decoders.writer import WriterOptions, ranked_candidates
from interp.decoders.writer_decoder import WriterDecoder
from interp.errors import UsageError, unknown
from interp.models.address import Address
from interp.problems import task as make_task
from interp.runtime.progress import Progress
from interp.traces import Trace

if TYPE_CHECKING:
    from interp.reasoners import Reasoner


def _value(trace: Trace, step: int) -> str | None:
    return trace.problem.steps[step - 1].value if 1 <= step <= trace.problem.n_steps else None


def _parity(trace: Trace, step: int) -> str | None:
    value = _value(trace, step)
    return ("yes" if int(value) % 2 == 0 else "no") if value is not None and value.isdigit() else None


def _rule(trace: Trace, step: int) -> str | None:
    """Return the operation after `step`, where the task's problems list theirs in order."""
    operations = trace.problem.meta.get("operations", ())
    return str(operations[step]) if step < len(operations) else None


def _decided(trace: Trace, step: int) -> str | None:
    """Return whether no other value of any later step would change the answer, as the task's oracle says."""
    problem = trace.problem
    if not 1 <= step <= problem.n_steps:
        return None
    task = make_task(problem.task)
    for later in range(step + 1, problem.n_steps + 1):
        for value in task.step_values(problem, later) or task.values:
            try:
                if task.counterfactual(problem, later, value) != problem.answer:
                    return "no"
            except UsageError:
                return None
    return "yes"


def _hint(trace: Trace, step: int) -> str | None:
    """Return whether the answer is that of a hint, where the task's problems say so."""
    style = trace.problem.meta.get("style")
    return None if "hint" not in trace.problem.meta or style is None else "no" if style == "used" else "yes"


def _intent(trace: Trace, step: int) -> str | None:
    triggered = trace.problem.meta.get("triggered")
    return None if triggered is None else "yes" if triggered else "no"


# Name to the question about the latent of a step, and the function that answers it.
QUESTIONS: dict[str, tuple[str, Callable[[Trace, int], str | None]]] = {
    "value": ("what is the value ?", _value),
    "previous": ("what was the value one step before ?", lambda trace, step: _value(trace, step - 1)),
    "even": ("is the value even ?", _parity),
    "rule": ("which rule comes next ?", _rule),
    "decided": ("is the answer decided ?", _decided),
    "hint": ("was there a hint that the answer follows ?", _hint),
    "intent": ("is there a hidden intent ?", _intent),
}
#: What the oracle learns as a decoder of values.
ABOUT_VALUES = ("value", "previous", "even", "rule")


class OracleOptions(WriterOptions, total=False):
    """Options of `Oracle`."""

    questions: Sequence[str]
    seed: int
    progress: Progress | None
    rank: int


class Oracle(WriterDecoder):
    """Answers questions of `QUESTIONS` about a latent. As a decoder it answers the question for the value.

    Every latent is scaled to the length of a standard embedding before it is injected.

    Args:
        questions: Names of the questions to learn.
        d_model: Width of the writer.
        n_layers: Layers of the writer.
        n_heads: Attention heads of the writer.
        updates: Number of updates.
        batch_size: Rows of an update.
        learning_rate: Largest learning rate.
        seed: Seed of the initial weights and of the batches.
        progress: Called with (updates made, updates).
        reasoner: With it the oracle is that model itself, frozen, with low-rank adapters
            (`interp.decoders.low_rank`), and the three sizes are not used.
        rank: Rank of the adapters.
    """

    name = noun = "oracle"
    rows_at_once = 512
    traits: ClassVar[DecoderTraits] = DecoderTraits(follows_probe=True)

    def __init__(
        self,
        *,
        questions: Sequence[str] = ABOUT_VALUES,
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
            raise UsageError(
                f"expected questions for the oracle to learn, got none; choose from {', '.join(QUESTIONS)}."
            )
        self.questions = tuple(questions)
        super().__init__(
            d_model=d_model,
            n_layers=n_layers,
            n_heads=n_heads,
            updates=updates,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
            progress=progress,
            reasoner=reasoner,
            rank=rank,
        )

    def fit(
        self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray | None = None
    ) -> Oracle:
        """Learn all questions about `rows`.

        Answers come from the problems, those to the question `value` from `targets` where these are given.

        Raises:
            UsageError: No question has an answer on these rows.
        """
        self._remember_source(store, address)
        latents = self._latents(store, rows)
        prompts, answers, numbers = [], [], []
        for question in self.questions:
            words = QUESTIONS[question][0].split()
            of_rows = targets if question == "value" and targets is not None else answers_to(store, rows, question)
            for number, answer in enumerate(of_rows):
                if answer is not None:
                    prompts.append(words)
                    answers.append(str(answer))
                    numbers.append(number)
        if not answers:
            raise UsageError(
                "none of the oracle's questions has an answer on these rows. Choose other questions or rows."
            )
        # Lengths are matched, so dimensions are not standardised.
        self._train(prompts, latents[numbers], answers, standardise=False)
        return self

    def decode(self, store: ActivationSource, address: Address, rows: pd.DataFrame, *, top_k: int = 5) -> RankedTexts:
        """Return the likeliest values of each row, with their probabilities.

        Raises:
            StoreError: The store is of another model.
            UsageError: The oracle is not fitted, or was fitted at another address.
        """
        self._fitted()
        self._check_address(address)
        return self.ask(store, rows, "value", top_k=top_k)

    def ask(self, store: ActivationSource, rows: pd.DataFrame, question: str, *, top_k: int = 1) -> RankedTexts:
        """Return the likeliest answers to one question about each row, with their probabilities.

        Args:
            store: The activations.
            rows: Rows to ask about.
            question: One of the questions that the oracle learned.
            top_k: Number of answers.

        Raises:
            StoreError: The store is of another model.
            UsageError: The oracle is not fitted, or did not learn the question.
        """
        self._fitted()
        if question not in self.questions:
            raise unknown("question that this oracle learned", question, self.questions)
        self._check_model(store)
        prompts = [QUESTIONS[question][0].split()] * len(rows)
        return ranked_candidates(self._candidates(prompts, self._latents(store, rows), top_k), top_k)

    def _latents(self, store: ActivationSource, rows: pd.DataFrame) -> Tensor:
        acts = torch.from_numpy(store.acts(self.address_, rows))
        return acts / acts.norm(dim=1, keepdim=True).clamp(min=1e-6) * acts.shape[1] ** 0.5


class AdaptedOracle(Oracle):
    """The oracle as low-rank adapters on the reasoner's own model, not as a separate model.

    Args:
        reasoner: The model to adapt.
        **options: Options of `Oracle`.
    """

    name = "adapted_oracle"
    traits: ClassVar[DecoderTraits] = replace(Oracle.traits, needs_model=True)

    def __init__(self, reasoner: Reasoner, **options: Unpack[OracleOptions]) -> None:
        super().__init__(reasoner=reasoner, **options)


def answers_to(store: ActivationSource, rows: pd.DataFrame, question: str) -> np.ndarray:
    """Return the gold answer to a question about each row, None where it has none.

    Args:
        store: The activations.
        rows: Rows with the step in column `read_step` or `step`.
        question: A name from `QUESTIONS`.
    """
    if question not in QUESTIONS:
        raise unknown("question for the oracle", question, QUESTIONS)
    steps = rows["read_step"] if "read_step" in rows else rows["step"]
    answer = QUESTIONS[question][1]
    return np.array([answer(store.traces[t], s) for t, s in zip(rows["trace"], steps, strict=True)], dtype=object)
