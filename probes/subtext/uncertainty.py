"""Uncertainty: does a reasoner hold how unsure one can be, where its text does not say?

Some tasks know what can be known after a number of steps about where they led: `graph` says that every node at that
distance from the root is as likely as any other to one who walks on at random. The entropy of that posterior, in bits,
differs between problems at the same place. It is read from the state that becomes (or writes) a thought, beside
readers of the visible words, of difficulty, of another problem's state, and of an untrained twin; all of them within
one place, so that the place alone explains nothing. And the posterior itself is decoded, by the model's own
unembedding and by a probe, and its entropy set beside the true one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from interp.errors import UsageError
from interp.problems import task as make_task
from interp.problems.base import KnowsPosterior
from interp.statistics.intervals import drawn_groups
from interp.statistics.metrics import ece
from interp.traces import Trace, TraceSet
from probes.subtext.information import FOLDS, Features, class_costs, folds
from probes.subtext.latent_features import another_row, states_of_rows, words_until
from probes.subtext.text_features import token_columns

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

LATENTS, COUNTED, BOTH = "latents", "words counted, and difficulty", "words counted, difficulty and latents"
VISIBLE = ("question and text", COUNTED, "difficulty")
NOTHING = "place alone"
ADDRESS = "ln_final.hook_out"
STRENGTHS = (1.0, 10.0, 100.0, 1000.0, 10000.0)
_FEWEST = 100  # rows below which nothing is said
_DRAWS = 1000


@dataclass(frozen=True)
class Uncertainty:
    """`readers`: for each input the share of the entropy's variance within places that it predicts on other structures.

    `decoded`: for each way to decode the posterior, how its entropy goes with the true one. `lead` is by how much the
    share rises when the best reader of what is visible is given the latents as well. `places` says, for each thought
    and true entropy, how often it occurs; `by_thought` the shares of latents and of what is visible, thought by thought.
    """

    readers: pd.DataFrame
    decoded: pd.DataFrame
    places: pd.DataFrame
    by_thought: pd.DataFrame
    lead: dict[str, Any]
    says: str


@dataclass(frozen=True)
class _Rows:
    """One row for each thought of each trace: which, the state's position, the true posterior over `values`."""

    trace: Int[np.ndarray, " rows"]
    thought: Int[np.ndarray, " rows"]
    position: Int[np.ndarray, " rows"]
    posterior: Float[np.ndarray, "rows values"]
    groups: np.ndarray
    values: list[str]

    @property
    def bits(self) -> Float[np.ndarray, " rows"]:
        return entropy(self.posterior)


def entropy(p: Float[np.ndarray, "rows values"]) -> Float[np.ndarray, " rows"]:
    """Of each distribution, in bits."""
    return np.sum(p * -np.log2(np.where(p > 0, p, 1.0)), axis=1) + 0.0


def uncertainty(reasoner: Reasoner, traces: TraceSet, *, seed: int = 0) -> Uncertainty:
    """What `reasoner` holds of the true posterior at each thought of `traces`.

    Raises `UsageError` where the task knows no posterior, where it is equally wide in all problems at every place, and
    where fewer than 100 thoughts are left.
    """
    from interp.loading.load import random_init

    rows = _rows(traces)
    difficulty = token_columns([_difficulty(traces[t]) for t in rows.trace])
    counted = np.concatenate([_counts(traces, rows), difficulty], axis=1)
    states = _states(reasoner, traces, rows)
    own = _with_entropy(reasoner, states, rows.values)
    twin = random_init(reasoner)
    inputs: dict[str, Features] = {
        LATENTS: own,
        "question and text": token_columns(_words(traces, rows)),
        COUNTED: counted,
        "difficulty": difficulty,
        BOTH: np.concatenate([counted, own], axis=1),
        "another problem's latents": own[another_row(rows.thought, seed)],
        "untrained twin": _with_entropy(twin, _states(twin, traces, rows), rows.values),
    }
    errors = {name: _errors(x, rows, seed) for name, x in inputs.items()}
    errors[NOTHING] = _errors(np.empty((len(rows.trace), 0)), rows, seed)
    readers = pd.DataFrame(
        [
            {"reader": name, **_explained(each, errors[NOTHING], rows, seed), "features": _width(inputs, name)}
            for name, each in errors.items()
        ]
    )
    best = str(readers[readers["reader"].isin(VISIBLE)].set_index("reader")["r2"].idxmax())
    lead = {"over": best, **_explained(errors[BOTH], errors[best], rows, seed, errors[NOTHING])}
    table = pd.DataFrame({"thought": rows.thought, "bits": rows.bits.round(3)})
    places = table.value_counts().rename("n").reset_index().sort_values(["thought", "bits"], ignore_index=True)
    decoded = _decoded(reasoner, states, rows, seed)
    return Uncertainty(readers, decoded, places, _by_thought(errors, rows), lead, _says(readers, lead))


def _by_thought(errors: dict[str, np.ndarray], rows: _Rows) -> pd.DataFrame:
    out = []
    for thought in np.unique(rows.thought):
        here = rows.thought == thought
        whole = errors[NOTHING][here].sum()
        shares = {name: float(1 - errors[name][here].sum() / whole) for name in (LATENTS, *VISIBLE, BOTH)}
        out.append({"thought": int(thought), **shares, "n": int(here.sum())})
    return pd.DataFrame(out)


def _with_entropy(reasoner: Reasoner, states: Features, values: Sequence[str]) -> Features:
    """The states, and beside them the entropy of what the model's own unembedding makes of them."""
    return np.concatenate([states, entropy(_unembedded(reasoner, states, values))[:, None].astype(np.float32)], axis=1)


def _rows(traces: TraceSet) -> _Rows:
    task = make_task(traces[0].problem.task)
    if not isinstance(task, KnowsPosterior):
        raise UsageError(
            f"task {task.name} does not say what can be known after each step, so there is no true uncertainty to "
            "compare with. Use one that does, such as graph."
        )
    values = list(task.values)
    column = {value: k for k, value in enumerate(values)}
    found, posterior = [], []
    for number, trace in enumerate(traces):
        for position, thought in enumerate(trace.thought):
            if not 1 <= thought <= trace.problem.n_steps:
                continue
            told = task.posterior(trace.problem, thought)
            if told:
                found.append((number, thought, position - 1))
                posterior.append(np.zeros(len(values)))
                posterior[-1][[column[value] for value in told]] = list(told.values())
    if len(found) < _FEWEST:
        raise UsageError(
            f"{len(found)} thoughts have a known posterior; at least {_FEWEST} are needed. Take more problems."
        )
    trace_, thought_, position_ = np.array(found).T
    bits = entropy(np.array(posterior))
    vary = [
        k for k in np.unique(thought_) if bits[thought_ == k].std() > 1e-6 and (thought_ == k).sum() >= _FEWEST // 2
    ]
    kept = np.isin(thought_, vary)
    if not kept.any():
        raise UsageError(
            "the true posterior is equally wide in all of these problems at every thought; ask other ones."
        )
    groups = np.array([traces[t].problem.structure for t in trace_[kept]])
    return _Rows(trace_[kept], thought_[kept], position_[kept], np.array(posterior)[kept], groups, values)


def _states(reasoner: Reasoner, traces: TraceSet, rows: _Rows) -> Features:
    """The final-norm state one position before each thought: what a continuous reasoner feeds back, any other writes from."""
    return states_of_rows(reasoner, traces, rows.trace, rows.position, rows.thought, [ADDRESS])


def _words(traces: TraceSet, rows: _Rows) -> list[list[str]]:
    return [words_until(traces[t], at) for t, at in zip(rows.trace, rows.position, strict=True)]


def _counts(traces: TraceSet, rows: _Rows) -> Features:
    """How many words of the question occur once, twice, … in it, and how often its last word and the last written one do.

    Names mean nothing by themselves where every problem gives them anew; what a reader who counts can see is this.
    """
    out = []
    for words, t in zip(_words(traces, rows), rows.trace, strict=True):
        question = traces[t].problem.question.split()
        count = Counter(question)
        often = Counter(min(n, 9) for n in count.values())
        out.append([often[n] for n in range(1, 10)] + [count[question[-1]], count[words[-1]], len(question)])
    return np.array(out, np.float32)


def _difficulty(trace: Trace) -> list[str]:
    return [f"{trace.problem.n_steps} steps", f"{len(trace.problem.question.split())} words"]


def _errors(inputs: Features, rows: _Rows, seed: int) -> Float[np.ndarray, " rows"]:
    """Squared errors of a ridge regression, fitted to other structures at the same thought; strengths chosen on a fold
    that is neither fitted nor tested. Without columns it says the mean of that thought."""
    from sklearn.linear_model import Ridge
    from sklearn.preprocessing import StandardScaler

    fold, bits, out = folds(rows.groups, seed), rows.bits, np.zeros(len(rows.trace))
    for thought in np.unique(rows.thought):
        here = rows.thought == thought
        for k in range(FOLDS):
            test, val = here & (fold == k), here & (fold == (k + 1) % FOLDS)
            train = here & ~test & ~val
            mean = bits[train].mean()
            said, least = np.full(test.sum(), mean), ((bits[val] - mean) ** 2).mean()
            if inputs.shape[1]:
                scale = StandardScaler().fit(inputs[train])
                x = {
                    name: scale.transform(inputs[part]) for name, part in (("fit", train), ("val", val), ("test", test))
                }
                for strength in STRENGTHS:
                    fit = Ridge(alpha=strength).fit(x["fit"], bits[train])
                    error = ((fit.predict(x["val"]) - bits[val]) ** 2).mean()
                    if error < least:
                        said, least = fit.predict(x["test"]), error
            out[test] = (said - bits[test]) ** 2
    return out


def _explained(
    errors: np.ndarray, beside: np.ndarray, rows: _Rows, seed: int, whole: np.ndarray | None = None
) -> dict[str, float]:
    """The share of the variance that `errors` leave out compared with `beside`, with a grouped 95 % interval."""
    of_group, times = drawn_groups(rows.groups, _DRAWS, seed)
    parts = np.stack([np.bincount(of_group, each) for each in (beside - errors, beside if whole is None else whole)])
    drawn = times @ parts.T
    low, high = np.quantile(drawn[:, 0] / drawn[:, 1], [0.025, 0.975])
    return {
        "r2": float(parts[0].sum() / parts[1].sum()),
        "ci_low": float(low),
        "ci_high": float(high),
        "n": len(errors),
    }


def _width(inputs: dict[str, Features], name: str) -> int:
    return inputs[name].shape[1] if name in inputs else 0


def _decoded(reasoner: Reasoner, states: Features, rows: _Rows, seed: int) -> pd.DataFrame:
    """Posteriors decoded from the states, beside the true ones: correlation of their entropies within places, the mean
    divergence of the true from the decoded one, and the calibration error on values drawn from the true one."""
    rng = np.random.default_rng(seed)
    drawn = np.array([rows.values[rng.choice(len(rows.values), p=p)] for p in rows.posterior])
    costs, classes = class_costs(states, drawn, rows.groups, seed=seed)
    probe = np.full((len(drawn), len(rows.values)), 1e-12)
    probe[:, [rows.values.index(each) for each in classes]] = 2.0**-costs
    decoders = {"unembedding": _unembedded(reasoner, states, rows.values), "probe": probe}
    out = []
    for name, p in decoders.items():
        p = p / p.sum(axis=1, keepdims=True)
        for what, order in (("", np.arange(len(p))), (", another problem's", another_row(rows.thought, seed))):
            out.append({"decoder": name + what, **_beside_truth(p[order], rows, drawn, seed)})
    return pd.DataFrame(out)


def _unembedded(reasoner: Reasoner, states: Features, values: Sequence[str]) -> np.ndarray:
    import torch
    from scipy.special import softmax

    ids = reasoner.tokenizer.convert_tokens_to_ids(list(values))
    with torch.no_grad():
        logits = reasoner.unembed(torch.from_numpy(states).to(reasoner.device)).float().cpu().numpy()
    return softmax(logits[:, ids].astype(np.float64), axis=1)


def _beside_truth(p: np.ndarray, rows: _Rows, drawn: np.ndarray, seed: int) -> dict[str, float]:
    said, true = entropy(p), rows.bits
    means = [np.array([x[rows.thought == k].mean() for k in rows.thought]) for x in (said, true)]
    a, b = said - means[0], true - means[1]
    of_group, times = drawn_groups(rows.groups, _DRAWS, seed)
    sums = np.stack([np.bincount(of_group, each) for each in (a * b, a * a, b * b)], axis=1)
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
        "decoded_bits": float(said.mean()),
        "divergence_bits": float(divergence.mean()),
        "ece": ece(drawn, np.array(rows.values), p),
        "n": len(p),
    }


def _says(readers: pd.DataFrame, lead: dict[str, Any]) -> str:
    r2 = readers.set_index("reader")["r2"]
    low, high = lead["ci_low"], lead["ci_high"]
    told = (
        f"{r2[LATENTS]:.3f} of its variance within places by themselves, {r2[lead['over']]:.3f} is told by "
        f"{lead['over']!r}, and the latents add {lead['r2']:+.3f} [{low:.3f}, {high:.3f}] to that"
    )
    if low > 0:
        return f"the latents hold more of the true posterior's width than what is visible tells: {told}."
    return f"no sign that the latents hold more of the true posterior's width than what is visible tells: {told}."
