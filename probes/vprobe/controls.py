"""A V-probe and its controls: untrained models, shuffled labels, the majority, and features without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Unpack

import numpy as np
import pandas as pd

from interp.errors import UsageError, unknown
from interp.statistics.metrics import f1_interval, macro_f1
from interp.statistics.splits import Masks, grouped_split
from probes.estimators.linear import LogisticProbe
from probes.vprobe.fit import VProbe, VProbeOptions
from probes.vprobe.packing import Item

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

CONTROLS: dict[str, str] = {
    "random_init": "the same V-probe on untrained models of the same architecture",
    "shuffled_labels": "the same V-probe with shuffled training and validation labels",
    "bag_of_features": "logistic regression on each item's features, the bag of words read so far, and the description",
    "majority": "the most frequent training label",
}
_STRENGTHS = (0.003, 0.03, 0.3)


@dataclass(frozen=True)
class VProbeResult:
    """The predictions of a V-probe and of each control on the test items.

    Attributes:
        table: One row for each reader: macro-F1 with its 95 % interval over structures, accuracy, and counts.
        test: Numbers of the test items.
        gold: Their labels.
        groups: The structure of each test item.
        read: Reader to its predictions for the test items.
        notes: Seed, options, controls and the number of items in each part.
    """

    table: pd.DataFrame
    test: np.ndarray
    gold: np.ndarray
    groups: np.ndarray
    read: dict[str, np.ndarray]
    notes: dict[str, Any]

    def lead(self, over: Sequence[str] | None = None) -> tuple[float, tuple[float, float], str]:
        """Return by how much the probe's macro-F1 exceeds the best control's, the interval, and that control's name.

        Args:
            over: The controls to beat; by default all of them.
        """
        scores = self.table.set_index("reader")["macro_f1"]
        best = max(over or scores.index.drop("vprobe"), key=lambda name: scores[name])
        interval = f1_interval(self.gold, self.read["vprobe"], self.groups, against=self.read[best])
        return float(scores["vprobe"] - scores[best]), interval, best


def vprobe(
    reasoner: Reasoner,
    items: Sequence[Item],
    *,
    controls: Sequence[str] = tuple(CONTROLS),
    untrained: Mapping[str, Reasoner] | None = None,
    seed: int = 0,
    **options: Unpack[VProbeOptions],
) -> VProbeResult:
    """Fit a V-probe and its controls; they are fitted, selected and tested on different structures.

    Args:
        reasoner: The model to probe; its weights do not change.
        items: The questions, with their labels.
        controls: Names from `CONTROLS`.
        untrained: Row name to model for the control `random_init`; by default one freshly initialised model.
        seed: Seed of the split, the probe and the shuffled labels.
        **options: See `VProbeOptions`.

    Raises:
        UsageError: A control is unknown, there are no items, or there are too few structures to split.

    References:
        Ye et al. 2024, arXiv 2407.20311, section 4.2.
    """
    for name in controls:
        if name not in CONTROLS:
            raise unknown("control of a V-probe", name, CONTROLS)
    items = list(items)
    if not items:
        raise UsageError("expected items to probe, got none; make at least one for each label.")
    groups, gold = np.array([item.group for item in items]), np.array([item.label for item in items])
    split = grouped_split(groups, seed)
    readers = {"vprobe": _predicted(reasoner, items, gold, split, seed, options)}
    if "random_init" in controls:
        for name, model in (untrained or {"random_init": _fresh(reasoner, seed)}).items():
            readers[name] = _predicted(model, items, gold, split, seed, options)
    if "shuffled_labels" in controls:
        readers["shuffled_labels"] = _predicted(reasoner, items, _shuffled(gold, split, seed), split, seed, options)
    if "bag_of_features" in controls:
        readers["bag_of_features"] = _bag_of_features(items, gold, split)
    if "majority" in controls:
        values, counts = np.unique(gold[split.train], return_counts=True)
        readers["majority"] = np.full(int(split.test.sum()), values[counts.argmax()])
    tested, held = gold[split.test], groups[split.test]
    records = [_record(name, tested, read, held) for name, read in readers.items()]
    notes = {
        "seed": seed,
        "options": options,
        "controls": {name: CONTROLS[name] for name in controls},
        "items": {part: int(getattr(split, part).sum()) for part in ("train", "val", "test")},
    }
    return VProbeResult(pd.DataFrame(records), np.flatnonzero(split.test), tested, held, readers, notes)


def _fresh(reasoner: Reasoner, seed: int) -> Reasoner:
    from interp.loading.load import random_init

    return random_init(reasoner, seed)


def _record(name: str, gold: np.ndarray, read: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
    low, high = f1_interval(gold, read, groups)
    return {
        "reader": name,
        "macro_f1": macro_f1(gold, read),
        "ci_low": low,
        "ci_high": high,
        "accuracy": float((gold == read).mean()),
        "n": len(gold),
        "structures": len(np.unique(groups)),
    }


def _predicted(
    reasoner: Reasoner, items: list[Item], labels: np.ndarray, split: Masks, seed: int, options: Mapping[str, Any]
) -> np.ndarray:
    from dataclasses import replace

    labelled = [replace(item, label=str(label)) for item, label in zip(items, labels, strict=True)]
    train, val, test = ([labelled[k] for k in np.flatnonzero(part)] for part in (split.train, split.val, split.test))
    return VProbe(seed=seed, **options).fit(reasoner, train, val).predict(test)


def _shuffled(gold: np.ndarray, split: Masks, seed: int) -> np.ndarray:
    rng, labels = np.random.default_rng(seed), gold.copy()
    for part in (split.train, split.val):
        labels[part] = rng.permutation(labels[part])
    return labels


def _bag_of_features(items: list[Item], gold: np.ndarray, split: Masks) -> np.ndarray:
    """Return test predictions at the strength that is best on validation."""
    inputs = bag_of_features(items)
    fits = []
    for strength in _STRENGTHS:
        fit = LogisticProbe(C=strength, tol=1e-3).fit(inputs[split.train], gold[split.train])
        fits.append((macro_f1(gold[split.val], fit.predict(inputs[split.val])), fit))
    return max(fits, key=lambda scored: scored[0])[1].predict(inputs[split.test])


def bag_of_features(items: Sequence[Item]) -> np.ndarray:
    """Return each item's own features, how often each token was read, and which tokens describe it.

    Args:
        items: The questions.

    Returns:
        Features, shape (items, columns), without columns that never vary.

    Raises:
        UsageError: Some items have `features` and others have none.
    """
    size = 1 + max(max(item.trace.token_ids) for item in items)
    words = sorted({(place, token) for item in items for place, token in enumerate(item.about)})
    column = {word: size + k for k, word in enumerate(words)}
    bag = np.zeros((len(items), size + len(words)), np.float32)
    for row, item in enumerate(items):
        np.add.at(bag[row], np.array(item.trace.token_ids[: item.n_positions]), 1.0)
        bag[row, [column[place, token] for place, token in enumerate(item.about)]] = 1.0
    features = [item.features for item in items if item.features is not None]
    if features and len(features) < len(items):
        raise UsageError(
            f"expected features for all items or for none, got them for {len(features)} of {len(items)}; add or remove some."
        )
    columns = np.concatenate([bag, np.stack(features)], axis=1) if features else bag
    return columns[:, columns.std(axis=0) > 0]
