"""Patchscopes (Ghandeharioun et al., arXiv 2401.06102): the model itself reads a latent.

`Patchscope` puts the latent in the place of another problem's last thought and reads the model's answer. `Continuation`
stops silent thinking before a step and lets the model write that step. Neither is trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.activations.step_positions import step_positions
from interp.decoders.base import STEP_TEXT, DecoderTraits, RankedTexts, pad_ranking
from interp.decoders.logit_lens import require_same_model
from interp.errors import UsageError, checked_count
from interp.models.address import Address
from interp.reasoners.interventions import Intervention, replace_with
from interp.traces import THINKING, Channel, Trace

if TYPE_CHECKING:
    from interp.reasoners import Reasoner


class Patchscope:
    """A latent read as the model's answer when it replaces another problem's last thought.

    The position is relative to the step: a row one position before its step's last thought replaces the one before the
    target's last thought. Targets are the training problems with the fewest steps. With longer ones the model relies on
    what it has computed itself: on chains and graphs, problems whose last thought is at the latent's own position are read
    worse. A score is the mean probability that the model gave the answer.

    Args:
        reasoner: The model that the store was captured from.
        targets: Number of problems that latents are put into.
    """

    name = "patchscope"
    traits: ClassVar[DecoderTraits] = DecoderTraits(needs_model=True, follows_probe=True, needs_step=True)

    def __init__(self, reasoner: Reasoner, *, targets: int = 2) -> None:
        self.reasoner = reasoner
        self.targets = checked_count("targets", targets)

    def fit(self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray) -> Patchscope:
        """Choose the target problems among those of `rows`; nothing is trained."""
        require_same_model(store, self.reasoner, "this patchscope")
        traces = [store.traces[trace] for trace in rows["trace"].unique()]
        if not traces:
            raise UsageError("expected problems for a patchscope to put latents into, got no rows; choose other rows.")
        fewest = min(trace.problem.n_steps for trace in traces)
        self.targets_ = [trace for trace in traces if trace.problem.n_steps == fewest][: self.targets]
        return self

    def decode(self, store: ActivationSource, address: Address, rows: pd.DataFrame, *, top_k: int = 5) -> RankedTexts:
        """Return the model's answers over all targets, with their mean probabilities."""
        require_same_model(store, self.reasoner, "this patchscope")
        offsets = rows["position"].to_numpy() - _last_thoughts(store, rows)
        acts = store.acts(address, rows)
        probabilities: list[dict[str, float]] = [{} for _ in range(len(rows))]
        for target in self.targets_:
            places = np.stack([np.arange(len(rows)), _last_thought(target) + offsets], axis=1)
            answered = self.reasoner.think(
                [target.problem] * len(rows),
                batch_size=256,
                interventions=[Intervention(address, places, replace_with(acts))],
            )
            for of_row, trace in zip(probabilities, answered, strict=True):
                share = _probability(trace, Channel.ANSWER) / len(self.targets_)
                of_row[trace.answer] = of_row.get(trace.answer, 0.0) + share
        return _rank(probabilities, top_k)


class Continuation:
    """Step k read as what the model writes when its silent thinking stops before that step.

    It sees the question and all earlier thoughts, so the location only says which steps are read. It reads as many words
    as the longest step of training has.

    Args:
        reasoner: The model that the store was captured from.
    """

    name = "continuation"
    traits: ClassVar[DecoderTraits] = DecoderTraits(
        output=STEP_TEXT, needs_model=True, follows_probe=True, per_step=False, needs_step=True
    )

    def __init__(self, reasoner: Reasoner) -> None:
        self.reasoner = reasoner

    def fit(self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray) -> Continuation:
        """Note the length of the longest step; nothing is trained."""
        require_same_model(store, self.reasoner, "this decoder")
        if not len(targets):
            raise UsageError("expected training steps, which say how many words to read, got none; choose other rows.")
        self.longest_ = max(len(str(text).split()) for text in targets)
        return self

    def decode(self, store: ActivationSource, address: Address, rows: pd.DataFrame, *, top_k: int = 5) -> RankedTexts:
        """Return the one text that the model writes for each row, with its probability."""
        require_same_model(store, self.reasoner, "this decoder")
        problems = [store.traces[trace].problem for trace in rows["trace"]]
        thoughts_before = [self.reasoner.config.n_thoughts(k - 1) if k > 1 else 0 for k in rows["read_step"]]
        written = self.reasoner.write_after_thoughts(problems, thoughts_before, max_tokens=self.longest_)
        return _rank([{trace.text: _probability(trace, Channel.THOUGHT)} for trace in written], top_k)


def _last_thought(trace: Trace) -> int:
    """Return the position at which the last step is complete."""
    position = trace.step_position(trace.problem.n_steps)
    return (
        position if position is not None else max(k for k, channel in enumerate(trace.channel) if channel in THINKING)
    )


def _last_thoughts(store: ActivationSource, rows: pd.DataFrame) -> np.ndarray:
    """Return the position at which each row's step is complete."""
    last = step_positions(store).set_index(["trace", "step"])["position"]
    return last.loc[list(zip(rows["trace"], rows["read_step"], strict=True))].to_numpy()


def _probability(trace: Trace, channel: Channel) -> float:
    """Return the probability that the model gave all that it wrote in a channel; 0 where it wrote nothing."""
    logs = [p for p, c in zip(trace.logprob, trace.channel, strict=True) if c == channel]
    return float(np.exp(np.sum(logs))) if logs else 0.0


def _rank(probabilities: list[dict[str, float]], top_k: int) -> RankedTexts:
    ranked = [sorted(of_row.items(), key=lambda item: -item[1])[:top_k] for of_row in probabilities]
    return pad_ranking([[text for text, _ in row] for row in ranked], [[p for _, p in row] for row in ranked], top_k)
