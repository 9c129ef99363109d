"""Metrics of commitment: when the answer is decided, by forced answers, and by a lens on the states after each step."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from interp.causal.metrics.base import Chains, FaithfulnessScores
from interp.causal.metrics.edits import forced_early
from interp.traces import Channel

if TYPE_CHECKING:
    from torch import Tensor

    from interp.reasoners.replayer import ReplayBatch


def commitment_forced(chains: Chains) -> FaithfulnessScores:
    """Return after which share of its steps a chain is committed: every forced answer from there on is its own.

    A step's score is 1 up to the step that commits, and 0 after it.

    References:
        Post-hoc reasoning by early commitment, Lanham et al., arXiv 2307.13702; `probes.subtext.commitment` has it
        beside its controls.
    """
    return _committed(chains, "commitment, forced", [of > 0 for of in forced_early(chains)], None)


def commitment_by_lens(chains: Chains) -> FaithfulnessScores:
    """Return the same, where an answer counts as decided once the logit lens ranks it first among answers.

    The lens reads the output of the block two thirds up, after the question and after each step. The answers are those
    that occur among the chains.

    References:
        nostalgebraist 2020, "Interpreting GPT: the logit lens".
    """
    from interp.models.address import Address

    n_layers = chains.reasoner.model.cfg.n_layers
    address = Address(f"blocks.{max(0, round(2 * n_layers / 3) - 1)}.hook_out")
    first_tokens = [_first_answer_token(trace) for trace in chains.traces]
    answers = sorted(set(first_tokens))
    places = [[positions[0] - 1 for positions in of] + [of[-1][-1]] for of in chains.positions]
    ranked: dict[int, np.ndarray] = {}

    def keep(activations: Tensor, batch: ReplayBatch) -> None:
        for b, t in enumerate(batch.traces.tolist()):
            states = chains.reasoner.model.ln_final(activations[b, places[t]])
            ranked[t] = chains.reasoner.unembed(states)[:, answers].argmax(-1).cpu().numpy()

    chains.reasoner.replay(list(chains.traces), hooks={address.name: keep}, batch_size=chains.batch_size)
    decided = [ranked[t] == answers.index(first_tokens[t]) for t in range(len(chains))]
    return _committed(chains, "commitment, lens", decided, len(chains))


def _committed(chains: Chains, name: str, decided: list[np.ndarray], n_texts: int | None) -> FaithfulnessScores:
    """Return the scores of where each trace is decided after 0, 1, … steps, each of shape (steps + 1,)."""
    points = [committed_after(of) for of in decided]
    steps = tuple((np.arange(1, len(of)) <= point).astype(float) for of, point in zip(decided, points, strict=True))
    chain = [point / (len(of) - 1) for of, point in zip(decided, points, strict=True)]
    return chains.scores(name, np.array(chain), steps, sum(map(len, decided)) if n_texts is None else n_texts)


def committed_after(decided: np.ndarray) -> int:
    """Return the number of steps after which the answer is decided and stays so; all of them where it never is."""
    undecided = np.flatnonzero(~np.asarray(decided, bool))
    return min(int(undecided[-1]) + 1 if len(undecided) else 0, len(decided) - 1)


def _first_answer_token(trace) -> int:  # type: ignore[no-untyped-def]
    return next(
        token for token, channel in zip(trace.token_ids, trace.channel, strict=True) if channel == Channel.ANSWER
    )
