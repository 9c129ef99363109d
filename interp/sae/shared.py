"""One dictionary over two reasoners on the same problems: which features mean the same in both.

Each reasoner's activations are centred and brought to one scale, so that neither fills the dictionary alone; what the
features say is then compared where both stand for the same gold step of the same problem.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.activations.targets import structures
from interp.errors import StoreError, UsageError
from interp.models.address import Address
from interp.runtime.progress import Progress
from interp.sae.concepts import TARGETS, concepts_of
from interp.sae.dictionaries import SAEDictionary
from interp.sae.naming import CERTAIN, NAMED, enrichment
from interp.sae.rows import Batches, select
from interp.sae.settings import SAESettings
from interp.sae.single_features import best_f1, f1_scores
from interp.sae.train import fit, with_options
from interp.statistics.intervals import q_values
from interp.statistics.splits import grouped_split

if TYPE_CHECKING:
    from sae_lens import SAE


@dataclass(frozen=True)
class Shared:
    """A dictionary of two reasoners.

    `features`: one row for each feature, with for each side (`first`, `second`) the rate at which it fires, its best
    concept, the held-out F1 and q of that, its name (None where none is deserved), and `same` (both named, and alike),
    `correlation` of its activations over matched steps of the same problems and `mismatched` over steps of other
    problems. `summary`: counts and shares, with `same_by_chance`: the share of features named on both sides that would
    be named alike if the second side's names were dealt out anew.
    """

    sae: SAE
    features: pd.DataFrame
    summary: dict[str, Any]


def share(
    first: ActivationSource,
    second: ActivationSource,
    first_address: Address | str,
    second_address: Address | str,
    *,
    targets: Sequence[str] = TARGETS,
    settings: SAESettings | None = None,
    progress: Progress | None = None,
    **options: Any,
) -> Shared:
    """Train one SAE on the thoughts of both stores, and compare what its features mean on either side.

    Raises `StoreError` where the stores are of other problems or of another width.
    """
    settings = with_options(settings, options)
    sides = [_Side(first, first.address(first_address)), _Side(second, second.address(second_address))]
    _match(*sides)
    both = np.concatenate([side.acts[side.split.train] for side in sides])
    batches = Batches(lambda places: both[places], len(both), settings.batch_size, settings.seed, width=both.shape[1])
    sae = fit(batches, settings, progress=progress)
    dictionary = SAEDictionary(sae)
    activations = [dictionary.encode(side.acts) for side in sides]
    found = [_meaning(side, acts, targets) for side, acts in zip(sides, activations, strict=True)]
    features = (
        pd.concat([found[0].add_prefix("first_"), found[1].add_prefix("second_")], axis=1)
        .rename_axis("feature")
        .reset_index()
    )
    named = features["first_name"].notna() & features["second_name"].notna()
    features["same"] = named & (features["first_name"] == features["second_name"])
    features["correlation"], features["mismatched"] = _correlations(
        sides[0], sides[1], activations[0], activations[1], settings.seed
    )
    return Shared(sae, features, _summary(features, settings.seed))


class _Side:
    """One reasoner's thoughts: rows, centred activations of scale 1, and the split that both sides share."""

    def __init__(self, store: ActivationSource, address: Address) -> None:
        self.store, self.address = store, address
        rows, self.mask = select(store, address)
        self.rows = rows[rows["step"] > 0]
        if self.rows.empty:
            raise UsageError(f"no thought of {store.name} stands for a gold step; a shared dictionary compares steps.")
        self.split = grouped_split(structures(store, self.rows), 0)
        raw = store.acts(address, self.rows)
        self.centre = raw[self.split.train].mean(axis=0)
        self.scale = float(np.sqrt(((raw[self.split.train] - self.centre) ** 2).mean()))
        self.acts = (raw - self.centre) / self.scale


def _match(first: _Side, second: _Side) -> None:
    ours, theirs = ([t.problem.id for t in side.store.traces] for side in (first, second))
    if ours != theirs:
        raise StoreError(
            f"{first.store.name} and {second.store.name} hold thoughts about other problems. Let both reasoners think "
            "about the same ones, in the same order."
        )
    if first.acts.shape[1] != second.acts.shape[1]:
        raise StoreError(
            f"{first.address} is {first.acts.shape[1]} wide and {second.address} {second.acts.shape[1]}; one dictionary "
            "needs one width. Choose reasoners of the same width."
        )


def _meaning(side: _Side, features: np.ndarray, targets: Sequence[str]) -> pd.DataFrame:
    concepts = concepts_of(side.store, side.rows, targets)
    score, thresholds = best_f1(features[side.split.train], concepts.holds[side.split.train])
    best = score.argmax(axis=1)
    said = features[side.split.test] > thresholds[np.arange(len(best)), best]
    truth = concepts.holds[side.split.test][:, best]
    fires = features > 0
    q = q_values(np.where(fires[side.split.train].any(axis=0), enrichment(said, truth), np.nan))
    f1 = np.nan_to_num(f1_scores(said, truth))
    closest = np.array([concepts.names[b] for b in best], dtype=object)
    name = [said if each >= NAMED and sure < CERTAIN else None for said, each, sure in zip(closest, f1, q, strict=True)]
    return pd.DataFrame({"rate": fires.mean(axis=0), "closest": closest, "f1": f1, "q": q, "name": name})


def _correlations(
    first: _Side, second: _Side, ours: np.ndarray, theirs: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Of each feature over steps of the same problems, and over the same steps of problems dealt out anew."""
    here = first.rows[["trace", "step"]].assign(ours=np.arange(len(first.rows))).drop_duplicates(["trace", "step"])
    there = second.rows[["trace", "step"]].assign(theirs=np.arange(len(second.rows))).drop_duplicates(["trace", "step"])
    pairs = here.merge(there, on=["trace", "step"])
    rng = np.random.default_rng(seed)
    other = pairs.groupby("step")["theirs"].transform(lambda rows: rng.permutation(rows.to_numpy())).to_numpy()
    a, b = ours[pairs["ours"]], theirs[pairs["theirs"]]
    return _pearson(a, b), _pearson(a, theirs[other])


def _pearson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    spread = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    return np.where(spread > 0, (a * b).sum(axis=0) / np.where(spread > 0, spread, 1), np.nan)


def _summary(features: pd.DataFrame, seed: int) -> dict[str, Any]:
    alive = (features["first_rate"] > 0) | (features["second_rate"] > 0)
    both = (features["first_rate"] > 0) & (features["second_rate"] > 0)
    named = features["first_name"].notna() & features["second_name"].notna()
    ours, theirs = features.loc[named, "first_name"].to_numpy(), features.loc[named, "second_name"].to_numpy()
    rng = np.random.default_rng(seed)
    chance = (
        float(np.mean([(ours == rng.permutation(theirs)).mean() for _ in range(200)])) if len(ours) else float("nan")
    )
    return {
        "features": len(features),
        "alive": int(alive.sum()),
        "fire_in_both": int(both.sum()),
        "named_first": int(features["first_name"].notna().sum()),
        "named_second": int(features["second_name"].notna().sum()),
        "named_in_both": int(named.sum()),
        "same": int(features["same"].sum()),
        "same_share": float((ours == theirs).mean()) if len(ours) else float("nan"),
        "same_by_chance": chance,
        "correlation": float(features.loc[both, "correlation"].median()),
        "mismatched": float(features.loc[both, "mismatched"].median()),
    }
