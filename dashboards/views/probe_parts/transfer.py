"""The part of the probes page about transfer: probes of some cells, each tested at the others."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import streamlit as st

from dashboards.artifacts.finding import last_written
from dashboards.views import shared
from dashboards.views.probe_parts.cell import swept_store
from dashboards.views.shared import as_text
from dashboards.views.url import View
from interp.activations.source import place_key
from interp.errors import CotlensError
from probes.sweeps.figures import transfer_matrix
from probes.sweeps.results import Sweep

NONE, PLACES, STEPS = "none", "places", "steps"
_LABELS = {
    NONE: "not now",
    PLACES: "this target at other places",
    STEPS: "the value of each step at its own place",
}
MOST = 10  # cells on a side


def draw(cell: pd.Series, cells: pd.DataFrame, sweep: Sweep, path: Path, view: View) -> None:
    """Draw the choice of what is compared, and the matrix.

    Args:
        cell: The chosen cell.
        cells: Every cell of the sweep.
        sweep: The sweep.
        path: Folder of the store in a run; of the sweep where it stands alone.
        view: The page's controls.
    """
    st.header("Does one probe read the other cells too?")
    chosen = view.choice(
        "Test probes on",
        list(_LABELS),
        "transfer",
        label_of=_LABELS.__getitem__,
        why_not="nothing that probes are tested on here",
        help="Each probe is fitted again on one split, which takes seconds and needs the store.",
    )
    if chosen == NONE:
        return
    here = cells[cells["address"] == cell["address"]]
    pairs = _places(here, str(cell["target"])) if chosen == PLACES else _steps(here)
    if len(pairs) < 2:
        st.info(as_text(f"At {cell['label']} fewer than two cells were swept that could be compared so."))
        return
    artifact = swept_store(sweep, path)
    if artifact is None:
        return
    shown = pairs[:MOST]
    try:
        table = _tested(
            str(artifact.path),
            last_written(artifact.path),
            tuple(shown),
            str(cell["address"]),
            str(cell["estimator"]),
            int(sweep.notes["splits"][0]),
        )
    except CotlensError as error:
        st.error(as_text(str(error)), icon=":material/block:")
        return
    _result(table, str(cell["label"]), len(pairs) - len(shown))


def _places(here: pd.DataFrame, target: str) -> list[tuple[str, str]]:
    """Return the cells of one target at one layer, in the order of places."""
    places = sorted(here.loc[here["target"] == target, "place"].unique(), key=place_key)
    return [(target, str(place)) for place in places]


def _steps(here: pd.DataFrame) -> list[tuple[str, str]]:
    """Return the cells of one layer that are the value of a step at that step's own place, one for each step."""
    pairs = set(here[["target", "place"]].itertuples(index=False, name=None))
    numbers = sorted(
        int(number) for kind, _, number in (str(target).rpartition("_") for target, _ in pairs) if kind == "value"
    )
    own = []
    for number in dict.fromkeys(numbers):
        # In a text a thought is a token, so a step is named by its own place there.
        place = next((p for p in (f"step {number}", f"thought {number}") if (f"value_{number}", p) in pairs), None)
        own += [(f"value_{number}", place)] if place is not None else []
    return own


def _result(table: pd.DataFrame, label: str, left_out: int) -> None:
    """Draw the matrix, how many pairs share a direction, and the table with controls."""
    away = table[table["fitted_to"] != table["tested_on"]]
    best = away[["shuffled_labels", "majority"]].max(axis=1)
    shared_by = away[away["ci_low"] > best]
    sentence = (
        f"At {label}, {len(shared_by)} of {len(away)} probes read another cell than their own above both controls (95 % "
        "interval)."
    )
    if len(shared_by):
        st.markdown(f"**{as_text(sentence)}**")
    else:
        st.warning(as_text(sentence), icon=":material/balance:")
    if left_out:
        st.caption(f"Compared: the first {MOST} cells; left out: {left_out}.")
    shared.chart(transfer_matrix(table), key="transfer-map", alt="Held-out accuracy of each probe at each cell")
    st.caption(
        "Rows: where a probe was fitted; columns: where it is tested, on held-out problems. Controls: the same probe fitted "
        "to shuffled labels, and the most frequent value."
    )
    words = {"ci_low": "95 % from", "ci_high": "95 % to"}
    shown = table.rename(columns=lambda name: words.get(name, name.replace("_", " ")))
    shared.table(shown, "transfer", alt="Every probe at every cell with interval and controls")


@st.cache_resource(max_entries=8, show_spinner="Fitting a probe at each cell …")
def _tested(
    store: str, written: int, pairs: tuple[tuple[str, str], ...], address: str, estimator: str, split: int
) -> pd.DataFrame:
    from interp.activations import Store
    from probes.sweeps.transfer import cell_transfer

    return cell_transfer(Store(store), pairs, address, estimator=estimator, split_seed=split)
