"""Linear baselines without any thought: from the question's words, and from the state at the question's end.

Each is fitted separately for every step, on the training problems of the same split, whereas a decoder reads all steps with
one fit. A ridge classifier over words at their positions cannot combine words, which the steps of the tasks here need. Its
score measures what single words predict.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.statistics.intervals import first_within_error

_STRENGTH = 10.0


def question_only(store: ActivationSource, table: pd.DataFrame) -> np.ndarray:
    """Return the text of each read-out predicted from the words of its question alone.

    Args:
        store: The store that was read.
        table: Read-outs of one method, with columns trace, step, split and gold.

    Returns:
        Texts, shape (rows,).
    """
    from sklearn.feature_extraction import DictVectorizer

    words = {
        trace: {f"{k}:{word}": 1.0 for k, word in enumerate(store.traces[trace].problem.question.split())}
        for trace in table["trace"].unique()
    }

    def features(part: pd.DataFrame) -> list[Any]:
        return [DictVectorizer().fit_transform([words[trace] for trace in part["trace"]])]

    return _predict_each_step(table, features)


def before_thinking(store: ActivationSource, table: pd.DataFrame) -> np.ndarray:
    """Return the text of each read-out predicted from the state at the end of its question, before any thinking.

    The address is chosen on validation rows, separately for each step.

    Args:
        store: The store that was read; it holds the place `question end`.
        table: Read-outs of one method, with columns trace, step, split and gold.

    Returns:
        Texts, shape (rows,).
    """
    ends = store.rows(place="question end").drop_duplicates("trace").set_index("trace", drop=False)

    def features(part: pd.DataFrame) -> list[Any]:
        rows = ends.loc[part["trace"].to_numpy()]
        by_address = []
        for address in store.addresses:
            acts = store.acts(address, rows)
            by_address.append((acts - acts.mean(axis=0)) / np.maximum(acts.std(axis=0), 1e-6))
        return by_address

    return _predict_each_step(table, features)


def _predict_each_step(table: pd.DataFrame, features: Callable[[pd.DataFrame], list[Any]]) -> np.ndarray:
    """Fit a classifier for each step and each of several sets of features; choose the set on validation."""
    from sklearn.linear_model import RidgeClassifier

    texts = np.empty(len(table), dtype=object)
    for step in table["step"].unique():
        members = (table["step"] == step).to_numpy()
        part = table[members]
        train, val = (part["split"] == "train").to_numpy(), (part["split"] == "val").to_numpy()
        gold = part["gold"].to_numpy().astype(str)
        if len(set(gold[train])) < 2:
            texts[members] = gold[train][0] if train.any() else ""
            continue
        predictions = [RidgeClassifier(_STRENGTH).fit(x[train], gold[train]).predict(x) for x in features(part)]
        best = 0
        if val.any():
            scores = [float((predicted[val] == gold[val]).mean()) for predicted in predictions]
            best = first_within_error(scores, [int(val.sum())] * len(predictions))
        texts[members] = predictions[best]
    return texts
