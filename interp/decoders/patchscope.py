"""Patchscopes (Ghandeharioun et al., arXiv 2401.06102): the model itself says what a latent means to it.

`Patchscope` puts the latent in the place of the last thought of another problem, and the model's answer there is the
reading. `Continuation` breaks silent thinking off before a step and lets the model write that step out, as its
curriculum taught it: the model's own text mode. Neither is trained.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.decoders.base import Readings
from interp.decoders.logit_lens import refuse_other_model
from interp.decoders.sites import STEP_TEXT
from interp.errors import UsageError, checked_count
from interp.models.address import Address
from interp.reasoners.breaking_off import break_off
from interp.reasoners.interventions import Intervention, replace_with
from interp.traces import THINKING, Channel, Trace

if TYPE_CHECKING:
    from interp.reasoners import Reasoner


class Patchscope:
    """Reads a latent by what the model answers when it stands in the place of another problem's last thought.

    The place is that of the row relative to its step: a row one position before its step's last thought is put one
    position before the target's. `targets` problems of the training part are asked, those with the fewest steps: with
    more of them the model goes by what it has found itself (measured on chains and graphs: problems whose last thought
    stands where the latent comes from are read worse). A reading's score is the mean probability that the model gave it.
    """

    name = "patchscope"
    needs_model = True
    follows_probe = True
    asks_for_step = True

    def __init__(self, reasoner: Reasoner, *, targets: int = 2) -> None:
        self.reasoner = reasoner
        self.targets = checked_count("targets", targets)

    def fit(self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray) -> Patchscope:
        """Choose the target problems among those of `rows`; nothing is learned."""
        refuse_other_model(store, self.reasoner, "this patchscope")
        traces = [store.traces[t] for t in rows["trace"].unique()]
        if not traces:
            raise UsageError("a patchscope needs problems to put latents into, but no rows came.")
        fewest = min(trace.problem.n_steps for trace in traces)
        self.into_ = [trace for trace in traces if trace.problem.n_steps == fewest][: self.targets]
        return self

    def decode(self, store: ActivationSource, address: Address, rows: pd.DataFrame, *, top_k: int = 5) -> Readings:
        refuse_other_model(store, self.reasoner, "this patchscope")
        offsets = rows["position"].to_numpy() - _last_thoughts(store, rows)
        acts = store.acts(address, rows)
        found: list[dict[str, float]] = [{} for _ in range(len(rows))]
        for target in self.into_:
            places = np.stack([np.arange(len(rows)), _last_thought(target) + offsets], axis=1)
            asked = self.reasoner.think(
                [target.problem] * len(rows),
                batch_size=256,
                interventions=[Intervention(address, places, replace_with(acts))],
            )
            for said, trace in zip(found, asked, strict=True):
                said[trace.answer] = said.get(trace.answer, 0.0) + _probability(trace, Channel.ANSWER) / len(self.into_)
        return _readings(found, top_k)


class Continuation:
    """Reads step k as what the model writes when its silent thinking is broken off before that step.

    It is given all earlier thoughts and the question, so the site only says which steps are asked for. As many words are
    read as the steps of training have.
    """

    name = "continuation"
    needs_model = True
    follows_probe = True
    asks_for_step = True
    own_sites = False
    says = STEP_TEXT

    def __init__(self, reasoner: Reasoner) -> None:
        self.reasoner = reasoner

    def fit(self, store: ActivationSource, address: Address, rows: pd.DataFrame, targets: np.ndarray) -> Continuation:
        refuse_other_model(store, self.reasoner, "this decoder")
        if not len(targets):
            raise UsageError("a continuation is read in steps as long as those of training, but no rows came.")
        self.longest_ = max(len(str(text).split()) for text in targets)
        return self

    def decode(self, store: ActivationSource, address: Address, rows: pd.DataFrame, *, top_k: int = 5) -> Readings:
        refuse_other_model(store, self.reasoner, "this decoder")
        problems = [store.traces[t].problem for t in rows["trace"]]
        before = [self.reasoner.config.n_thoughts(k - 1) if k > 1 else 0 for k in rows["read_step"]]
        written = break_off(self.reasoner, problems, before, words=self.longest_)
        return _readings([{trace.text: _probability(trace, Channel.THOUGHT)} for trace in written], top_k)


def _last_thought(trace: Trace) -> int:
    return max(k for k, channel in enumerate(trace.channel) if channel in THINKING)


def _last_thoughts(store: ActivationSource, rows: pd.DataFrame) -> np.ndarray:
    """The position of the last thought of each row's step."""
    index = store.index
    thinking = index[index["channel"].isin(THINKING)]
    last = thinking.groupby(["trace", "step"])["position"].max()
    return last.loc[list(zip(rows["trace"], rows["read_step"], strict=True))].to_numpy()


def _probability(trace: Trace, channel: Channel) -> float:
    """The probability that the model gave all that it wrote in a channel."""
    logs = [p for p, c in zip(trace.logprob, trace.channel, strict=True) if c == channel]
    return float(np.exp(np.sum(logs))) if logs else 0.0


def _readings(found: list[dict[str, float]], top_k: int) -> Readings:
    texts = np.empty((len(found), top_k), dtype=object)
    texts[:] = ""
    scores = np.zeros((len(found), top_k))
    for k, said in enumerate(found):
        for place, (text, score) in enumerate(sorted(said.items(), key=lambda each: -each[1])[:top_k]):
            texts[k, place], scores[k, place] = text, score
    return Readings(texts, scores)
