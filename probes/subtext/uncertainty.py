"""Uncertainty: do the latents hold how uncertain the value of a step is, where the text does not say?

Some tasks know the posterior over values after a number of steps: in `graph`, every node at that distance from the root
is equally likely under a random walk. The entropy of that posterior, in bits, differs between problems at the same
place. It is read from the state that becomes (or writes) a thought, and compared with readers of the visible words, of difficulty,
of another problem's state, and of an untrained model. Everything is compared within one place, so that the place alone
explains nothing. The posterior itself is also decoded, by the model's own unembedding and by a probe, and its entropy
compared with the true one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from interp.errors import UsageError
from interp.problems import task as make_task
from interp.statistics.estimates import Estimate
from interp.statistics.intervals import drawn_groups
from interp.statistics.metrics import ece
from interp.traces import Trace, TraceSet
from probes.subtext.latent_features import another_row, states_of_rows, words_until
from probes.subtext.readers import FOLDS, Features, class_costs, folds
from probes.subtext.text_features import token_columns

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

LATENTS, COUNTED, BOTH = "latents", "words counted, and difficulty", "words counted, difficulty and latents"
VISIBLE = ("question and text", COUNTED, "difficulty")
NOTHING = "place alone"
ADDRESS = "ln_final.hook_out"
STRENGTHS = (1.0, 10.0, 100.0, 1000.0, 10000.0)
_MIN_ROWS = 100  # below this there is no result
_DRAWS = 1000


@dataclass(frozen=True)
class Uncertainty:
    """What the latents hold of the true posterior.

    Attributes:
        readers: For each input, the share of the entropy's variance within places that it predicts on other structures.
        decoded: For each way to decode the posterior, how its entropy correlates with the true one.
        places: How often each true entropy occurs at each thought.
        by_thought: The shares of latents and of what is visible, by thought.
        lead: How much the share rises when the best reader of what is visible is given the latents as well.
        over: The best reader of what is visible.
        verdict: The verdict, in words.
    """

    readers: pd.DataFrame
    decoded: pd.DataFrame
    places: pd.DataFrame
    by_thought: pd.DataFrame
    lead: Estimate
    over: str
    verdict: str


@dataclass(frozen=True)
class _Rows:
    """One row for each thought of each trace: its state's position and the true posterior over `values`."""

    trace: Int[np.ndarray, " rows"]
    thought: Int[np.ndarray, " rows"]
    position: Int[np.ndarray, " rows"]
    posterior: Float[np.ndarray, "rows values"]
    groups: np.ndarray
    values: list[str]

    @property
    def bits(self) -> Float[np.ndarray, " rows"]:
        """Entropy of the true posterior of each row."""
        return entropy(self.posterior)


def entropy(p: Float[np.ndarray, "rows values"]) -> Float[np.ndarray, " rows"]:
    """Return the entropy of each distribution, in bits."""
    return np.sum(p * -np.log2(np.where(p > 0, p, 1.0)), axis=1) + 0.0


def uncertainty(reasoner: Reasoner, traces: TraceSet, *, seed: int = 0) -> Uncertainty:
    """Measure what the latents hold of the true posterior at each thought.

    Args:
        reasoner: The reasoner that wrote the traces.
        traces: Traces of a task that knows its posterior, such as `graph`.
        seed: Seed of folds, controls and bootstrap.

    Raises:
        UsageError: The task knows no posterior, its entropy is the same in all problems at every thought, or fewer than
            100 thoughts have one.
    """
    from interp.loading.load import random_init

    rows = _rows(traces)
    difficulty = token_columns([_difficulty(traces[t]) for t in rows.trace])
    counted = np.concatenate([_counts(traces, rows), difficulty], axis=1)
    states = _states(reasoner, traces, rows)
    latents = _with_entropy(reasoner, states, rows.values)
    untrained = random_init(reasoner)
    inputs: dict[str, Features] = {
        LATENTS: latents,
        "question and text": token_columns(_words(traces, rows)),
        COUNTED: counted,
        "difficulty": difficulty,
        BOTH: np.concatenate([counted, latents], axis=1),
        "another problem's latents": latents[another_row(rows.thought, seed)],
        "untrained twin": _with_entropy(untrained, _states(untrained, traces, rows), rows.values),
    }
    errors = {name: _errors(x, rows, seed) for name, x in inputs.items()}
    errors[NOTHING] = _errors(np.empty((len(rows.trace), 0)), rows, seed)
    readers = pd.DataFrame(
        [
            {"reader": name, **_r2_columns(_explained(squared, errors[NOTHING], rows, seed)), "features": width}
            for name, squared in errors.items()
            for width in [inputs[name].shape[1] if name in inputs else 0]
        ]
    )
    best = str(readers[readers["reader"].isin(VISIBLE)].set_index("reader")["r2"].idxmax())
    lead = _explained(errors[BOTH], errors[best], rows, seed, errors[NOTHING])
    table = pd.DataFrame({"thought": rows.thought, "bits": rows.bits.round(3)})
    places = table.value_counts().rename("n").reset_index().sort_values(["thought", "bits"], ignore_index=True)
    decoded = _decoded(reasoner, states, rows, seed)
    verdict = _verdict(readers, lead, best)
    return Uncertainty(readers, decoded, places, _by_thought(errors, rows), lead, best, verdict)


def _by_thought(errors: dict[str, np.ndarray], rows: _Rows) -> pd.DataFrame:
    records = []
    for thought in np.unique(rows.thought):
        mask = rows.thought == thought
        whole = errors[NOTHING][mask].sum()
        shares = {name: float(1 - errors[name][mask].sum() / whole) for name in (LATENTS, *VISIBLE, BOTH)}
        records.append({"thought": int(thought), **shares, "n": int(mask.sum())})
    return pd.DataFrame(records)


def _with_entropy(reasoner: Reasoner, states: Features, values: Sequence[str]) -> Features:
    """Return the states with one more column, the entropy of what the model's own unembedding makes of them."""
    return np.concatenate([states, entropy(_unembedded(reasoner, states, values))[:, None].astype(np.float32)], axis=1)


def needs_posterior(task: str) -> None:
    """Check that a task knows the posterior after each step.

    Args:
        task: Its spec.

    Raises:
        UsageError: It does not.
    """
    if not make_task(task).has_posterior:
        raise UsageError(
            f"expected a task that knows the posterior after each step, got {make_task(task).name}; use one that does, "
            "such as graph."
        )


def _rows(traces: TraceSet) -> _Rows:
    needs_posterior(traces[0].problem.task)
    task = make_task(traces[0].problem.task)
    values = list(task.values)
    column = {value: k for k, value in enumerate(values)}
    indices, posterior = [], []
    for number, trace in enumerate(traces):
        for position, thought in enumerate(trace.thought):
            if not 1 <= thought <= trace.problem.n_steps:
                continue
            probabilities = task.posterior(trace.problem, thought)
            if probabilities:
                indices.append((number, thought, position - 1))
                posterior.append(np.zeros(len(values)))
                posterior[-1][[column[value] for value in probabilities]] = list(probabilities.values())
    if len(indices) < _MIN_ROWS:
        raise UsageError(
            f"expected at least {_MIN_ROWS} thoughts with a known posterior, got {len(indices)}; use more problems."
        )
    trace_, thought_, position_ = np.array(indices).T
    bits = entropy(np.array(posterior))
    vary = [
        k for k in np.unique(thought_) if bits[thought_ == k].std() > 1e-6 and (thought_ == k).sum() >= _MIN_ROWS // 2
    ]
    kept = np.isin(thought_, vary)
    if not kept.any():
        raise UsageError(
            "expected a posterior whose entropy varies between problems at some thought, got none; use other problems."
        )
    groups = np.array([traces[t].problem.structure for t in trace_[kept]])
    return _Rows(trace_[kept], thought_[kept], position_[kept], np.array(posterior)[kept], groups, values)


def _states(reasoner: Reasoner, traces: TraceSet, rows: _Rows) -> Features:
    """Return the final-norm state one position before each thought.

    A continuous reasoner feeds it back; any other reasoner writes from it.
    """
    return states_of_rows(reasoner, traces, rows.trace, rows.position, rows.thought, [ADDRESS])


def _words(traces: TraceSet, rows: _Rows) -> list[list[str]]:
    return [words_until(traces[t], position) for t, position in zip(rows.trace, rows.position, strict=True)]


def _counts(traces: TraceSet, rows: _Rows) -> Features:
    """Count the words of the question that occur once, twice, …, and the occurrences of its last and the last written word.

    Every problem draws new names, so this is what a reader of the text can see.
    """
    records = []
    for words, t in zip(_words(traces, rows), rows.trace, strict=True):
        question = traces[t].problem.question.split()
        count = Counter(question)
        frequencies = Counter(min(n, 9) for n in count.values())
        records.append([frequencies[n] for n in range(1, 10)] + [count[question[-1]], count[words[-1]], len(question)])
    return np.array(records, np.float32)


def _difficulty(trace: Trace) -> list[str]:
    return [f"{trace.problem.n_steps} steps", f"{len(trace.problem.question.split())} words"]


def _errors(inputs: Features, rows: _Rows, seed: int) -> Float[np.ndarray, " rows"]:
    """Return the squared errors of a ridge regression, fitted to other structures at the same thought.

    Strengths are chosen on a fold that is neither fitted nor tested. Without columns it predicts the thought's mean.
    """
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    fold, bits, out = folds(rows.groups, seed), rows.bits, np.zeros(len(rows.trace))
    for thought in np.unique(rows.thought):
        mask = rows.thought == thought
        for k in range(FOLDS):
            test, val = mask & (fold == k), mask & (fold == (k + 1) % FOLDS)
            train = mask & ~test & ~val
            mean = bits[train].mean()
            predicted, least = np.full(test.sum(), mean), ((bits[val] - mean) ** 2).mean()
            if inputs.shape[1]:
                scale = StandardScaler().fit(inputs[train])
                x = {
                    name: scale.transform(inputs[part]) for name, part in (("fit", train), ("val", val), ("test", test))
                }
                for strength in STRENGTHS:
                    fit = Ridge(alpha=strength).fit(x["fit"], bits[train])
                    error = ((fit.predict(x["val"]) - bits[val]) ** 2).mean()
                    if error < least:
                        predicted, least = fit.predict(x["test"]), error
            out[test] = (predicted - bits[test]) ** 2
    return out


def _explained(
    errors: np.ndarray, reference: np.ndarray, rows: _Rows, seed: int, whole: np.ndarray | None = None
) -> Estimate:
    """Return the share of the variance that `errors` leaves out compared with `reference`."""
    of_group, times = drawn_groups(rows.groups, _DRAWS, seed)
    parts = np.stack(
        [np.bincount(of_group, part) for part in (reference - errors, reference if whole is None else whole)]
    )
    drawn = times @ parts.T
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    return Estimate(float(parts[0].sum() / parts[1].sum()), float(low), float(high), len(errors))


def _r2_columns(share: Estimate) -> dict[str, float]:
    return {"r2": share.value, "ci_low": share.low, "ci_high": share.high, "n": share.n}


def _decoded(reasoner: Reasoner, states: Features, rows: _Rows, seed: int) -> pd.DataFrame:
    """Compare posteriors decoded from the states with the true ones.

    Columns: correlation of their entropies within places, mean divergence of the true from the decoded posterior, and
    calibration error on values drawn from the true posterior.
    """
    rng = np.random.default_rng(seed)
    drawn = np.array([rows.values[rng.choice(len(rows.values), p=p)] for p in rows.posterior])
    costs, classes = class_costs(states, drawn, rows.groups, seed=seed)
    probe = np.full((len(drawn), len(rows.values)), 1e-12)
    probe[:, [rows.values.index(value) for value in classes]] = 2.0**-costs
    decoders = {"unembedding": _unembedded(reasoner, states, rows.values), "probe": probe}
    records = []
    for name, p in decoders.items():
        p = p / p.sum(axis=1, keepdims=True)
        for suffix, order in (("", np.arange(len(p))), (", another problem's", another_row(rows.thought, seed))):
            records.append({"decoder": name + suffix, **_compared_with_truth(p[order], rows, drawn, seed)})
    return pd.DataFrame(records)


def _unembedded(reasoner: Reasoner, states: Features, values: Sequence[str]) -> np.ndarray:
    import torch
    from scipy.special import softmax

    ids = reasoner.tokenizer.convert_tokens_to_ids(list(values))
    with torch.no_grad():
        logits = reasoner.unembed(torch.from_numpy(states).to(reasoner.device)).float().cpu().numpy()
    return softmax(logits[:, ids].astype(np.float64), axis=1)


def _compared_with_truth(p: np.ndarray, rows: _Rows, drawn: np.ndarray, seed: int) -> dict[str, float]:
    decoded, true = entropy(p), rows.bits
    means = [np.array([x[rows.thought == k].mean() for k in rows.thought]) for x in (decoded, true)]
    a, b = decoded - means[0], true - means[1]
    of_group, times = drawn_groups(rows.groups, _DRAWS, seed)
    sums = np.stack([np.bincount(of_group, products) for products in (a * b, a * a, b * b)], axis=1)
    drawn_sums = times @ sums
    low, high = np.quantile(drawn_sums[:, 0] / np.sqrt(drawn_sums[:, 1] * drawn_sums[:, 2]), [0.025, 0.975])
    whole = sums.sum(axis=0)
    divergence = np.sum(
        rows.posterior * np.log2(np.where(rows.posterior > 0, rows.posterior, 1) / np.maximum(p, 1e-12)), axis=1
    )
    return {
        "correlation": float(whole[0] / np.sqrt(whole[1] * whole[2])),
        "ci_low": float(low),
        "ci_high": float(high),
        "true_bits": float(true.mean()),
        "decoded_bits": float(decoded.mean()),
        "divergence_bits": float(divergence.mean()),
        "ece": ece(drawn, np.array(rows.values), p),
        "n": len(p),
    }


def _verdict(readers: pd.DataFrame, lead: Estimate, over: str) -> str:
    r2 = readers.set_index("reader")["r2"]
    figures = (
        f"the latents predict {r2[LATENTS]:.3f} of the entropy's variance within places, {over!r} predicts "
        f"{r2[over]:.3f}, and the latents add {lead.value:+.3f} [{lead.low:.3f}, {lead.high:.3f}] to that"
    )
    if lead.low > 0:
        return f"the latents hold more of the true posterior's entropy than what is visible: {figures}."
    return f"no sign that the latents hold more of the true posterior's entropy than what is visible: {figures}."
