"""Metrics of commitment: when the answer is decided, by forced answers, and by a lens or a probe after each step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from interp.causal.metrics.base import Chains, FaithfulnessScores
from interp.causal.metrics.edits import forced_early
from interp.errors import UsageError
from interp.traces import Channel, Trace, TraceSet

if TYPE_CHECKING:
    from torch import Tensor

    from interp.reasoners.replayer import ReplayBatch

_PROBE_STRENGTH = 10.0


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
    first_tokens = [_first_answer_token(trace) for trace in chains.traces]
    answers = sorted(set(first_tokens))

    def rank(states: Tensor) -> np.ndarray:
        logits = chains.reasoner.unembed(chains.reasoner.model.ln_final(states))
        return np.asarray(logits[:, answers].argmax(-1).cpu().numpy())

    ranked = _after_each_step(chains, chains.traces, rank)
    decided = [of == answers.index(first) for of, first in zip(ranked, first_tokens, strict=True)]
    return _committed(chains, "commitment, lens", decided, len(chains))


def commitment_by_probe(chains: Chains) -> FaithfulnessScores:
    """Return the same, where an answer counts as decided once a linear probe reads it.

    One probe reads the same states as the lens, at every place. It is fitted to the answers of other problems, whose
    structures are none of these chains'. Their thinking is not counted among the passes, because it serves any number
    of chains.

    References:
        Linear probes, Alain and Bengio, arXiv 1610.01644; commitment as in Lanham et al., arXiv 2307.13702.
    """
    from sklearn.linear_model import RidgeClassifier

    def take(states: Tensor) -> np.ndarray:
        return np.asarray(states.float().cpu().numpy())

    others = TraceSet([trace for trace in chains.others if has_chain(trace)])
    read = _after_each_step(chains, others, take)
    labels = np.repeat([_first_answer_token(trace) for trace in others], [len(of) for of in read])
    if len(set(labels.tolist())) < 2:
        raise UsageError(f"expected other problems with several answers, got {len(others)} with one; use another task.")
    rows = np.concatenate(read)
    mean, scale = rows.mean(0), np.maximum(rows.std(0), 1e-6)
    probe = RidgeClassifier(_PROBE_STRENGTH).fit((rows - mean) / scale, labels)
    decided = [
        probe.predict((of - mean) / scale) == _first_answer_token(trace)
        for of, trace in zip(_after_each_step(chains, chains.traces, take), chains.traces, strict=True)
    ]
    return _committed(chains, "commitment, probe", decided, len(chains))


def has_chain(trace: Trace) -> bool:
    """Return whether a trace has a thought and an answer."""
    return bool(trace.answer) and Channel.ANSWER in trace.channel and any(trace.thought)


def _after_each_step(chains: Chains, traces: Sequence[Trace], read: Callable[[Tensor], np.ndarray]) -> list[np.ndarray]:
    """Return what is read of each trace's states after the question and after each step, two thirds up the blocks.

    Args:
        chains: The chains, whose reasoner replays the traces.
        traces: The traces.
        read: Called with the states of one trace, shape (steps + 1, d_model).
    """
    n_layers = chains.reasoner.model.cfg.n_layers
    address = f"blocks.{max(0, round(2 * n_layers / 3) - 1)}.hook_out"
    found = [chains.find_steps(trace) for trace in traces]
    places = [[positions[0] - 1 for positions in of] + [of[-1][-1]] for of in found]
    kept: dict[int, np.ndarray] = {}

    def keep(activations: Tensor, batch: ReplayBatch) -> None:
        for b, t in enumerate(batch.traces.tolist()):
            kept[t] = read(activations[b, places[t]])

    chains.reasoner.replay(list(traces), hooks={address: keep}, batch_size=chains.batch_size)
    return [kept[t] for t in range(len(traces))]


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


def _first_answer_token(trace: Trace) -> int:
    return next(
        token for token, channel in zip(trace.token_ids, trace.channel, strict=True) if channel == Channel.ANSWER
    )
