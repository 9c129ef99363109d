"""Probes: what a linear probe reads at every place and layer, beside every control."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from dashboards.artifacts.finding import Artifact
from dashboards.describe import run_command
from dashboards.probing.figures import squares
from dashboards.runs import Run
from dashboards.views import opened, shared
from dashboards.views.opened import facts
from dashboards.views.probe_parts import cell as cell_part
from dashboards.views.probe_parts import transfer
from dashboards.views.shared import as_text
from dashboards.views.url import View, go
from interp.activations.source import place_key
from interp.errors import counted
from interp.runtime import palette
from probes.sweeps.figures import layer_curve
from probes.sweeps.results import Sweep


def show() -> None:
    """Draw the page."""
    st.title("Probes")
    view = View()
    opened.with_artifact(view, "probes", lambda artifact: _page(artifact, view))


def _page(artifact: Artifact, view: View) -> None:
    if artifact.kind == "sweep":
        st.caption(as_text(f"A sweep of {facts(artifact).what} · {artifact.path}"))
        _sweep(Sweep.load(artifact.path), None, artifact.path, view)
        return
    run = opened.run_of(artifact.path)
    shared.run_caption(run)
    why_not = run.skipped("sweep")
    if why_not is not None:
        st.info(as_text(f"This run has no probe sweep: {why_not}"))
        view.check_rest()
        shared.copy_as(shared.opening(run) + "run.info['skipped']", run_command(run.path, run.info))
        return
    _sweep(run.sweep, run, run.path / "sweep", view)


def _sweep(sweep: Sweep, run: Run | None, path: Path, view: View) -> None:
    frame, controls = sweep.table(), list(sweep.notes["controls"])
    columns = st.columns(3)
    with columns[0]:
        target = view.choice("Target", sweep.targets, "target", label_of=_words, why_not="not in this sweep")
    cells = frame[frame["target"] == target]
    places = sorted(cells["place"].unique(), key=place_key)
    with columns[1]:
        place = view.choice(
            "Place",
            places,
            "place",
            default=_usual_place([] if run is None else run.info["steps"], target, cells),
            why_not="no place where this was swept",
        )
    here = cells[cells["place"] == place].sort_values("depth")
    with columns[2]:
        address = view.choice(
            "Layer",
            here["address"].tolist(),
            "address",
            default=str(here.loc[here["val_accuracy"].idxmax(), "address"]),
            label_of=dict(zip(here["address"], here["label"], strict=True)).__getitem__,
            why_not="no layer that was swept here",
            help="The best on validation where the URL names none.",
        )
    cell = here[here["address"] == address].iloc[0]
    folder = path if run is None else run.path / "store"
    cell_part.draw(cell, controls, sweep, folder, view)
    _controls(sweep)
    _cells(view, frame, cells, target, place, controls)
    shared.chart(
        squares(cells, controls, (place, str(cell["label"]))),
        key="map",
        alt=f"Held-out accuracy for {_words(target)} over place and layer",
        on_select=_clicked,
    )
    shared.chart(
        layer_curve(frame, target, place, controls),
        key="layers",
        alt=f"Held-out accuracy for {target} at {place} by layer, with interval and controls",
    )
    transfer.draw(cell, frame, sweep, folder, view)
    view.check_rest()
    _copy(sweep, run, path, target, place)


def _clicked() -> None:
    """Choose the cell that was clicked."""
    points = st.session_state["map"].selection.points
    if points and len(points[0].get("customdata", ())) > 1:
        go("place", str(points[0]["customdata"][0]))
        go("address", str(points[0]["customdata"][1]))


def _usual_place(steps: list[dict[str, Any]], target: str, cells: pd.DataFrame) -> str:
    """Return the place where the run reads this value; for other targets the best place on validation."""
    read_at = {f"value_{step['step']}": str(step["position"]) for step in steps}.get(target)
    return (
        read_at
        if read_at is not None and read_at in set(cells["place"])
        else str(cells.loc[cells["val_accuracy"].idxmax(), "place"])
    )


def _words(target: str) -> str:
    kind, _, number = target.rpartition("_")
    return f"value after step {number}" if kind == "value" else target.replace("_", " ")


def _controls(sweep: Sweep) -> None:
    """Draw what each control is, and why one is missing."""
    notes = sweep.notes
    with st.expander("What the controls are", icon=":material/balance:"):
        for name, meaning in notes["controls"].items():
            st.markdown(f"- **{as_text(palette.label(name))}**: {as_text(meaning)}")
    frame = sweep.table()
    for name, why in notes["why_not"].items():
        missing = int(frame[name].isna().sum()) if name in frame else len(frame)
        st.info(
            f"Control **{as_text(palette.label(name))}** is missing in {missing} of {counted(len(frame), 'cell')}: {as_text(why)}.",
            icon=":material/info:",
        )


def _cells(view: View, frame: pd.DataFrame, cells: pd.DataFrame, target: str, place: str, controls: list[str]) -> None:
    st.header("Every cell, with every control")
    every = view.flag("Cells of every target", "all_targets")
    shown = _with_margin(frame if every else cells, controls)
    left_out = len(frame) - len(shown)
    note = f" Left out: {left_out} cells of other targets." if left_out else ""
    st.caption(
        as_text(
            f"Shown: {len(shown)} of {counted(len(frame), 'cell')}, best margin over the strongest control first.{note} "
            "q is the false-discovery rate over the whole sweep (1e-300 is the floor); n counts problem structures."
        )
    )
    names: dict[str, Any] = {c: st.column_config.NumberColumn(palette.label(c), format="%.3f") for c in controls}
    shared.table(
        shown,
        "probe-cells" if every else f"probe-{target}",
        alt="Every cell of the sweep with accuracy, interval, controls and q-value",
        config=names
        | {
            "label": st.column_config.TextColumn("layer"),
            "accuracy": st.column_config.NumberColumn("top-1", format="%.3f"),
            "ci_low": st.column_config.NumberColumn("95 % from", format="%.3f"),
            "ci_high": st.column_config.NumberColumn("95 % to", format="%.3f"),
            "margin": st.column_config.NumberColumn("above best control", format="%.3f"),
            "q": st.column_config.NumberColumn(format="%.1e"),
            "n_classes": st.column_config.NumberColumn("values"),
        },
    )


def _with_margin(cells: pd.DataFrame, controls: list[str]) -> pd.DataFrame:
    """Return the columns to compare, with the margin of each cell over its strongest control."""
    available = [c for c in controls if c in cells and cells[c].notna().any()]
    margin = cells["accuracy"] - cells[available].max(axis=1) if available else float("nan")
    columns = ["target", "place", "label", "accuracy", "ci_low", "ci_high", "margin", *available, "q", "n", "n_classes"]
    if cells["target"].nunique() == 1:
        columns.remove("target")
    return cells.assign(margin=margin)[columns].sort_values("margin", ascending=False, ignore_index=True)


def _copy(sweep: Sweep, run: Run | None, path: Path, target: str, place: str) -> None:
    name = "sweep" if run is None else "run.sweep"
    start = f"import probes\n\nsweep = probes.Sweep.load({str(path)!r})\n" if run is None else shared.opening(run)
    python = (
        start
        + f"{name}.heatmap({target!r})\n"
        + f"cells = {name}.table()\ncells[(cells['target'] == {target!r}) & (cells['place'] == {place!r})]"
    )
    st.header("Code")
    store = str(sweep.notes.get("store", "STORE")) if run is None else str(run.path / "store")
    command = ["cotlens", "probe", "sweep", store, "--target", target]
    command += ["--splits", str(len(sweep.notes["splits"])), "--out", str(path.parent / f"sweep-{target}")]
    if run is not None and (run.path / "twin").exists():
        command += ["--random-init", str(run.path / "twin")]
    shared.copy_as(python, shlex.join(command))
