"""One dictionary trained on two reasoners and the same problems, to find features that mean the same in both.

Each reasoner's activations are centred and scaled, so that neither dominates the dictionary. The features are compared
at the thoughts of both reasoners that belong to the same gold step of the same problem.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.activations.splits import split_rows
from interp.errors import StoreError, UsageError
from interp.models.address import Address
from interp.runtime.progress import Progress
from interp.sae.concepts import TARGETS, concepts_of
from interp.sae.dictionaries import SAEDictionary
from interp.sae.naming import match_concepts
from interp.sae.rows import Batches, select
from interp.sae.settings import SAEOptions, SAESettings
from interp.sae.train import checked_settings, fit

if TYPE_CHECKING:
    from sae_lens import SAE


@dataclass(frozen=True)
class SharedSummary:
    """Counts and fractions of the features of a shared dictionary.

    Attributes:
        features: Number of features.
        alive: Features that fire in at least one reasoner.
        fire_in_both: Features that fire in both.
        named_first: Features with a name in the first reasoner.
        named_second: Features with a name in the second.
        named_in_both: Features with a name in both.
        same: Features with the same name in both.
        same_share: `same` as a fraction of `named_in_both`.
        same_by_chance: That fraction where the second reasoner's names are permuted.
        correlation: Median correlation of the features that fire in both, over the same steps of the same problems.
        mismatched: The same over steps of different problems.
    """

    features: int
    alive: int
    fire_in_both: int
    named_first: int
    named_second: int
    named_in_both: int
    same: int
    same_share: float
    same_by_chance: float
    correlation: float
    mismatched: float

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return asdict(self)


@dataclass(frozen=True)
class SharedResult:
    """A dictionary of two reasoners.

    Attributes:
        sae: The SAE.
        features: One row for each feature. Columns for each reasoner, beginning with `first_` and `second_`: rate (at
            which it fires), closest (its best concept), f1 and q (held out), name (None without evidence). Further
            columns: same (named alike in both), correlation (over the same steps of the same problems), mismatched (over
            the same steps of other problems).
        summary: Counts and fractions.
    """

    sae: SAE
    features: pd.DataFrame
    summary: SharedSummary


def share(
    first: ActivationSource,
    second: ActivationSource,
    first_address: Address | str,
    second_address: Address | str,
    *,
    targets: Sequence[str] = TARGETS,
    settings: SAESettings | None = None,
    progress: Progress | None = None,
    **options: Unpack[SAEOptions],
) -> SharedResult:
    """Train one SAE on the thoughts of two reasoners, and compare what its features mean in each.

    Args:
        first: Activations of one reasoner.
        second: Activations of another on the same problems, in the same order.
        first_address: Where to read the first.
        second_address: Where to read the second.
        targets: Targets whose values are concepts.
        settings: Settings of the training; the defaults of `SAESettings` where None.
        progress: Called with the number of updates that are done, and of all.
        **options: Fields of `SAESettings` that override `settings`.

    Returns:
        The SAE, its features and a summary.

    Raises:
        StoreError: When the problems or the widths differ.
        UsageError: On invalid settings, or where no thought belongs to a gold step.
    """
    settings = checked_settings(settings, options)
    sides = [_Side(first, first.address(first_address)), _Side(second, second.address(second_address))]
    _check_match(*sides)
    both = np.concatenate([side.acts[side.split.train] for side in sides])
    batches = Batches(lambda numbers: both[numbers], len(both), settings.batch_size, settings.seed, width=both.shape[1])
    sae = fit(batches, settings, progress=progress)
    dictionary = SAEDictionary(sae)
    activations = [dictionary.encode(side.acts) for side in sides]
    meanings = [_meanings(side, acts, targets) for side, acts in zip(sides, activations, strict=True)]
    features = (
        pd.concat([meanings[0].add_prefix("first_"), meanings[1].add_prefix("second_")], axis=1)
        .rename_axis("feature")
        .reset_index()
    )
    named = features["first_name"].notna() & features["second_name"].notna()
    features["same"] = named & (features["first_name"] == features["second_name"])
    features["correlation"], features["mismatched"] = _correlations(
        sides[0], sides[1], activations[0], activations[1], settings.seed
    )
    return SharedResult(sae, features, _summary(features, settings.seed))


class _Side:
    """One reasoner's thoughts: rows, centred activations of scale 1, and the split that both reasoners share."""

    def __init__(self, store: ActivationSource, address: Address) -> None:
        self.store, self.address = store, address
        rows, self.mask = select(store, address)
        self.rows = rows[rows["step"] > 0]
        if self.rows.empty:
            raise UsageError(
                f"no thought of {store.name} belongs to a gold step, and a shared dictionary compares steps; use a "
                "reasoner whose thoughts do."
            )
        self.split = split_rows(store, self.rows, 0)
        raw = store.acts(address, self.rows)
        self.centre = raw[self.split.train].mean(axis=0)
        self.scale = float(np.sqrt(((raw[self.split.train] - self.centre) ** 2).mean()))
        self.acts = (raw - self.centre) / self.scale


def _check_match(first: _Side, second: _Side) -> None:
    """Raise `StoreError` where two reasoners' problems or widths differ."""
    first_ids, second_ids = ([t.problem.id for t in side.store.traces] for side in (first, second))
    if first_ids != second_ids:
        raise StoreError(
            f"{first.store.name} and {second.store.name} hold thoughts about other problems. Let both reasoners think "
            "about the same ones, in the same order."
        )
    if first.acts.shape[1] != second.acts.shape[1]:
        raise StoreError(
            f"{first.address} is {first.acts.shape[1]} wide and {second.address} {second.acts.shape[1]}; one dictionary "
            "needs one width. Choose reasoners of the same width."
        )


def _meanings(side: _Side, features: np.ndarray, targets: Sequence[str]) -> pd.DataFrame:
    """Return rate, closest, f1, q and name of each feature in one reasoner."""
    match = match_concepts(features, concepts_of(side.store, side.rows, targets), side.split)
    return pd.DataFrame(
        {
            "rate": (features > 0).mean(axis=0),
            "closest": match.names,
            "f1": match.f1,
            "q": match.q,
            "name": [name if named else None for name, named in zip(match.names, match.named, strict=True)],
        }
    )


def _correlations(
    first: _Side, second: _Side, first_features: np.ndarray, second_features: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return each feature's correlation over steps of the same problems, and over the same steps of other problems."""
    keys = ["trace", "step"]
    first_rows = first.rows[keys].assign(first=np.arange(len(first.rows))).drop_duplicates(keys)
    second_rows = second.rows[keys].assign(second=np.arange(len(second.rows))).drop_duplicates(keys)
    pairs = first_rows.merge(second_rows, on=keys)
    rng = np.random.default_rng(seed)
    other = pairs.groupby("step")["second"].transform(lambda rows: rng.permutation(rows.to_numpy())).to_numpy()
    paired = first_features[pairs["first"]]
    return _pearson(paired, second_features[pairs["second"]]), _pearson(paired, second_features[other])


def _pearson(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return the correlation of each column of `a` with that of `b`; NaN where one of them is constant."""
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    spread = np.linalg.norm(a, axis=0) * np.linalg.norm(b, axis=0)
    return np.where(spread > 0, (a * b).sum(axis=0) / np.where(spread > 0, spread, 1), np.nan)


def _summary(features: pd.DataFrame, seed: int) -> SharedSummary:
    alive = (features["first_rate"] > 0) | (features["second_rate"] > 0)
    both = (features["first_rate"] > 0) & (features["second_rate"] > 0)
    named = features["first_name"].notna() & features["second_name"].notna()
    first, second = features.loc[named, "first_name"].to_numpy(), features.loc[named, "second_name"].to_numpy()
    rng = np.random.default_rng(seed)
    chance = (
        float(np.mean([(first == rng.permutation(second)).mean() for _ in range(200)])) if len(first) else float("nan")
    )
    return SharedSummary(
        features=len(features),
        alive=int(alive.sum()),
        fire_in_both=int(both.sum()),
        named_first=int(features["first_name"].notna().sum()),
        named_second=int(features["second_name"].notna().sum()),
        named_in_both=int(named.sum()),
        same=int(features["same"].sum()),
        same_share=float((first == second).mean()) if len(first) else float("nan"),
        same_by_chance=chance,
        correlation=float(features.loc[both, "correlation"].median()),
        mismatched=float(features.loc[both, "mismatched"].median()),
    )
