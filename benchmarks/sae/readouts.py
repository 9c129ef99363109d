"""Reading thoughts with one feature a value: dictionaries beside each other on the 31-value chain."""

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
from interp.sae.dictionaries import Dictionary, SAEDictionary, baseline
from interp.sae.quality import explained_variance, sparsity
from interp.sae.single_features import best_features, f1_scores
from interp.sae.splice import splice
from interp.statistics.intervals import drawn_groups, first_within_error, grouped_mean_interval
from interp.statistics.splits import grouped_split
from probes.decoder import ProbeDecoder

RIVALS = ("random_dictionary", "pca", "neurons")
MIDDLE = Address("blocks.1.hook_out")
# What is tried at the middle layer. Validation chooses; the first is what SAELens's defaults and earlier work suggest.
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
}


class Readouts:
    """The thoughts of a store and the value after each step, divided by structure into three parts."""

    def __init__(self, store: ActivationSource, seed: int = 0) -> None:
        self.store = store
        self.rows, self.gold = step_rows(store, 0)
        self.groups = structures(store, self.rows)
        self.split = grouped_split(self.groups, seed)
        self.values = sorted(set(self.gold), key=int)
        self.holds = self.gold[:, None] == np.array(self.values)

    def best_site(self) -> tuple[Address, float]:
        """Where the dense probe reads best on validation (the first within one standard error), and its test accuracy."""
        sites = sorted(self.store.addresses, key=lambda address: address.depth)
        probes = [self._fitted(ProbeDecoder(), site) for site in sites]
        scores = [self._right(probe, site, self.split.val).mean() for probe, site in zip(probes, sites, strict=True)]
        at = first_within_error(scores, [int(self.split.val.sum())] * len(sites))
        return sites[at], float(self._right(probes[at], sites[at], self.split.test).mean())

    def chains(self, site: Address, decoder: Any) -> dict[str, Any]:
        """How a decoder reads held-out thoughts: single steps, whole chains, and with another problem's thoughts.

        `right` (rows) says which steps are read right, `chain` is the share of problems whose every step is, with its
        interval, and `chain_other_problem` that share when the thoughts of another problem of the same length are read.
        """
        test = self.split.test
        rows, gold = self.rows[test], self.gold[test]
        said = self._fitted(decoder, site).decode(self.store, site, rows, top_k=1).texts[:, 0]
        swapped = said[self._of_another(rows)]
        by = rows["trace"].to_numpy()
        order, first = np.unique(by, return_index=True)
        whole = np.array(pd.Series(said == gold).groupby(by).all().loc[order])
        other = pd.Series(swapped == gold).groupby(by).all()
        low, high = grouped_mean_interval(whole, self.groups[test][first])
        return {
            "right": said == gold,
            "step": float((said == gold).mean()),
            "chain": float(whole.mean()),
            "ci": [low, high],
            "chain_other_problem": float(other.mean()),
            "n": len(order),
        }

    def _of_another(self, rows: pd.DataFrame) -> np.ndarray:
        """For each row that of the same step in another problem of as many steps."""
        steps = rows.groupby("trace")["step"].transform("max").to_numpy()
        out = np.arange(len(rows))
        for _, members in pd.Series(np.arange(len(rows))).groupby([steps, rows["step"].to_numpy()]):
            out[members] = np.roll(
                members.to_numpy(), 1
            )  # rows of one length and step lie in the order of their traces
        return out

    def f1(self, site: Address, dictionary: Dictionary) -> dict[str, Any]:
        """Median over values of the best single feature's F1: chosen on training rows, on validation and held-out rows."""
        acts = self.store.acts(site, self.rows)
        features = dictionary.encode(acts)
        chosen = best_features(features[self.split.train], self.holds[self.split.train])
        said = features[:, chosen.feature] > chosen.threshold
        val, test = self.split.val, self.split.test
        low, high = _interval(said[test], self.holds[test], self.groups[test])
        return {
            "f1": float(np.nanmedian(f1_scores(said[test], self.holds[test]))),
            "validation": float(np.nanmedian(f1_scores(said[val], self.holds[val]))),
            "ci": [low, high],
            "features": len(set(chosen.feature)),
            "explained_variance": explained_variance(dictionary, acts[test]),
            **asdict(sparsity(features[test])),
        }

    def train(self, site: Address, seed: int = 0, **options: Any) -> SAEDictionary:
        """Train an SAE on the training rows of an address."""
        settings = SAESettings(**options, seed=seed)
        return SAEDictionary(train_sae(self.store, site, self.rows[self.split.train], settings=settings))

    def rivals(
        self, site: Address, settings: Mapping[str, Any], kinds: Sequence[Any] = RIVALS, seed: int = 0
    ) -> tuple[dict[str, dict[str, Any]], dict[str, Dictionary]]:
        """The untrained dictionaries with as many features, dense or as sparse as the SAE, whichever validation prefers."""
        acts = self.store.acts(site, self.rows[self.split.train])
        figures, dictionaries = {}, {}
        for kind in kinds:
            tried = [baseline(kind, acts, d_sae=settings["d_sae"], k=k, seed=seed) for k in (settings["k"], None)]
            found = [self.f1(site, each) for each in tried]
            better = int(found[1]["validation"] > found[0]["validation"])
            figures[kind], dictionaries[kind] = found[better], tried[better]
        return figures, dictionaries  # type: ignore[return-value]

    def spliced(self, reasoner: Any, site: Address, dictionary: Dictionary) -> dict[str, Any]:
        """The row of `interp.sae.splice.splice` for this dictionary, and those of the original and the mean."""
        mean = self.store.acts(site, self.rows[self.split.train]).mean(axis=0)
        table = splice(reasoner, self.store, site, self.rows[self.split.test], {"sae": dictionary}, mean)
        return table.set_index("condition").to_dict("index")

    def _fitted(self, decoder: Any, site: Address) -> Any:
        train = self.split.train
        return decoder.fit(self.store, site, self.rows[train], self.gold[train])

    def _right(self, decoder: Any, site: Address, part: np.ndarray) -> np.ndarray:
        return decoder.decode(self.store, site, self.rows[part], top_k=1).texts[:, 0] == self.gold[part]


def _interval(said: np.ndarray, holds: np.ndarray, groups: np.ndarray, draws: int = 300) -> tuple[float, float]:
    """A 95 % interval of the median F1, resampling whole structures."""
    members, drawn = drawn_groups(groups, draws, seed=0)
    counts = np.zeros((3, drawn.shape[1], said.shape[1]))
    for count, each in zip(counts, (said & holds, said, holds), strict=True):
        np.add.at(count, members, each)
    hits, claimed, there = (drawn @ count for count in counts)
    low, high = np.quantile(np.median(2 * hits / np.maximum(claimed + there, 1), axis=1), [0.025, 0.975])
    return float(low), float(high)
