"""One cell of a sweep: its score beside the strongest control, and the problems that it misreads."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from streamlit.testing.v1 import AppTest

from dashboards.probing.figures import squares
from interp.activations import Store
from interp.runtime import palette
from probes.sweeps.misread import held_out_readings
from probes.sweeps.results import Sweep

Open = Callable[..., AppTest]
Said = Callable[[AppTest], str]


def test_a_control_that_reads_as_well_is_the_headline(open_view: Open, demo_run: Path) -> None:
    sweep = Sweep.load(demo_run / "sweep")
    frame, controls = sweep.table(), list(sweep.notes["controls"])
    margin = frame["accuracy"] - frame[[c for c in controls if frame[c].notna().any()]].max(axis=1)
    for row in (frame.loc[margin.idxmin()], frame.loc[margin.idxmax()]):
        at = open_view("probes", target=row["target"], place=row["place"], address=row["address"])
        assert not at.error
        if margin[row.name] <= 0:
            assert "as well as the probe or better" in at.warning[0].value
        else:
            assert "The strongest control" in at.success[0].value and not at.warning


def test_a_cell_leads_to_the_traces_that_it_misreads(open_view: Open, said: Said, demo_run: Path) -> None:
    sweep = Sweep.load(demo_run / "sweep")
    worst = sweep.table().sort_values("accuracy").iloc[0]
    where = {name: str(worst[name]) for name in ("target", "place", "address")}
    at = open_view("probes", **where, again="yes")
    assert not at.error and not at.exception
    read = held_out_readings(
        Store(demo_run / "store"),
        where["target"],
        where["place"],
        where["address"],
        split_seed=sweep.notes["splits"][0],
    )
    wrong = read[~read["right"]]
    assert f"{len(wrong)} of {len(read)} held-out rows are misread" in said(at).replace("\u2060", "")
    options = at.selectbox(key="view_misread").options
    assert set(options) == set(map(str, wrong["trace"]))
    # The readings of one split are those that the sweep's score is the mean of.
    assert abs(read["right"].mean() - worst["accuracy"]) < 0.2


def test_a_sweep_whose_store_is_elsewhere_shows_how_to_open_it(
    open_view: Open, said: Said, demo_run: Path, tmp_path: Path
) -> None:
    shutil.copytree(demo_run / "sweep", tmp_path / "sweep")
    at = open_view("probes", tmp_path, again="yes")
    assert not at.error and "is not below the folders" in said(at)


def test_the_map_marks_what_controls_reach_and_the_chosen_cell(demo_run: Path) -> None:
    sweep = Sweep.load(demo_run / "sweep")
    frame = sweep.table()
    cells = frame[frame["target"] == sweep.targets[0]]
    controls = [c for c in sweep.notes["controls"] if cells[c].notna().any()]
    first = cells.iloc[0]
    figure = squares(cells, controls, (first["place"], first["label"]))
    drawn = json.loads(figure.to_json())["data"]
    framed = [k for k, colour in enumerate(drawn[0]["marker"]["line"]["color"]) if colour == palette.VERMILLION]
    assert framed == [0]
    n_beaten = int((cells[controls].max(axis=1) >= cells["accuracy"]).sum())
    assert n_beaten == (len(drawn[1]["x"]) if len(drawn) > 1 else 0)


def plain(text: str) -> str:
    """Text of a table without what escapes it."""
    return text.replace("\\", "").replace("\u2060", "")


def test_probes_are_tested_at_the_other_cells_beside_controls(open_view: Open, said: Said, demo_run: Path) -> None:
    at = open_view("probes", transfer="steps")
    assert not at.error and "read another cell than their own above both controls" in said(at)
    table = next(t.value for t in at.table if "fitted to" in t.value)
    assert {"accuracy", "95 % from", "95 % to", "shuffled labels", "majority"} <= set(map(plain, table.columns))
    assert len(table) == table["fitted to"].nunique() ** 2 > 1
    assert "Test probes on" in [box.label for box in at.selectbox]
    places = open_view("probes", transfer="places")
    assert not places.error
    shown = [t.value for t in (*places.table, *places.dataframe) if "fitted to" in t.value]
    assert len(shown) == 1 and len(shown[0]) == shown[0]["fitted to"].nunique() ** 2


def test_a_learning_curve_is_drawn_beside_its_table(open_view: Open) -> None:
    at = open_view("probes", again="yes")
    names = [json.loads(chart.proto.spec)["layout"]["title"]["text"] for chart in at.get("plotly_chart")]
    assert "Learning curve" in names
