"""The position at which each gold step of each trace is complete."""

from __future__ import annotations

import numpy as np
import pandas as pd

from interp.activations.source import ActivationSource
from interp.traces import THINKING


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
    thinking = index[index["channel"].isin(THINKING) & (index["step"] > 0)]
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
