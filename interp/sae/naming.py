"""Names for features without a language model: the concept of the problems that a feature detects.

A feature is named after the concept that it detects best on training rows, if it also detects it on held-out structures:
an F1 of at least `MIN_F1` there, and a q-value over all tried features below `MAX_Q`. Otherwise it has no name. The
evidence is listed with the name: rows with the highest activations, random rows where it fires (top activations alone
flatter), its effect on the logits, features that fire with it, and where in the thought it fires.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Float32
from scipy.stats import hypergeom

from interp.activations import ActivationSource
from interp.activations.splits import split_rows
from interp.models.address import Address
from interp.sae.concepts import TARGETS, Concepts, concepts_of
from interp.sae.dictionaries import SAEDictionary
from interp.sae.single_features import best_f1, f1_scores
from interp.statistics.intervals import q_values
from interp.statistics.splits import Masks

if TYPE_CHECKING:
    from sae_lens import SAE

    from interp.reasoners import Reasoner

MIN_F1, MAX_Q = 0.5, 0.01
_CONTEXT = 6  # tokens on either side
_SMALLEST_P = 1e-300


@dataclass(frozen=True)
class ConceptMatch:
    """The concept that each feature detects best, and how well it does on held-out rows. Arrays have shape (features,).

    Attributes:
        names: Name of the concept.
        train_f1: F1 on the training rows.
        predictions: Whether the feature is above its threshold, shape (held-out rows, features).
        truth: Whether the row has the feature's concept, shape (held-out rows, features).
        f1: F1 on the held-out rows; 0 where no row has the concept.
        p: P-value of `enrichment`.
        q: False discovery rate over all features that fire on training rows; NaN for the others.
        tested: Which features fire on training rows.
    """

    names: np.ndarray
    train_f1: Float[np.ndarray, " features"]
    predictions: Bool[np.ndarray, "rows features"]
    truth: Bool[np.ndarray, "rows features"]
    f1: Float[np.ndarray, " features"]
    p: Float[np.ndarray, " features"]
    q: Float[np.ndarray, " features"]
    tested: Bool[np.ndarray, " features"]

    @property
    def named(self) -> Bool[np.ndarray, " features"]:
        """Which features get the name of their concept."""
        return (self.f1 >= MIN_F1) & (self.q < MAX_Q)


def match_concepts(features: Float32[np.ndarray, "rows features"], concepts: Concepts, split: Masks) -> ConceptMatch:
    """Return for each feature the concept that it detects best on training rows, scored on held-out rows.

    Args:
        features: Feature activations, shape (rows, features).
        concepts: Concepts of the same rows.
        split: Training and held-out rows.

    Returns:
        The matches.
    """
    scores, thresholds = best_f1(features[split.train], concepts.holds[split.train])
    best, every = scores.argmax(axis=1), np.arange(features.shape[1])
    predictions = features[split.test] > thresholds[every, best]
    truth = concepts.holds[split.test][:, best]
    p = enrichment(predictions, truth)
    tested = (features[split.train] > 0).any(axis=0)
    return ConceptMatch(
        names=np.array([concepts.names[number] for number in best], dtype=object),
        train_f1=scores[every, best],
        predictions=predictions,
        truth=truth,
        f1=np.nan_to_num(f1_scores(predictions, truth)),
        p=p,
        q=q_values(np.where(tested, p, np.nan)),
        tested=tested,
    )


def name_features(
    sae: SAE,
    store: ActivationSource,
    address: Address,
    rows: pd.DataFrame,
    *,
    reasoner: Reasoner | None = None,
    targets: Sequence[str] = TARGETS,
    examples: int = 5,
    seed: int = 0,
) -> pd.DataFrame:
    """Name the features of an SAE after the concepts that they detect.

    Args:
        sae: An SAE of SAELens.
        store: Where the activations come from.
        address: Where to read them.
        rows: A part of the store's index.
        reasoner: Needed for the effects on logits.
        targets: Targets whose values are concepts.
        examples: Number of top and random rows for each feature.
        seed: Seed of the split by structure and of the random rows.

    Returns:
        One row for each feature, the highest scores first. Columns: feature, name (None without evidence), score
        (held-out F1), precision, recall, p, q, closest (the best concept, named or not), train_f1, rate (fraction of rows
        where it fires), mean (activation where it fires), top and random (lists of {trace, position, place, activation,
        context, values}), places (rate at each place), correlated (features, with their correlation), promoted and
        suppressed (tokens, with `reasoner`: what the feature's direction adds to the logits).
    """
    features = SAEDictionary(sae).encode(store.acts(address, rows))
    concepts = concepts_of(store, rows, targets, by_step=True)
    match = match_concepts(features, concepts, split_rows(store, rows, seed))
    hits = (match.predictions & match.truth).sum(axis=0)
    fires = features > 0
    rng = np.random.default_rng(seed)
    places = rows["place"].to_numpy()
    correlated = _correlated(features)
    effects = _logit_effects(sae, reasoner, address) if reasoner is not None else None
    contexts = Contexts(store, rows)
    records: list[dict[str, Any]] = []
    for f in range(features.shape[1]):
        active = np.flatnonzero(fires[:, f])
        top = active[np.argsort(-features[active, f], kind="stable")][:examples]
        random = rng.choice(active, min(examples, len(active)), replace=False) if len(active) else active
        records.append(
            {
                "feature": int(f),
                "name": match.names[f] if match.named[f] else None,
                "score": float(match.f1[f]),
                "precision": int(hits[f]) / max(int(match.predictions[:, f].sum()), 1),
                "recall": int(hits[f]) / max(int(match.truth[:, f].sum()), 1),
                "p": float(match.p[f]) if match.tested[f] else float("nan"),
                "q": float(match.q[f]),
                "closest": match.names[f] if match.tested[f] else None,
                "train_f1": float(match.train_f1[f]),
                "rate": len(active) / len(rows),
                "mean": float(features[active, f].mean()) if len(active) else 0.0,
                "top": contexts.examples(top, features[:, f]),
                "random": contexts.examples(random, features[:, f]),
                "places": pd.Series(fires[:, f]).groupby(places).mean().to_dict(),
                "correlated": correlated[f],
                "promoted": effects[f][0] if effects else [],
                "suppressed": effects[f][1] if effects else [],
            }
        )
    return pd.DataFrame(records).sort_values("score", ascending=False, kind="stable", ignore_index=True)


def enrichment(predictions: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return the p-value of Fisher's exact test (one-sided) for each column of predictions against the truth."""
    hits = (predictions & truth).sum(axis=0)
    p = hypergeom.sf(hits - 1, len(predictions), truth.sum(axis=0), predictions.sum(axis=0))
    return np.maximum(p, _SMALLEST_P)  # clamp p-values that underflow


def _correlated(features: Float32[np.ndarray, "rows features"], count: int = 5) -> list[list[dict[str, Any]]]:
    """Return for each feature those that correlate with it most, by more than 0.1."""
    centred = features - features.mean(axis=0)
    norm = np.linalg.norm(centred, axis=0)
    unit = centred / np.where(norm > 0, norm, 1)
    correlations = unit.T @ unit
    np.fill_diagonal(correlations, 0)
    order = np.argsort(-correlations, axis=1)[:, :count]
    return [
        [{"feature": int(g), "r": float(correlations[f, g])} for g in order[f] if correlations[f, g] > 0.1]
        for f in range(features.shape[1])
    ]


def _logit_effects(sae: SAE, reasoner: Reasoner, address: Address, count: int = 5) -> list[tuple[list, list]]:
    """Return the tokens whose logits each feature's direction raises and lowers most, after the final norm's scale.

    Inside the blocks this is the direct effect; later layers are left out.
    """
    import torch

    with torch.no_grad():
        directions = sae.W_dec.detach().float()
        directions = directions / directions.norm(dim=1, keepdim=True).clamp(min=1e-9)
        if address.norm == "pre":
            norm = getattr(reasoner.base, "ln_f", None) or getattr(reasoner.base, "norm", None)
            if getattr(norm, "bias", None) is not None:  # a LayerNorm removes the mean; an RMSNorm does not
                directions = directions - directions.mean(dim=1, keepdim=True)
            directions = directions * norm.weight.float() if norm is not None else directions
        effects = (reasoner.unembed.weight.float() @ directions.to(reasoner.device).T).T.cpu().numpy()
    tokens = reasoner.tokenizer.convert_ids_to_tokens(list(range(effects.shape[1])))
    strongest = []
    for row in effects:
        order = np.argsort(-row, kind="stable")
        raised = [{"token": tokens[i], "effect": float(row[i])} for i in order[:count]]
        lowered = [{"token": tokens[i], "effect": float(row[i])} for i in order[::-1][:count]]
        strongest.append((raised, lowered))
    return strongest


class Contexts:
    """The tokens around rows, with the token of the row in brackets."""

    def __init__(self, store: ActivationSource, rows: pd.DataFrame) -> None:
        """Prepare contexts of `rows`, a part of the index of `store`."""
        self.store = store
        self.trace, self.position = rows["trace"].to_numpy(), rows["position"].to_numpy()
        self.place = rows["place"].to_numpy()

    def examples(self, rows: np.ndarray, activations: np.ndarray) -> list[dict[str, Any]]:
        """Return an example for each row number: trace, position, place, activation, context, values."""
        return [self._example(int(row), float(activations[row])) for row in rows]

    def _example(self, row: int, activation: float) -> dict[str, Any]:
        trace, position = int(self.trace[row]), int(self.position[row])
        tokens = self.store.traces[trace].tokens
        before = tokens[max(0, position - _CONTEXT) : position]
        after = tokens[position + 1 : position + 1 + _CONTEXT]
        values = [step.value for step in self.store.traces[trace].problem.steps]
        return {
            "trace": trace,
            "position": position,
            "place": self.place[row],
            "activation": activation,
            "context": " ".join([*before, f"[{tokens[position]}]", *after]),
            "values": " ".join(values),
        }
