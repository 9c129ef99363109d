"""A V-probe beside its controls: untrained models, shuffled labels, the majority, and features without a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interp.errors import UsageError, unknown
from interp.statistics.f1 import f1_interval, macro_f1
from interp.statistics.splits import Masks, grouped_split
from probes.estimators.linear import LogisticProbe
from probes.vprobe.fit import VProbe
from probes.vprobe.packing import Item

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

CONTROLS: dict[str, str] = {
    "random_init": "the same V-probe on models of the same architecture that were never trained",
    "shuffled_labels": "the same V-probe, its training and validation labels shuffled",
    "bag_of_features": "logistic regression on each item's features, the words read so far as a bag, and the description",
    "majority": "always says the most frequent training label",
}
_STRENGTHS = (0.003, 0.03, 0.3)


@dataclass(frozen=True)
class VProbed:
    """What was read from the test items, by the probe (`vprobe`) and by each control.

    `table` has one row for each reader: macro-F1 with its 95 % interval over structures, accuracy, and counts.
    `test` are the numbers of the test items, `gold` their labels, `read` what each reader said of them.
    """

    table: pd.DataFrame
    test: np.ndarray
    gold: np.ndarray
    groups: np.ndarray
    read: dict[str, np.ndarray]
    notes: dict[str, Any]

    def lead(self, over: Sequence[str] | None = None) -> tuple[float, tuple[float, float], str]:
        """By how much the probe's macro-F1 exceeds that of the best control, with an interval, and which control it is.

        `over` are the controls to be beaten, all of them by default.
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
    **options: Any,
) -> VProbed:
    """V-probe `items` and set every control beside it; fitted, selected and tested on different structures.

    `untrained` are models to take for `random_init` by the name of their row, a freshly drawn one by default.
    `options` are those of `VProbe`. Raises `UsageError` on unknown controls and on too few structures.
    """
    for name in controls:
        if name not in CONTROLS:
            raise unknown("control of a V-probe", name, CONTROLS)
    items = list(items)
    if not items:
        raise UsageError("there are no items to probe; make at least one for each label.")
    groups, gold = np.array([item.group for item in items]), np.array([item.label for item in items])
    split = grouped_split(groups, seed)
    readers = {"vprobe": _probed(reasoner, items, gold, split, seed, options)}
    if "random_init" in controls:
        for name, model in (untrained or {"random_init": _fresh(reasoner, seed)}).items():
            readers[name] = _probed(model, items, gold, split, seed, options)
    if "shuffled_labels" in controls:
        readers["shuffled_labels"] = _probed(reasoner, items, _shuffled(gold, split, seed), split, seed, options)
    if "bag_of_features" in controls:
        readers["bag_of_features"] = _bag_of_features(items, gold, split)
    if "majority" in controls:
        values, counts = np.unique(gold[split.train], return_counts=True)
        readers["majority"] = np.full(int(split.test.sum()), values[counts.argmax()])
    tested, held = gold[split.test], groups[split.test]
    rows = [_row(name, tested, read, held) for name, read in readers.items()]
    notes = {
        "seed": seed,
        "options": options,
        "controls": {name: CONTROLS[name] for name in controls},
        "items": {part: int(getattr(split, part).sum()) for part in ("train", "val", "test")},
    }
    return VProbed(pd.DataFrame(rows), np.flatnonzero(split.test), tested, held, readers, notes)


def _fresh(reasoner: Reasoner, seed: int) -> Reasoner:
    from interp.loading.load import random_init

    return random_init(reasoner, seed)


def _row(name: str, gold: np.ndarray, read: np.ndarray, groups: np.ndarray) -> dict[str, Any]:
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


def _probed(
    reasoner: Reasoner, items: list[Item], labels: np.ndarray, split: Masks, seed: int, options: Mapping[str, Any]
) -> np.ndarray:
    from dataclasses import replace

    told = [replace(item, label=str(label)) for item, label in zip(items, labels, strict=True)]
    train, val, test = ([told[k] for k in np.flatnonzero(part)] for part in (split.train, split.val, split.test))
    return VProbe(seed=seed, **options).fit(reasoner, train, val).predict(test)


def _shuffled(gold: np.ndarray, split: Masks, seed: int) -> np.ndarray:
    rng, labels = np.random.default_rng(seed), gold.copy()
    for part in (split.train, split.val):
        labels[part] = rng.permutation(labels[part])
    return labels


def _bag_of_features(items: list[Item], gold: np.ndarray, split: Masks) -> np.ndarray:
    """Test predictions with the strength that is best on validation."""
    inputs = bag_of_features(items)
    tried = []
    for strength in _STRENGTHS:
        fit = LogisticProbe(C=strength, tol=1e-3).fit(inputs[split.train], gold[split.train])
        tried.append((macro_f1(gold[split.val], fit.predict(inputs[split.val])), fit))
    return max(tried, key=lambda found: found[0])[1].predict(inputs[split.test])


def bag_of_features(items: Sequence[Item]) -> np.ndarray:
    """Each item's own features, how often each token was read, and which tokens describe it, item by item.

    Columns that never vary are left out.
    """
    size = 1 + max(max(item.trace.token_ids) for item in items)
    words = sorted({(place, token) for item in items for place, token in enumerate(item.about)})
    column = {word: size + k for k, word in enumerate(words)}
    bag = np.zeros((len(items), size + len(words)), np.float32)
    for row, item in enumerate(items):
        np.add.at(bag[row], np.array(item.trace.token_ids[: item.at]), 1.0)
        bag[row, [column[place, token] for place, token in enumerate(item.about)]] = 1.0
    own = [item.features for item in items if item.features is not None]
    if own and len(own) < len(items):
        raise UsageError(
            f"{len(items) - len(own)} of {len(items)} items have no features; give them to all or to none."
        )
    found = np.concatenate([bag, np.stack(own)], axis=1) if own else bag
    return found[:, found.std(axis=0) > 0]
