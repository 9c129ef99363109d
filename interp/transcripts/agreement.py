"""How likely a local model finds a text that was written elsewhere, measured in one masked pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from interp.errors import StoreError
from interp.reasoners import Reasoner
from interp.reasoners.replayer import ReplayBatch
from interp.runtime.progress import Progress
from interp.statistics.estimates import Estimate
from interp.traces import THINKING, Channel, Trace, TraceSet

_POSITIONS_AT_ONCE = 512  # whose logits are held together
_WRITTEN = (*THINKING, Channel.ANSWER)

#: Least share of tokens that the model would choose itself, in text that it wrote greedily. Below one, because a server
#: rounds to another dtype: the same weights in bfloat16 choose the same token in about 98 of 100 places.
GREEDY_SHARE = 0.95
#: Most nats a token by which text drawn from the model may be less likely than its own draws.
SURPRISE = 0.05


@dataclass(frozen=True)
class Agreement:
    """How well a model agrees with a text, over the tokens of thoughts and answers.

    Attributes:
        logprob: Mean log-probability in nats a token.
        greedy: Share of tokens that the model would have chosen greedily.
        surprise: Nats a token by which the text is less likely than the model's own draws at the temperature at which
            it was written: the mean of -log p - entropy. About 0 for the model's own draws, and below 0 where the
            likeliest tokens alone were drawn; None without a temperature above 0.
        n_tokens: Number of tokens.
        n_texts: Number of texts.
        n_reproduced: How many of them the model would have written greedily, token for token.
    """

    logprob: Estimate
    greedy: Estimate
    surprise: Estimate | None
    n_tokens: int
    n_texts: int
    n_reproduced: int

    def is_another_model(self) -> bool:
        """Return whether text that the model should have written itself was written by another one."""
        if self.surprise is not None:
            return self.surprise.low > SURPRISE
        return self.greedy.high < GREEDY_SHARE

    def to_dict(self) -> dict[str, Any]:
        """Return the figures as JSON values."""
        surprise = None if self.surprise is None else self.surprise.measure()
        return {
            "logprob": self.logprob.measure(),
            "greedy": self.greedy.measure(),
            "surprise": surprise,
            "n_tokens": self.n_tokens,
            "n_texts": self.n_texts,
            "n_reproduced": self.n_reproduced,
        }

    def __str__(self) -> str:
        """Return the figures in a line."""
        more = "" if self.surprise is None else f"; surprise {self.surprise} nats a token beyond its own draws"
        return (
            f"log-probability {self.logprob} nats a token, {self.greedy.value:.3f} "
            f"[{self.greedy.low:.3f}, {self.greedy.high:.3f}] of {self.n_tokens} tokens are the likeliest, and "
            f"{self.n_reproduced} of {self.n_texts} texts throughout{more}"
        )


def measure_agreement(
    reasoner: Reasoner, traces: Sequence[Trace], *, batch_size: int = 16, progress: Progress | None = None
) -> tuple[TraceSet, Agreement]:
    """Return the traces with entropies and log-probabilities, and how well the model agrees with them.

    Args:
        reasoner: The reasoner whose model reads.
        traces: Traces in its tokens.
        batch_size: Traces that are read at once.
        progress: Called with (traces done, traces in all).

    Raises:
        StoreError: The model computes numbers that are not finite.
    """
    measured: dict[int, np.ndarray] = {}
    ids = [torch.tensor(trace.token_ids) for trace in traces]

    @torch.no_grad()
    def look(states: Tensor, batch: ReplayBatch) -> None:
        for row, number in enumerate(batch.traces.tolist()):
            measured[number] = _measures(reasoner, states[row], ids[number], traces[number].temperature or 0.0)

    reasoner.replay(traces, hooks={"ln_final.hook_out": look}, batch_size=batch_size, progress=progress)
    finished, rows = [], []
    for number, trace in enumerate(traces):
        columns = measured[number]
        if not np.isfinite(columns[0]).all():
            raise StoreError(
                f"expected finite numbers from {reasoner.name}, got others in trace {trace.id}; load it in another dtype "
                "(--model-dtype float32)."
            )
        written = np.array([channel in _WRITTEN for channel in trace.channel])
        nan = [float("nan")]
        predicted = np.array([channel != Channel.PROMPT for channel in trace.channel])
        entropy = np.where(predicted[1:], columns[0], np.nan)
        logprob = np.where(written[1:], columns[1], np.nan)
        finished.append(replace(trace, entropy=nan + entropy.tolist(), logprob=nan + logprob.tolist()))
        if written.any():
            rows.append((number, columns[1:, written[1:]].mean(axis=1), int(written.sum())))
    structures = np.array([traces[number].problem.structure for number, _, _ in rows])
    means = np.array([mean for _, mean, _ in rows]).reshape(-1, 3)
    draws = bool(rows) and all((traces[number].temperature or 0) > 0 for number, _, _ in rows)
    return TraceSet(finished), Agreement(
        logprob=_mean(means[:, 0], structures),
        greedy=Estimate.of_mean(means[:, 1], structures),
        surprise=_mean(means[:, 2], structures) if draws else None,
        n_tokens=sum(n for _, _, n in rows),
        n_texts=len(rows),
        n_reproduced=int((means[:, 1] == 1.0).sum()),
    )


def _measures(reasoner: Reasoner, states: Tensor, ids: Tensor, temperature: float) -> np.ndarray:
    """Return entropy, log-probability, whether it is the likeliest, and surprise of each token but the first."""
    parts = []
    for start in range(0, len(ids) - 1, _POSITIONS_AT_ONCE):
        end = min(start + _POSITIONS_AT_ONCE, len(ids) - 1)
        logits = reasoner.unembed(states[start:end]).float()
        following = ids[start + 1 : end + 1].to(logits.device)[:, None]
        log_p = torch.log_softmax(logits, -1)
        tempered = torch.log_softmax(logits / temperature, -1) if temperature else log_p
        part = [
            _entropy(log_p),
            log_p.gather(1, following)[:, 0],
            (logits.argmax(-1) == following[:, 0]).float(),
            -tempered.gather(1, following)[:, 0] - _entropy(tempered),
        ]
        parts.append(torch.stack(part).cpu().double().numpy())
    return np.concatenate(parts, axis=1)


def _entropy(log_p: Tensor) -> Tensor:
    return -(log_p.exp() * log_p).sum(-1)


def _mean(values: np.ndarray, structures: np.ndarray) -> Estimate:
    """Return the mean of values that need not lie between 0 and 1, with its interval by structure."""
    if not len(values):
        return Estimate.of_mean(values, structures)
    low, high = float(values.min()), float(values.max())
    if low == high:
        return Estimate(low, low, low, len(values))
    width = high - low
    share = Estimate.of_mean((values - low) / width, structures)
    return Estimate(float(values.mean()), low + width * share.low, low + width * share.high, share.n)
