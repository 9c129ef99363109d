"""The part of the probes page about one cell: its score beside the strongest control, and where it errs."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd
import streamlit as st

from dashboards.artifacts.finding import Artifact, last_written
from dashboards.views import opened, shared
from dashboards.views.shared import as_text, number
from dashboards.views.url import View, page_link
from interp.errors import CotlensError, counted
from interp.runtime import palette
from probes.sweeps.figures import learning_curve as learning_curve_figure
from probes.sweeps.results import Sweep

if TYPE_CHECKING:
    from interp.activations import Store

_SCORES = {
    "selectivity": "selectivity (above the control task)",
    "macro_f1": "macro F1",
    "auroc": "AUROC",
    "log_loss": "log loss (nats)",
    "brier": "Brier score",
    "ece": "calibration error (ECE)",
    "majority": "most frequent value",
    "q": "q (false-discovery rate)",
}
_LISTED = 200  # misread problems in the choice


def draw(cell: pd.Series, controls: list[str], sweep: Sweep, path: Path, view: View) -> None:
    """Draw one cell of a sweep.

    Args:
        cell: Its row of the table.
        controls: Names of the controls.
        sweep: The sweep.
        path: Folder of the store in a run; of the sweep where it stands alone.
        view: The page's controls.
    """
    known = {name: float(cell[name]) for name in controls if name in cell and cell[name] == cell[name]}
    _headline(cell, known)
    scores = {words: number(cell[name]) for name, words in _SCORES.items() if name in cell}
    if cell.get("q") == cell.get("q", float("nan")):
        scores[_SCORES["q"]] = f"{cell['q']:.1e}"
    frame = pd.DataFrame([scores])
    shared.table(frame, "cell-scores", alt="Calibration, selectivity and further scores of this cell")
    if view.flag(
        "Fit this cell again: where it errs, and its learning curve",
        "again",
        help="On one split. It takes seconds and needs the store.",
    ):
        _again(cell, sweep, path, view)
    else:
        view.ignore("misread")


def _headline(cell: pd.Series, controls: dict[str, float]) -> None:
    """Draw the score of a cell; a control that reads as well comes first."""
    sentence = (
        f"Held-out top-1 {number(cell['accuracy'])}, 95 % from {number(cell['ci_low'])} to {number(cell['ci_high'])}, at "
        f"{cell['place']}, {cell['label']}; {counted(cell['n'], 'problem structure')}, {counted(cell['n_classes'], 'value')}."
    )
    if not controls:
        st.warning(as_text(f"{sentence} No control was computed, so this shows nothing."), icon=":material/balance:")
        return
    name = max(controls, key=controls.__getitem__)
    beside = f"The strongest control, {palette.label(name)}, reads {number(controls[name])}"
    if controls[name] >= cell["accuracy"]:
        st.warning(as_text(f"{beside}: as well as the probe or better. {sentence}"), icon=":material/balance:")
    elif controls[name] >= cell["ci_low"]:
        st.warning(as_text(f"{beside}, within the probe's interval. {sentence}"), icon=":material/balance:")
    else:
        st.success(as_text(f"{sentence} {beside}."), icon=":material/check:")


def _again(cell: pd.Series, sweep: Sweep, path: Path, view: View) -> None:
    """Draw where the probe of this cell errs, and how it learns."""
    artifact = swept_store(sweep, path)
    if artifact is None:
        view.ignore("misread")
        return
    store = artifact.path
    split = int(sweep.notes["splits"][0])
    where = (str(cell["target"]), str(cell["place"]), str(cell["address"]), str(cell["estimator"]), split)
    try:
        read, curve = _fitted(str(store), last_written(store), *where)
    except CotlensError as error:
        view.ignore("misread")
        st.error(as_text(str(error)), icon=":material/block:")
        return
    wrong = read[~read["right"]].sort_values("confidence", ascending=False)
    st.caption(
        as_text(
            f"On split {split}: {len(wrong)} of {len(read)} held-out rows are misread"
            + (f"; most often {_confused(wrong)}." if len(wrong) else ".")
        )
    )
    if len(wrong):
        traces = [str(trace) for trace in wrong["trace"].drop_duplicates().head(_LISTED)]
        left, right = st.columns([1, 3], vertical_alignment="bottom")
        with left:
            chosen = view.choice(
                "Misread trace, the surest first", traces, "misread", why_not="no trace that is misread"
            )
        with right:
            page_link("traces", artifact.part_of or artifact.name, f"Open trace {chosen}", trace=chosen)
        shared.table(wrong.drop(columns=["right"]), "misread", alt="Held-out problems that this probe misreads")
    else:
        view.ignore("misread")
    shared.chart(
        learning_curve_figure(curve),
        key="learning-curve-chart",
        alt="Held-out accuracy by number of training problems, with interval and controls",
    )
    shared.table(curve, "learning-curve", alt="Held-out accuracy by number of training problems, with its controls")


def swept_store(sweep: Sweep, path: Path) -> Artifact | None:
    """Return the store that was swept; where it cannot be opened here, draw how to open it, and return None.

    Args:
        sweep: The sweep.
        path: Folder of the store in a run; of the sweep where it stands alone.
    """
    store = path if (path / "manifest.jsonl").exists() else Path(str(sweep.notes.get("store", "")))
    given = opened.found().artifacts.values()
    artifact = next((item for item in given if item.kind == "store" and item.path == store.resolve()), None)
    if artifact is None:
        st.info("The store of this sweep is not below the folders of this dashboard. Open it too:")
        st.code(shlex.join(["cotlens", "dash", str(path), str(store)]), language="bash", wrap_lines=True)
    return artifact


def _confused(wrong: pd.DataFrame) -> str:
    (true, read), n = next(iter(wrong.groupby(["true", "read"]).size().sort_values(ascending=False).items()))  # type: ignore[misc]
    return f"{true} as {read} ({n} times)"


@st.cache_resource(max_entries=16, show_spinner="Fitting the probe of this cell again …")
def _fitted(
    store: str, written: int, target: str, place: str, address: str, estimator: str, split: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    from interp.activations import Store
    from probes.sweeps.curves import learning_curve
    from probes.sweeps.misread import held_out_readings

    source: Store = Store(store)
    options: dict[str, Any] = {"estimator": estimator, "split_seed": split}
    return (
        held_out_readings(source, target, place, address, **options),
        learning_curve(source, target, place, address, **options),
    )
