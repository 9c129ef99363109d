"""What a linear read-out gets without the thoughts: from the question's words, or from the last state before any thinking.

Each is fitted for every step by itself on the training problems of the same split, so it is given more than a decoder,
which has to read all steps at once. A ridge classifier over words at their positions cannot combine words, which the
steps of the tasks here need: what it gets is what single words give away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.statistics.intervals import first_within_error

_STRENGTH = 10.0


def question_only(store: ActivationSource, read: pd.DataFrame) -> np.ndarray:
    """What each row of a method's read-outs is guessed to be from the words of its question alone.

    `read` is the table of one method: columns trace, step, split, gold.
    """
    from sklearn.feature_extraction import DictVectorizer

    words = {
        t: {f"{k}:{word}": 1.0 for k, word in enumerate(store.traces[t].problem.question.split())}
        for t in read["trace"].unique()
    }

    def features(part: pd.DataFrame) -> list[Any]:
        return [DictVectorizer().fit_transform([words[t] for t in part["trace"]])]

    return _each_step(read, features)


def before_thinking(store: ActivationSource, read: pd.DataFrame) -> np.ndarray:
    """The same from the state at the end of the question, at the address that is best on validation for each step."""
    ends = store.rows(place="question end").drop_duplicates("trace").set_index("trace", drop=False)

    def features(part: pd.DataFrame) -> list[Any]:
        rows = ends.loc[part["trace"].to_numpy()]
        found = []
        for address in store.addresses:
            acts = store.acts(address, rows)
            found.append((acts - acts.mean(axis=0)) / np.maximum(acts.std(axis=0), 1e-6))
        return found

    return _each_step(read, features)


def _each_step(read: pd.DataFrame, features: Callable[[pd.DataFrame], list[Any]]) -> np.ndarray:
    """A classifier for each step and each of several sets of features; the set is chosen on validation."""
    from sklearn.linear_model import RidgeClassifier

    said = np.empty(len(read), dtype=object)
    for step in read["step"].unique():
        here = (read["step"] == step).to_numpy()
        part = read[here]
        train, val = (part["split"] == "train").to_numpy(), (part["split"] == "val").to_numpy()
        gold = part["gold"].to_numpy().astype(str)
        if len(set(gold[train])) < 2:
            said[here] = gold[train][0] if train.any() else ""
            continue
        tried = [RidgeClassifier(_STRENGTH).fit(x[train], gold[train]).predict(x) for x in features(part)]
        best = 0
        if val.any():
            best = first_within_error(
                [float((guess[val] == gold[val]).mean()) for guess in tried], [val.sum()] * len(tried)
            )
        said[here] = tried[best]
    return said
