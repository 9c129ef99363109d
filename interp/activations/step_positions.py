"""The position at which each gold step of each trace is complete, and the places that are named after it.

`thought 3` is the third position of a thought. Where steps are written in several tokens, that is no step's place, and
`step 3` names the position at which the value of step 3 is complete.

Some places are many positions of a trace: `every thought` is all positions of the thought, `every sentence` the last token
of each sentence, `every step` the position at which each step is complete.
"""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np
import pandas as pd

from interp.activations.source import ActivationSource
from interp.errors import UsageError
from interp.traces import THINKING

_Numbers = dict[str, np.ndarray]
_KNOWN: WeakKeyDictionary[ActivationSource, _Numbers] = WeakKeyDictionary()


def step_positions(source: ActivationSource) -> pd.DataFrame:
    """Return the position at which each step is complete.

    In a visible thought this is the token that completes the step's value, whatever stands after it. In latent thoughts
    it is the step's last thought.

    Args:
        source: Activations with the channels latent or thought.

    Returns:
        One row for each step with a position. Columns: trace, step, position.
    """
    index = source.index
    thinking = index.loc[index["channel"].isin(THINKING) & (index["step"] > 0), ["trace", "step", "position"]]
    last = thinking.groupby(["trace", "step"], sort=False)["position"].max().reset_index()
    written = [
        (number, step, position)
        for number, trace in enumerate(source.traces)
        for step, position in enumerate(trace.value_positions, 1)
    ]
    if not written:
        return last
    in_text = pd.DataFrame(written, columns=["trace", "step", "position"])
    last = last[~last["trace"].isin(in_text["trace"])]
    placed = in_text[in_text["position"] >= 0]
    return pd.concat([last, placed], ignore_index=True).astype(np.int64)


def step_places(source: ActivationSource) -> dict[str, np.ndarray]:
    """Return the places `step 1`, `step 2`, … of visible thoughts, and the numbers of their rows in the index.

    There are none where the value of step k is complete at `thought k` in every trace, as in latent thoughts.
    """
    if source not in _KNOWN:
        _KNOWN[source] = _step_places(source)
    return _KNOWN[source]


#: Places that are many positions of a trace, and what is at them.
POOLED = {
    "every thought": "all positions of the thought",
    "every sentence": "the last token of each sentence of the thought",
    "every step": "the position at which each gold step is complete",
}


def rows_at(source: ActivationSource, place: str) -> pd.DataFrame:
    """Return the rows of the index at a place, which may be one of `step_places` or of `POOLED`.

    Raises:
        UsageError: There is no such place.
    """
    if place in POOLED:
        return _pooled_rows(source, place)
    numbers = step_places(source).get(place)
    return source.rows(place=place) if numbers is None else source.index.iloc[numbers]


def _pooled_rows(source: ActivationSource, place: str) -> pd.DataFrame:
    """Return the rows of the index at one of `POOLED`.

    Raises:
        UsageError: There are none.
    """
    index = source.index
    if place == "every thought":
        rows = index[index["channel"].isin(THINKING)]
    elif place == "every sentence":
        rows = index[index["place"].str.startswith("sentence ")]
    else:
        at = step_positions(source)[["trace", "position"]]
        at = pd.MultiIndex.from_frame(at)
        rows = index[pd.MultiIndex.from_frame(index[["trace", "position"]]).isin(at)]
    if rows.empty:
        raise UsageError(
            f"expected {POOLED[place]} in the store, got none of {source.name}; capture the channels thought or latent, or "
            "choose another place."
        )
    return rows


def _step_places(source: ActivationSource) -> _Numbers:
    written = [number for number, trace in enumerate(source.traces) if trace.value_positions]
    if not written:
        return {}
    index = source.index[["trace", "position", "place"]]
    index = index.assign(number=np.arange(len(index)))
    at = step_positions(source).merge(index, on=["trace", "position"])
    at = at[at["trace"].isin(written)].sort_values(["step", "number"])
    if (at["place"] == "thought " + at["step"].astype(str)).all():
        return {}
    return {f"step {step}": part["number"].to_numpy() for step, part in at.groupby("step")}
