"""Figures of an SAE's features."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from interp.runtime import palette

_LABELLED = 60  # positions whose tokens fit under a strip


def density(features: pd.DataFrame) -> go.Figure:
    """Return a histogram of how often features fire, in powers of ten; those that never fire stand apart.

    Args:
        features: Table of features, with the column rate.
    """
    rates = features["rate"].to_numpy(float)
    fires = rates > 0
    exponents = np.log10(rates[fires])
    low = min(np.floor(exponents.min() * 4) / 4, -0.25) if len(exponents) else -1.0
    # The last bin ends at 1, the largest fraction there is; numpy counts its right end with it.
    edges = np.append(np.arange(low, -1e-9, 0.25), 0.0)
    counts, _ = np.histogram(exponents, edges)
    labels = [f"{10**a:.2g} to {10**b:.2g}" for a, b in pairwise(edges)]
    named = features.loc[fires, "name"].notna().to_numpy()
    with_name, _ = np.histogram(exponents[named], edges)
    figure = go.Figure()
    figure.add_bar(
        name="with a name",
        x=["never", *labels],
        y=[0, *with_name],
        marker={"color": palette.BLUE, "pattern_shape": "/"},
    )
    figure.add_bar(
        name="without a name",
        x=["never", *labels],
        y=[int((~fires).sum()), *(counts - with_name)],
        marker_color=palette.GREY,
    )
    figure.update_xaxes(title="fraction of positions where the feature fires", type="category")
    figure.update_yaxes(title="features")
    return _lay_out(figure, "How often features fire", stacked=True)


def strip(tokens: Sequence[str], positions: Sequence[int], own: np.ndarray, control: np.ndarray | None) -> go.Figure:
    """Return bars of a feature's activation over the positions of a trace, with a random direction beside it.

    Args:
        tokens: Tokens of the positions.
        positions: The positions.
        own: Activation of the feature at each position.
        control: Activation of the random direction, in units of its own largest activation; None where there is none.
    """
    texts = [token.strip() or repr(token) for token in tokens]
    figure = go.Figure(
        go.Bar(
            name="this feature",
            x=list(positions),
            y=own,
            customdata=texts,
            marker_color=palette.BLUE,
            hovertemplate="position %{x}, %{customdata}: %{y:.3f}<extra>this feature</extra>",
        )
    )
    if control is not None:
        figure.add_bar(
            name="control: the random direction that detects the same best",
            x=list(positions),
            y=control,
            customdata=texts,
            marker={"color": palette.GREY, "pattern_shape": "x"},
            hovertemplate="position %{x}, %{customdata}: %{y:.3f}<extra>random direction</extra>",
        )
    if len(texts) <= _LABELLED:
        figure.update_xaxes(tickvals=list(positions), ticktext=texts)
    figure.update_xaxes(title="position")
    figure.update_yaxes(title="activation")
    return _lay_out(figure, "Where it fires in this trace")


def _lay_out(figure: go.Figure, title: str, *, stacked: bool = False) -> go.Figure:
    figure.update_layout(
        title=title,
        template="plotly_white",
        height=320,
        margin={"l": 60, "r": 60, "t": 60, "b": 50},
        legend={"orientation": "h", "y": 1.12, "x": 1, "xanchor": "right"},
        barmode="stack" if stacked else "group",
    )
    return figure
