"""The control ladder: the same measurement with the signal taken away."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from interp.activations import ActivationSource
from interp.errors import unknown
from interp.traces import Channel

CONTROLS: dict[str, str] = {
    "majority": "always says the most frequent training label",
    "shuffled_labels": "the same probe, its training labels shuffled among problems (the mean of four shuffles)",
    "control_task": "the same probe on a random label for each word that stands here, or in the question: what it can memorise (Hewitt and Liang 2019)",
    "question_only": "the same probe on the state before any thinking, or on the question's tokens; the better of all on validation",
    "position_only": "the same probe on the position's number alone",
    "text_only": "the same probe on the words of the visible reasoning up to here, or on as many dimensions of them as the activations have; the better on validation",
    "other_problem": "the fitted probe reading another problem's activations at the same place",
    "random_init": "the same probe on a model of the same architecture that was never trained",
}


def chosen(controls: str | list[str] | tuple[str, ...]) -> list[str]:
    """`all`, `none` or a list of control names."""
    if controls == "all":
        return list(CONTROLS)
    if controls == "none":
        return []
    names = [controls] if isinstance(controls, str) else list(controls)
    for name in names:
        if name not in CONTROLS:
            raise unknown("control", name, ["all", "none", *CONTROLS])
    return names


@dataclass(frozen=True)
class Substitute:
    """Other inputs for the same rows and labels, or the reason why there are none."""

    inputs: dict[str, Float[np.ndarray, "rows d"]]
    why_not: str = ""


def question_only(store: ActivationSource, rows: pd.DataFrame) -> Substitute:
    """Every captured address at the last question token, and the question's tokens by position and as a bag."""
    before = store.index[store.index["place"] == "question end"].set_index("trace")
    there = before.loc[rows["trace"]].reset_index()
    inputs = {f"question end, {address.label}": store.acts(address, there) for address in store.addresses}
    prompts = [
        [t for t, c in zip(store.traces[k].token_ids, store.traces[k].channel, strict=True) if c == Channel.PROMPT]
        for k in rows["trace"]
    ]
    inputs["question tokens"] = _token_features(prompts)
    return Substitute(inputs)


def position_only(store: ActivationSource, rows: pd.DataFrame) -> Substitute:
    positions = rows["position"].to_numpy()
    return Substitute({"position": one_hot_columns(positions)})


def text_only(store: ActivationSource, rows: pd.DataFrame) -> Substitute:
    """The visible thoughts before and at each row; none for reasoners that write nothing before the answer."""
    texts = []
    for k, position in zip(rows["trace"], rows["position"], strict=True):
        trace = store.traces[k]
        texts.append(
            [t for p, t in enumerate(trace.token_ids) if p <= position and trace.channel[p] == Channel.THOUGHT]
        )
    if not any(texts):
        return Substitute({}, "no visible reasoning stands before this place")
    words = _token_features(texts)
    width = min(int(store.meta["d_model"]), min(words.shape) - 1)
    if width < 2:
        return Substitute({"visible text": words})
    from sklearn.decomposition import TruncatedSVD

    embedded = TruncatedSVD(width, random_state=0).fit_transform(words).astype(np.float32)
    return Substitute({"visible text": words, "visible text, embedded": embedded})


def random_init(rows: pd.DataFrame, address_name: str, twin: ActivationSource | None) -> Substitute:
    """The rows of the untrained twin's store at the same places of the same traces."""
    if twin is None:
        return Substitute({}, "no store of an untrained twin was given (random_init=)")
    there = rows[["trace", "place"]].merge(twin.index, on=["trace", "place"], how="left")
    if there["row"].isna().any():
        return Substitute({}, "the untrained twin has no such place")
    return Substitute({address_name: twin.acts(address_name, there.astype({"shard": int, "row": int}))})


def word_types(store: ActivationSource, rows: pd.DataFrame) -> np.ndarray | None:
    """The word that each row is about, for a control task: its own token, or where all rows hold the same one (as
    silent thoughts do) the question's word that varies most. None where nothing varies."""
    traces = [store.traces[k] for k in rows["trace"]]
    own = np.array([trace.token_ids[p] for trace, p in zip(traces, rows["position"], strict=True)])
    if len(np.unique(own)) > 1:
        return own
    shortest = min(trace.channel.count(Channel.PROMPT) for trace in traces)
    columns = [np.array([trace.token_ids[k] for trace in traces]) for k in range(shortest)]
    varied = [len(np.unique(column)) for column in columns]
    return columns[int(np.argmax(varied))] if varied and max(varied) > 1 else None


def control_task(gold: np.ndarray, types: np.ndarray, seed: int) -> np.ndarray:
    """A label for each type, drawn from the labels' own distribution (Hewitt and Liang, arXiv 1909.03368, section 2)."""
    rng = np.random.default_rng([seed, 1909])
    unique, inverse = np.unique(types, return_inverse=True)
    return rng.choice(gold, size=len(unique))[inverse]


def one_hot_columns(values: np.ndarray) -> Float[np.ndarray, "rows values"]:
    return (values[:, None] == np.unique(values)[None, :]).astype(np.float32)


def _token_features(sequences: list[list[int]]) -> Float[np.ndarray, "rows features"]:
    """Each token at each position, and each token anywhere; columns that never vary are left out."""
    width, size = max(map(len, sequences)), max(max(s, default=0) for s in sequences) + 1
    at = np.zeros((len(sequences), width, size), np.float32)
    for row, sequence in enumerate(sequences):
        at[row, np.arange(len(sequence)), sequence] = 1.0
    features = np.concatenate([at.reshape(len(sequences), -1), at.sum(axis=1)], axis=1)
    return features[:, features.std(axis=0) > 0]
