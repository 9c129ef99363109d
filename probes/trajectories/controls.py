"""The controls of a trajectory probe: what labels, lengths, words and any direction give with the same pooling."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.statistics.splits import Masks
from probes.estimators.linear import RidgeProbe
from probes.sweeps import controls as inputs_of
from probes.sweeps.controls import one_hot_columns
from probes.sweeps.unit import SHUFFLES, shuffled
from probes.trajectories.areas import area
from probes.trajectories.fit import Choice, choose, event_scores
from probes.trajectories.pooling import Pooled, Spans, pool

CONTROLS: dict[str, str] = {
    "shuffled labels": "the same fit, the labels of whole traces shuffled (mean and range of four shuffles)",
    "random direction": "random directions of the probe's norm, pooled alike (mean and 95 % range of 20, the sign chosen on validation)",
    "length": "the number of positions of the trace alone; the maximum over more positions is larger",
    "question only": "a reader of the question's words",
    "before thinking": "a probe of the state at the question's end",
    "text only": "a reader of all words of the thought",
    "own token": "the same trajectory of each position's word in place of its state",
}
#: Controls that score each trace, so that the probe's lead over them can be measured on the same traces.
RIVALS = ("length", "question only", "before thinking", "text only", "own token")
_DRAWS = 20
_MOST_TOKENS = 1000


@dataclass(frozen=True)
class ControlScores:
    """What the controls give on the test traces of one split.

    Attributes:
        pooled: Scores of the test traces by control, shape (test traces, events), in standard deviations of validation.
        draws: Test AUROC of each shuffle or direction, by control.
        why_not: Why a control could not be computed.
    """

    pooled: dict[str, Pooled] = field(default_factory=dict)
    draws: dict[str, list[float]] = field(default_factory=dict)
    why_not: dict[str, str] = field(default_factory=dict)


def control_scores(
    source: ActivationSource,
    rows: pd.DataFrame,
    labels: np.ndarray,
    names: Sequence[str],
    split: Masks,
    chosen: Choice,
    *,
    estimator: str,
    poolings: Sequence[str],
    window: int,
    seed: int,
) -> ControlScores:
    """Compute all controls on one split.

    Args:
        source: The activations.
        rows: The rows that the probe reads.
        labels: Label of each trace, shape (traces,).
        names: The events.
        split: Train, validation and test traces.
        chosen: The probe and its pooling.
        estimator: Name of the estimator.
        poolings: Poolings that a control may choose from, as the probe does.
        window: Positions of a rolling mean.
        seed: Seed of shuffles and directions.
    """
    spans, out, rng = Spans.of(rows["trace"].to_numpy()), ControlScores(), np.random.default_rng(seed)
    positive = labels[:, None] == np.array(names)[None, :]
    acts = source.acts(chosen.source, rows)
    fit = partial(choose, names=names, spans=spans, split=split, estimator=estimator, poolings=poolings, window=window)

    def on_test(pooled: Pooled) -> Pooled:
        val = pooled[split.val]
        return (pooled[split.test] - val.mean()) / (val.std() or 1.0)

    areas = []
    for _ in range(SHUFFLES):
        wrong_labels = shuffled(labels, split, rng)
        if len(set(wrong_labels[split.train])) < 2:
            break
        again = fit({chosen.source: lambda: acts}, wrong_labels)
        pooled = pool(again.scores, spans, again.pooling, window)
        areas.append(area(pooled[split.test].ravel(), positive[split.test].ravel()))
    out.draws["shuffled labels"] = areas
    out.draws["random direction"] = _random_directions(acts, names, positive, spans, split, chosen, window, rng)

    lengths = np.repeat(spans.lengths[:, None].astype(float), len(names), axis=1)
    if len(set(spans.lengths.tolist())) == 1:
        out.why_not["length"] = "all traces have as many positions"
    else:
        sign = 1.0 if _or_half(area(lengths[split.val].ravel(), positive[split.val].ravel())) >= 0.5 else -1.0
        out.pooled["length"] = on_test(sign * lengths)

    ends = rows.iloc[spans.starts + spans.lengths - 1].reset_index(drop=True)
    readers: dict[str, Callable[[], inputs_of.ControlInputs]] = {
        "question only": lambda: inputs_of.question_only(source, ends),
        "before thinking": lambda: inputs_of.before_thinking(source, ends),
        "text only": lambda: inputs_of.text_only(source, ends),
    }
    for name, make in readers.items():
        alternatives = make()
        if not alternatives.inputs:
            out.why_not[name] = alternatives.why_not
            continue
        scored = {}
        for which, features in alternatives.inputs.items():
            probe = RidgeProbe().fit(features[split.train], labels[split.train])
            scores = event_scores(probe, features, names)
            scored[which] = (area(scores[split.val].ravel(), positive[split.val].ravel()), scores)
        out.pooled[name] = on_test(max(scored.values(), key=lambda pair: _or_half(pair[0]))[1])

    tokens, counts = np.unique(rows["token_id"].to_numpy()[split.train[spans.of_row]], return_counts=True)
    frequent = tokens[np.argsort(-counts, kind="stable")[:_MOST_TOKENS]]
    own = np.where(np.isin(rows["token_id"].to_numpy(), frequent), rows["token_id"].to_numpy(), -1)
    if len(set(own.tolist())) == 1:
        out.why_not["own token"] = "all positions hold the same token"
    else:
        again = fit({"own token": lambda: one_hot_columns(own)}, labels)
        out.pooled["own token"] = on_test(pool(again.scores, spans, again.pooling, window))
    return out


def _random_directions(
    acts: np.ndarray,
    names: Sequence[str],
    positive: np.ndarray,
    spans: Spans,
    split: Masks,
    chosen: Choice,
    window: int,
    rng: np.random.Generator,
) -> list[float]:
    """Return the test AUROC of random directions, pooled as the probe is."""
    norms = np.linalg.norm(directions(chosen, names), axis=1) if hasattr(chosen.probe, "coef_") else np.ones(len(names))
    out = []
    for _ in range(_DRAWS):
        drawn = rng.normal(size=(len(names), acts.shape[1]))
        drawn *= (norms / np.linalg.norm(drawn, axis=1))[:, None]
        scores = acts @ drawn.T
        pooled = {sign: pool(sign * scores, spans, chosen.pooling, window) for sign in (1.0, -1.0)}
        by_sign = {s: area(p[split.val].ravel(), positive[split.val].ravel()) for s, p in pooled.items()}
        sign = max(by_sign, key=lambda s: _or_half(by_sign[s]))
        out.append(area(pooled[sign][split.test].ravel(), positive[split.test].ravel()))
    return out


def directions(chosen: Choice, names: Sequence[str]) -> np.ndarray:
    """Return the direction along which each event's score rises, shape (events, d_model).

    Args:
        chosen: A choice with a linear probe.
        names: The events.
    """
    coef = np.asarray(chosen.probe.coef_)  # type: ignore[attr-defined]
    if len(coef) == 1:
        coef = np.concatenate([-coef, coef])
    elif len(coef) == 2:  # the score is the difference of the two
        coef = np.stack([coef[0] - coef[1], coef[1] - coef[0]])
    classes = [str(name) for name in chosen.probe.classes_]
    return np.stack([coef[classes.index(name)] if name in classes else np.zeros(coef.shape[1]) for name in names])


def _or_half(value: float) -> float:
    return value if value == value else 0.5
