"""The live part of the page of SAE features: one trace is thought again with a feature removed or raised."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import streamlit as st

from dashboards.artifacts.finding import last_written
from dashboards.features.tables import OpenedSAE
from dashboards.views import shared
from dashboards.views.loaded import models
from dashboards.views.shared import as_text
from dashboards.views.url import View
from interp.errors import CotlensError
from interp.traces import Trace

if TYPE_CHECKING:
    from interp.sae.feature_effects import FeatureEffect

NONE = "none"
#: Names in the URL: what is done, and by how many of the feature's mean activations.
_EDITS: dict[str, tuple[str, float]] = {
    "ablate": ("ablate", 0.0),
    "steer-1": ("steer", 1.0),
    "steer-2": ("steer", 2.0),
    "steer-4": ("steer", 4.0),
    "steer-8": ("steer", 8.0),
}


def _label(name: str) -> str:
    if name == NONE:
        return "nothing"
    edit, dose = _EDITS[name]
    return "take the feature away" if edit == "ablate" else f"add {dose:g} × its mean activation"


def draw(sae: OpenedSAE, trace: Trace, positions: np.ndarray, row: pd.Series, view: View) -> None:
    """Draw the choice of an edit, and what the model answers after it.

    Args:
        sae: The SAE with its activations.
        trace: The trace.
        positions: Positions of the trace that the SAE reads.
        row: The feature's row of the table.
        view: The page's controls.
    """
    chosen = view.choice(
        "Let the model think again, and at these positions …",
        [NONE, *_EDITS],
        "edit",
        label_of=_label,
        why_not="no edit of a feature",
        help="The model is loaded once. Random directions of the same length are tried beside the feature's own.",
    )
    if chosen == NONE:
        return
    try:
        effect = _effect(sae, trace, positions, row, chosen)
    except CotlensError as error:
        st.error(as_text(f"The model cannot think again here: {error}"), icon=":material/block:")
        return
    _result(effect, chosen)


def _result(effect: FeatureEffect, chosen: str) -> None:
    rate, n = effect.random_rate, len(effect.controls)
    n_changed = int(effect.controls["changed"].sum())
    if not effect.length:
        st.info("The feature does not fire at these positions, so there is nothing to take away.")
        return
    own = (
        f"the answer changes from {effect.before} to {effect.after}"
        if effect.changed
        else f"the answer stays {effect.before}"
    )
    sentence = (
        f"With the edit {own}. Control: of {n} random directions of the same length ({effect.length:.2f}), {n_changed} "
        f"change it ({rate.value:.2f}, 95 % from {rate.low:.2f} to {rate.high:.2f})."
    )
    if effect.specific:
        st.success(as_text(sentence), icon=":material/science:")
    elif effect.changed:
        st.warning(
            as_text(f"{sentence} Random directions do the same, so this shows nothing of the feature."),
            icon=":material/balance:",
        )
    else:
        st.info(as_text(sentence), icon=":material/science:")
    if effect.texts[0] not in ("", effect.before) or effect.texts[1] not in ("", effect.after):
        texts = pd.DataFrame({"edit": ["without the edit", "with it"], "the model writes": list(effect.texts)})
        st.table(texts.astype(object).map(as_text), hide_index=True)
    shared.table(effect.controls, f"random-directions-{chosen}", alt="Answers after pushes along random directions")


def _effect(sae: OpenedSAE, trace: Trace, positions: np.ndarray, row: pd.Series, chosen: str) -> FeatureEffect:
    store = Path(sae.store.name)
    key = f"{sae.folder} {last_written(sae.folder)} {store} {last_written(store)}"
    return _computed(key, trace.id, int(row["feature"]), chosen, sae, trace, positions, float(row["mean"]))


@st.cache_resource(max_entries=64, show_spinner="The model thinks again …")
def _computed(
    key: str,
    trace: int,
    feature: int,
    chosen: str,
    _sae: OpenedSAE,
    _trace: Trace,
    _positions: np.ndarray,
    _mean: float,
) -> FeatureEffect:
    from interp.sae.feature_effects import feature_effect

    edit, dose = _EDITS[chosen]
    return feature_effect(
        models().model(_sae.store),
        _sae.trained.sae,
        _sae.address,
        _trace,
        _positions,
        feature,
        edit=edit,  # type: ignore[arg-type]
        amount=dose * _mean,
    )
