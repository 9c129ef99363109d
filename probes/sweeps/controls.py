"""The controls of a probe: the same measurement with the signal removed.

Another package adds a control through an entry point that names a function of a store and rows of its index. It
returns the inputs that the probe is fitted to in place of activations; its docstring's first line describes it:

    [project.entry-points."cotlens.controls"]
    prompt_length = "my_package.controls:prompt_length"
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from interp.activations import ActivationSource
from interp.errors import unknown
from interp.runtime.plugins import load_plugin, plugins
from interp.traces import Channel

CONTROLS: dict[str, str] = {
    "majority": "always predict the most frequent training label",
    "shuffled_labels": "the same probe, its training labels shuffled among problems (mean of four shuffles)",
    "control_task": "the same probe on a random label for each token at the position, or in the question: what it can memorise (Hewitt and Liang 2019)",
    "question_only": "the same probe on the question's tokens, without any activation",
    "before_thinking": "the same probe on the state at the question's end, at the address that is best on validation",
    "position_only": "the same probe on the position's index alone",
    "text_only": "the same probe on the tokens of the visible reasoning up to the position, or on as many dimensions of them as the activations have; the better on validation",
    "other_problem": "the fitted probe applied to another problem's activations at the same place",
    "random_init": "the same probe on a model of the same architecture that was never trained",
}

#: The place whose state `before_thinking` reads.
QUESTION_END = "question end"


@dataclass(frozen=True)
class ControlInputs:
    """Inputs of a control for the same rows and labels, or the reason why there are none.

    Attributes:
        inputs: Alternatives by name, each of shape (rows, d); the best on validation is used.
        why_not: Why `inputs` is empty.
    """

    inputs: dict[str, Float[np.ndarray, "rows d"]]
    why_not: str = ""


Control = Callable[[ActivationSource, pd.DataFrame], ControlInputs]


def control_names() -> list[str]:
    """Return the built-in controls, then those of other packages."""
    return [*CONTROLS, *(name for name in plugins("controls") if name not in CONTROLS)]


def chosen_controls(controls: str | list[str] | tuple[str, ...]) -> list[str]:
    """Return control names.

    Args:
        controls: "all", "none", one name or several names.

    Raises:
        UsageError: A name is unknown.
    """
    if controls == "all":
        return control_names()
    if controls == "none":
        return []
    names = [controls] if isinstance(controls, str) else list(controls)
    for name in names:
        if name not in CONTROLS and name not in plugins("controls"):
            raise unknown("control", name, ["all", "none", *control_names()])
    return names


def description(name: str) -> str:
    """Return what a control measures, in one line."""
    if name in CONTROLS:
        return CONTROLS[name]
    return (load_plugin("controls", name).__doc__ or name).strip().splitlines()[0]


def input_control(name: str) -> Control | None:
    """Return the function of a control that replaces the probe's inputs; None for controls of another kind."""
    if name in CONTROLS:
        return _INPUT_CONTROLS.get(name)
    return load_plugin("controls", name)


def question_only(store: ActivationSource, rows: pd.DataFrame) -> ControlInputs:
    """Return the question's tokens, each by position and as a bag."""
    prompts = [
        [t for t, c in zip(store.traces[k].token_ids, store.traces[k].channel, strict=True) if c == Channel.PROMPT]
        for k in rows["trace"]
    ]
    tokens = _token_features(prompts)
    if not tokens.shape[1]:
        return ControlInputs({}, "every question has the same tokens")
    return ControlInputs({"question tokens": tokens})


def before_thinking(store: ActivationSource, rows: pd.DataFrame) -> ControlInputs:
    """Return the state at the question's end, at every captured address; none for a probe that reads it itself."""
    if "place" in rows and (rows["place"] == QUESTION_END).all():
        return ControlInputs({}, "the probe itself reads the state at the question's end")
    ends = store.index[store.index["place"] == QUESTION_END].set_index("trace")
    if not rows["trace"].isin(ends.index).all():
        return ControlInputs({}, "the question's end was not captured")
    end_rows = ends.loc[rows["trace"]].reset_index()
    return ControlInputs(
        {f"question end, {address.label}": store.acts(address, end_rows) for address in store.addresses}
    )


def position_only(store: ActivationSource, rows: pd.DataFrame) -> ControlInputs:
    """Return the position's index, one column for each value."""
    return ControlInputs({"position": one_hot_columns(rows["position"].to_numpy())})


def text_only(store: ActivationSource, rows: pd.DataFrame) -> ControlInputs:
    """Return the tokens of the visible thoughts up to each row; none for reasoners that write nothing.

    Where a trace has several rows, the row's own token alone is an alternative.
    """
    texts = []
    for k, position in zip(rows["trace"], rows["position"], strict=True):
        trace = store.traces[k]
        texts.append(
            [t for p, t in enumerate(trace.token_ids) if p <= position and trace.channel[p] == Channel.THOUGHT]
        )
    if not any(texts):
        return ControlInputs({}, "there is no visible reasoning before this place")
    own = {}
    if rows["trace"].duplicated().any():
        read = [store.traces[k].token_ids[p] for k, p in zip(rows["trace"], rows["position"], strict=True)]
        own = {"its own token": one_hot_columns(np.array(read))}
    tokens = _token_features(texts)
    width = min(int(store.meta["d_model"]), min(tokens.shape) - 1)
    if width < 2:
        return ControlInputs({"visible text": tokens, **own})
    from sklearn.decomposition import TruncatedSVD

    embedded = TruncatedSVD(width, random_state=0).fit_transform(tokens).astype(np.float32)
    return ControlInputs({"visible text": tokens, "visible text, embedded": embedded, **own})


_INPUT_CONTROLS: dict[str, Control] = {
    "question_only": question_only,
    "before_thinking": before_thinking,
    "position_only": position_only,
    "text_only": text_only,
}


def random_init(rows: pd.DataFrame, address_name: str, twin: ActivationSource | None) -> ControlInputs:
    """Return the activations of an untrained twin at the same places of the same traces.

    Args:
        rows: Rows of the trained model's store.
        address_name: The address to read.
        twin: The twin's store; None if there is none.
    """
    if twin is None:
        return ControlInputs({}, "no store of an untrained twin was given (random_init=, --random-init)")
    twin_rows = rows[["trace", "place"]].merge(twin.index, on=["trace", "place"], how="left")
    if twin_rows["row"].isna().any():
        return ControlInputs({}, "the untrained twin has no such place")
    return ControlInputs({address_name: twin.acts(address_name, twin_rows.astype({"shard": int, "row": int}))})


def word_types(store: ActivationSource, rows: pd.DataFrame) -> np.ndarray | None:
    """Return the token that decides each row's label in a control task.

    This is the row's own token. Where all rows hold the same token, as at silent thoughts, it is the question token
    at the position that varies most. None if nothing varies.
    """
    traces = [store.traces[k] for k in rows["trace"]]
    tokens = np.array([trace.token_ids[p] for trace, p in zip(traces, rows["position"], strict=True)])
    if len(np.unique(tokens)) > 1:
        return tokens
    shortest = min(trace.channel.count(Channel.PROMPT) for trace in traces)
    columns = [np.array([trace.token_ids[k] for trace in traces]) for k in range(shortest)]
    n_values = [len(np.unique(column)) for column in columns]
    return columns[int(np.argmax(n_values))] if n_values and max(n_values) > 1 else None


def control_task(gold: np.ndarray, types: np.ndarray, seed: int) -> np.ndarray:
    """Return a random label for each type, drawn from the distribution of the labels.

    Args:
        gold: Labels, shape (rows,).
        types: The type of each row, shape (rows,), as `word_types` returns it.
        seed: Seed of the draw.

    Returns:
        Labels, shape (rows,).

    References:
        Hewitt and Liang, "Designing and interpreting probes with control tasks" (arXiv 1909.03368, section 2).
    """
    rng = np.random.default_rng([seed, 1909])
    unique, inverse = np.unique(types, return_inverse=True)
    return rng.choice(gold, size=len(unique))[inverse]


def one_hot_columns(values: np.ndarray) -> Float[np.ndarray, "rows values"]:
    """Return one column for each different value."""
    return (values[:, None] == np.unique(values)[None, :]).astype(np.float32)


def _token_features(sequences: list[list[int]]) -> Float[np.ndarray, "rows features"]:
    """Return one column for each token at each position and one for each token anywhere; constant columns are dropped.

    Only tokens that occur get a column: a vocabulary of 150,000 tokens at 200 positions would fill any memory.
    """
    rows = np.repeat(np.arange(len(sequences)), [len(sequence) for sequence in sequences])
    tokens = np.array([token for sequence in sequences for token in sequence], dtype=np.int64)
    positions = np.concatenate([np.arange(len(sequence)) for sequence in sequences])
    at_positions, cells = np.unique(np.stack([positions, tokens]), axis=1, return_inverse=True)
    anywhere, words = np.unique(tokens, return_inverse=True)
    by_position = np.zeros((len(sequences), at_positions.shape[1]), np.float32)
    by_position[rows, cells.ravel()] = 1.0
    bag = np.zeros((len(sequences), len(anywhere)), np.float32)
    np.add.at(bag, (rows, words.ravel()), 1.0)
    features = np.concatenate([by_position, bag], axis=1)
    return features[:, features.std(axis=0) > 0]
