"""Reading thoughts with one feature for each value: SAEs beside untrained dictionaries on the 31-value chain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.activations.targets import structures
from interp.decoders.step_rows import step_rows
from interp.models.address import Address
from interp.sae import SAESettings, train_sae
from interp.sae.across.cross_layer import CrossLayerDictionary, train_cross_layer
from interp.sae.dictionaries import Dictionary, SAEDictionary, baseline
from interp.sae.quality import explained_variance, sparsity
from interp.sae.single_features import best_features, f1_scores
from interp.sae.splice import splice
from interp.statistics.intervals import drawn_groups, first_within_error, grouped_mean_interval
from interp.statistics.splits import grouped_split
from probes.decoder import ProbeDecoder

RIVALS = ("random_dictionary", "pca", "neurons")
MIDDLE = Address("blocks.1.hook_out")
_TRANSCODER: dict[str, Any] = {"d_sae": 512, "updates": 1500, "batch_size": 512}
# Settings tried at the middle layer; validation selects. The first follows SAELens's defaults and earlier work.
TRIED: dict[str, dict[str, Any]] = {
    "plain TopK": {"d_sae": 512, "k": 16, "samples": 200_000},
    "longer": {"d_sae": 512, "k": 16, "samples": 600_000},
    "larger": {"d_sae": 2048, "k": 16, "samples": 200_000},
    "sparser": {"d_sae": 512, "k": 4, "samples": 600_000},
    "smaller": {"d_sae": 128, "k": 4, "samples": 600_000},
    "in between": {"d_sae": 256, "k": 4, "samples": 600_000},
    "longer still": {"d_sae": 512, "k": 16, "samples": 1_500_000},
    "BatchTopK": {"d_sae": 256, "k": 4, "samples": 600_000, "kind": "batchtopk"},
    "Matryoshka": {"d_sae": 256, "k": 4, "samples": 600_000, "kind": "matryoshka"},
    "JumpReLU": {"d_sae": 256, "k": 4, "samples": 600_000, "kind": "jumprelu"},
    "step-aware sampling": {"d_sae": 256, "k": 4, "samples": 600_000, "by_step": True},
    "whitened": {"d_sae": 256, "k": 4, "samples": 600_000, "whiten": True},
    # These read the middle layer and reconstruct the states of `target` at the same position, from the same training.
    "own layer, transcoder": {**_TRANSCODER, "target": MIDDLE.name, "sparsity": 0.1},
    "end of the model": {**_TRANSCODER, "target": "ln_final.hook_out", "sparsity": 0.1},
    "fed-back thought, less sparse": {**_TRANSCODER, "target": "blocks.0.hook_in", "sparsity": 0.03},
    "fed-back thought": {**_TRANSCODER, "target": "blocks.0.hook_in", "sparsity": 0.1},
    "fed-back thought, sparser": {**_TRANSCODER, "target": "blocks.0.hook_in", "sparsity": 0.3},
}


class Readouts:
    """Thoughts of a store with the value after each step, split by structure into train, validation and test."""

    def __init__(self, store: ActivationSource, seed: int = 0) -> None:
        self.store = store
        self.rows, self.gold = step_rows(store, 0)
        self.groups = structures(store, self.rows)
        self.split = grouped_split(self.groups, seed)
        self.values = sorted(set(self.gold), key=int)
        self.holds = self.gold[:, None] == np.array(self.values)

    def best_site(self) -> tuple[Address, float]:
        """Return the first address where a dense probe is within one standard error of the best, and its test accuracy."""
        sites = sorted(self.store.addresses, key=lambda address: address.depth)
        probes = [self._fitted(ProbeDecoder(), site) for site in sites]
        scores = [self._right(probe, site, self.split.val).mean() for probe, site in zip(probes, sites, strict=True)]
        at = first_within_error(scores, [int(self.split.val.sum())] * len(sites))
        return sites[at], float(self._right(probes[at], sites[at], self.split.test).mean())

    def chains(self, site: Address, decoder: Any) -> dict[str, Any]:
        """Read held-out thoughts with a decoder.

        Returns:
            `right` (which steps are right), `step` (their fraction), `chain` (the fraction of problems with every step
            right) with its `ci`, `chain_other_problem` (the same with the thoughts of another problem of the same
            length), and `n`.
        """
        test = self.split.test
        rows, gold = self.rows[test], self.gold[test]
        predicted = self._fitted(decoder, site).decode(self.store, site, rows, top_k=1).texts[:, 0]
        swapped = predicted[self._of_another(rows)]
        traces = rows["trace"].to_numpy()
        order, first = np.unique(traces, return_index=True)
        chain_right = np.array(pd.Series(predicted == gold).groupby(traces).all().loc[order])
        other = pd.Series(swapped == gold).groupby(traces).all()
        low, high = grouped_mean_interval(chain_right, self.groups[test][first])
        return {
            "right": predicted == gold,
            "step": float((predicted == gold).mean()),
            "chain": float(chain_right.mean()),
            "ci": [low, high],
            "chain_other_problem": float(other.mean()),
            "n": len(order),
        }

    def _of_another(self, rows: pd.DataFrame) -> np.ndarray:
        """Return, for each row, the row of the same step in another problem with the same number of steps."""
        steps = rows.groupby("trace")["step"].transform("max").to_numpy()
        donors = np.arange(len(rows))
        for _, members in pd.Series(np.arange(len(rows))).groupby([steps, rows["step"].to_numpy()]):
            donors[members] = np.roll(
                members.to_numpy(), 1
            )  # rows of one length and step lie in the order of their traces
        return donors

    def f1(self, site: Address, dictionary: Dictionary) -> dict[str, Any]:
        """Return the median over values of the best single feature's F1; features are selected on training rows."""
        acts = self.store.acts(site, self.rows)
        features = dictionary.encode(acts)
        selected = best_features(features[self.split.train], self.holds[self.split.train])
        fires = features[:, selected.feature] > selected.threshold
        val, test = self.split.val, self.split.test
        low, high = _interval(fires[test], self.holds[test], self.groups[test])
        return {
            "f1": float(np.nanmedian(f1_scores(fires[test], self.holds[test]))),
            "validation": float(np.nanmedian(f1_scores(fires[val], self.holds[val]))),
            "ci": [low, high],
            "features": len(set(selected.feature)),
            "explained_variance": self._explained(dictionary, acts, test),
            **asdict(sparsity(features[test])),
        }

    def train(self, site: Address, seed: int = 0, **options: Any) -> Dictionary:
        """Train an SAE on the training rows of one address, or a dictionary from there to the address `target`."""
        rows = self.rows[self.split.train]
        if "target" in options:
            target = Address(options.pop("target"))
            return train_cross_layer(self.store, site, target, rows, seed=seed, **options)
        return SAEDictionary(train_sae(self.store, site, rows, settings=SAESettings(**options, seed=seed)))

    def train_on_other_rows(self, site: Address, seed: int = 0, **options: Any) -> CrossLayerDictionary:
        """Train the control of a cross-layer dictionary: each row's target is that of a row drawn at random."""
        rows = self.rows[self.split.train]
        drawn = rows.iloc[np.random.default_rng(seed).permutation(len(rows))]
        target = Address(options.pop("target"))
        return train_cross_layer(self.store, site, target, rows, target_rows=drawn, seed=seed, **options)

    def _explained(self, dictionary: Dictionary, acts: np.ndarray, part: np.ndarray) -> float:
        """Return the explained variance of what a dictionary reconstructs, on a part of the rows."""
        if isinstance(dictionary, CrossLayerDictionary):
            return dictionary.explained_variance(acts[part], self.store.acts(dictionary.address, self.rows[part]))
        return explained_variance(dictionary, acts[part])

    def rivals(
        self, site: Address, settings: Mapping[str, Any], kinds: Sequence[Any] = RIVALS, seed: int = 0
    ) -> tuple[dict[str, dict[str, Any]], dict[str, Dictionary]]:
        """Return untrained dictionaries with as many features; validation selects dense ones or ones as sparse as the SAE.

        Args:
            site: Address.
            settings: `d_sae` and `k` of the SAE, its features and how many are active.
            kinds: Kinds of dictionaries.
            seed: Seed of the random directions.
        """
        acts = self.store.acts(site, self.rows[self.split.train])
        figures, dictionaries = {}, {}
        for kind in kinds:
            tried = [baseline(kind, acts, d_sae=settings["d_sae"], k=k, seed=seed) for k in (settings["k"], None)]
            scores = [self.f1(site, dictionary) for dictionary in tried]
            better = int(scores[1]["validation"] > scores[0]["validation"])
            figures[kind], dictionaries[kind] = scores[better], tried[better]
        return figures, dictionaries  # type: ignore[return-value]

    def spliced(self, reasoner: Any, site: Address, dictionary: Dictionary) -> dict[str, Any]:
        """Return the rows of `interp.sae.splice.splice` for a dictionary, for no edit and for the mean."""
        mean = self.store.acts(site, self.rows[self.split.train]).mean(axis=0)
        table = splice(reasoner, self.store, site, self.rows[self.split.test], {"sae": dictionary}, mean)
        return table.set_index("condition").to_dict("index")

    def _fitted(self, decoder: Any, site: Address) -> Any:
        """Fit a decoder on the training rows."""
        train = self.split.train
        return decoder.fit(self.store, site, self.rows[train], self.gold[train])

    def _right(self, decoder: Any, site: Address, part: np.ndarray) -> np.ndarray:
        """Return which rows of a part a decoder reads right."""
        return decoder.decode(self.store, site, self.rows[part], top_k=1).texts[:, 0] == self.gold[part]


def _interval(fires: np.ndarray, holds: np.ndarray, groups: np.ndarray, draws: int = 300) -> tuple[float, float]:
    """Return a 95 % interval of the median F1 by resampling whole structures."""
    members, drawn = drawn_groups(groups, draws, seed=0)
    counts = np.zeros((3, drawn.shape[1], fires.shape[1]))
    for count, mask in zip(counts, (fires & holds, fires, holds), strict=True):
        np.add.at(count, members, mask)
    hits, claimed, positives = (drawn @ count for count in counts)
    low, high = np.quantile(np.median(2 * hits / np.maximum(claimed + positives, 1), axis=1), [0.025, 0.975])
    return float(low), float(high)
