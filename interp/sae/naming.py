"""Names for features, without a language model: what a feature fires on, said in concepts of the problems.

A feature is named after the concept that it tells best on training rows, and only if it tells it on held-out
structures as well: an F1 of at least `NAMED` there and a q-value (over all features that were tried) below `CERTAIN`.
Otherwise it has no name. Beside the name stands the evidence: rows with the highest activations and rows drawn at
random among those where it fires, since top activations alone flatter; what it does to the logits; which features fire
with it; and where in the thought it fires.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float32
from scipy.stats import hypergeom

from interp.activations import ActivationSource
from interp.activations.targets import structures
from interp.models.address import Address
from interp.sae.concepts import TARGETS, concepts_of
from interp.sae.dictionaries import SAEDictionary
from interp.sae.single_features import best_f1, f1_scores
from interp.statistics.intervals import q_values
from interp.statistics.splits import grouped_split

if TYPE_CHECKING:
    from sae_lens import SAE

    from interp.reasoners import Reasoner

NAMED, CERTAIN = 0.5, 0.01
_AROUND = 6  # tokens of context on either side


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
    """One row for each feature, the clearest names first.

    Columns: feature, name (None where none is deserved), score (held-out F1), precision, recall, p, q, train_f1, rate
    (share of rows where it fires), mean (when it fires), top and random (lists of {trace, position, place, activation,
    context}), places (rate at each place of the thought), correlated (features, with their correlation), promoted and
    suppressed (tokens, with `reasoner`: what the feature's direction adds to the logits).
    """
    acts = store.acts(address, rows)
    features = SAEDictionary(sae).encode(acts)
    concepts = concepts_of(store, rows, targets, by_step=True)
    split = grouped_split(structures(store, rows), seed)
    score, thresholds = best_f1(features[split.train], concepts.holds[split.train])
    best = score.argmax(axis=1)
    every = np.arange(features.shape[1])
    said = features[split.test] > thresholds[every, best]
    truth = concepts.holds[split.test][:, best]
    held_out = np.nan_to_num(f1_scores(said, truth))
    p = enrichment(said, truth)
    fires = features > 0
    tested = fires[split.train].any(axis=0)
    q = q_values(np.where(tested, p, np.nan))
    drawn = np.random.default_rng(seed)
    places = rows["place"].to_numpy()
    near = _correlated(features)
    promoted = _logit_effects(sae, reasoner, address) if reasoner is not None else None
    contexts = Contexts(store, rows)
    out: list[dict[str, Any]] = []
    for f in every:
        active = np.flatnonzero(fires[:, f])
        deserved = held_out[f] >= NAMED and q[f] < CERTAIN
        top = active[np.argsort(-features[active, f], kind="stable")][:examples]
        random = drawn.choice(active, min(examples, len(active)), replace=False) if len(active) else active
        hits = int((said[:, f] & truth[:, f]).sum())
        out.append(
            {
                "feature": int(f),
                "name": concepts.names[best[f]] if deserved else None,
                "score": float(held_out[f]),
                "precision": hits / max(int(said[:, f].sum()), 1),
                "recall": hits / max(int(truth[:, f].sum()), 1),
                "p": float(p[f]) if tested[f] else float("nan"),
                "q": float(q[f]),
                "closest": concepts.names[best[f]] if tested[f] else None,
                "train_f1": float(score[f, best[f]]),
                "rate": len(active) / len(rows),
                "mean": float(features[active, f].mean()) if len(active) else 0.0,
                "top": contexts.of(top, features[:, f]),
                "random": contexts.of(random, features[:, f]),
                "places": pd.Series(fires[:, f]).groupby(places).mean().to_dict(),
                "correlated": near[f],
                "promoted": promoted[f][0] if promoted else [],
                "suppressed": promoted[f][1] if promoted else [],
            }
        )
    frame = pd.DataFrame(out)
    return frame.sort_values("score", ascending=False, kind="stable", ignore_index=True)


def enrichment(said: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """For each column the chance of at least so many hits if firing had nothing to do with the concept (Fisher)."""
    n = len(said)
    hits = (said & truth).sum(axis=0)
    # Far out the tail underflows; a p-value of exactly nothing would be a claim that no test can make.
    return np.maximum(hypergeom.sf(hits - 1, n, truth.sum(axis=0), said.sum(axis=0)), 1e-300)


def _correlated(features: Float32[np.ndarray, "rows features"], count: int = 5) -> list[list[dict[str, Any]]]:
    centred = features - features.mean(axis=0)
    norm = np.linalg.norm(centred, axis=0)
    unit = centred / np.where(norm > 0, norm, 1)
    with_each = unit.T @ unit
    np.fill_diagonal(with_each, 0)
    order = np.argsort(-with_each, axis=1)[:, :count]
    return [
        [{"feature": int(g), "r": float(with_each[f, g])} for g in order[f] if with_each[f, g] > 0.1]
        for f in range(features.shape[1])
    ]


def _logit_effects(sae: SAE, reasoner: Reasoner, address: Address, count: int = 5) -> list[tuple[list, list]]:
    """The tokens whose logits each feature's direction raises and lowers most, after the scale of the final norm.

    Inside the blocks this is the direct effect alone; what later layers make of it is left out.
    """
    import torch

    with torch.no_grad():
        directions = sae.W_dec.detach().float()
        directions = directions / directions.norm(dim=1, keepdim=True).clamp(min=1e-9)
        if address.norm == "pre":
            norm = getattr(reasoner.base, "ln_f", None) or getattr(reasoner.base, "norm", None)
            if getattr(norm, "bias", None) is not None:  # a LayerNorm, which takes the mean out; an RMSNorm does not
                directions = directions - directions.mean(dim=1, keepdim=True)
            directions = directions * norm.weight.float() if norm is not None else directions
        effect = reasoner.unembed.weight.float() @ directions.to(reasoner.device).T
    found = effect.T.cpu().numpy()
    tokens = reasoner.tokenizer.convert_ids_to_tokens(list(range(found.shape[1])))
    out = []
    for row in found:
        order = np.argsort(-row, kind="stable")
        high = [{"token": tokens[i], "effect": float(row[i])} for i in order[:count]]
        low = [{"token": tokens[i], "effect": float(row[i])} for i in order[::-1][:count]]
        out.append((high, low))
    return out


class Contexts:
    """The tokens around a row, with the place of the row marked."""

    def __init__(self, store: ActivationSource, rows: pd.DataFrame) -> None:
        self.store = store
        self.trace, self.position = rows["trace"].to_numpy(), rows["position"].to_numpy()
        self.place = rows["place"].to_numpy()

    def of(self, rows: np.ndarray, activations: np.ndarray) -> list[dict[str, Any]]:
        return [self._one(int(row), float(activations[row])) for row in rows]

    def _one(self, row: int, activation: float) -> dict[str, Any]:
        trace, position = int(self.trace[row]), int(self.position[row])
        tokens = self.store.traces[trace].tokens
        before, after = tokens[max(0, position - _AROUND) : position], tokens[position + 1 : position + 1 + _AROUND]
        values = [step.value for step in self.store.traces[trace].problem.steps]
        return {
            "trace": trace,
            "position": position,
            "place": self.place[row],
            "activation": activation,
            "context": " ".join([*before, f"[{tokens[position]}]", *after]),
            "values": " ".join(values),
        }
