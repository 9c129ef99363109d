"""How the batched solver's time grows with rows, targets and width, beside scikit-learn's and beside the floor.

The floor is what any solver of this objective must do at least once: form the matrix of second moments in one pass
over the rows, factorise it, and score and differentiate every target in one more pass. scikit-learn's loop is timed on
a few targets and multiplied, which its column says.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import torch

from benchmarks.probes.contests import BINARY_TOL, ROWS, SCALED_C, WIDTH, labelled, scaled_lbfgs
from interp.runtime.files import commit
from interp.runtime.progress import Progress
from probes.solvers.logistic import InMemory, binary, fit_logistic

if TYPE_CHECKING:
    import plotly.graph_objects as go

TARGETS = 20
GRID = {
    "rows": (2_500, 5_000, 10_000, 20_000, 40_000, 80_000),
    "targets": (1, 5, 20, 80, 200, 400),
    "width": (32, 64, 128, 256, 512, 1024),
}
TIMED_TARGETS = 2
COLUMNS = {
    "ours": "batched solver",
    "sklearn": "scikit-learn, one target after another",
    "floor": "two passes and one factorisation",
}


def grow(progress: Progress, repetitions: int = 3) -> pd.DataFrame:
    """Seconds (the least of `repetitions`) at each size, one row for each: axis, size, ours, sklearn, floor."""
    sizes = [(axis, size) for axis, values in GRID.items() for size in values]
    rows = []
    for number, (axis, size) in enumerate(sizes):
        chosen = {"rows": ROWS, "targets": TARGETS, "width": WIDTH} | {axis: size}
        rows.append({"axis": axis, "size": size, **timed(**chosen, repetitions=repetitions)})
        progress(number + 1, len(sizes))
    return pd.DataFrame(rows)


def timed(rows: int, targets: int, width: int, repetitions: int) -> dict[str, float]:
    """Seconds of ours, of the loop (extrapolated from two targets) and of the floor, on the same data."""
    x, y = labelled(rows, targets, width, seed=0)
    held = x[:1]
    data = torch.from_numpy(x)
    some = min(targets, TIMED_TARGETS)
    return {
        "ours": least(lambda: fit_logistic(InMemory(data), binary(y, 1 / SCALED_C), tolerance=BINARY_TOL), repetitions),
        "sklearn": least(lambda: scaled_lbfgs(x, y[:, :some], held, SCALED_C), 1) * targets / some,
        "floor": least(lambda: floor(data, torch.from_numpy(y)), repetitions),
    }


def floor(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    """One pass for the second moments, one factorisation, one pass for scores and gradient of every target."""
    centred = x - x.mean(dim=0)
    factor = torch.linalg.cholesky(centred.T @ centred / len(x) + 1e-4 * torch.eye(x.shape[1]))
    start = torch.cholesky_solve(centred.T @ (y - 0.5).float(), factor)
    return centred.T @ (torch.sigmoid(centred @ start) - y)


def least(run: Callable[[], Any], repetitions: int) -> float:
    """The shortest of `repetitions` runs, in seconds: what the machine takes when nothing else disturbs it."""
    seconds = []
    for _ in range(repetitions):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def summary(found: pd.DataFrame) -> dict[str, float]:
    """What the growth comes to: the exponent of each axis (seconds ~ size ** exponent), and the distance to the floor."""
    said = {}
    for axis, part in found.groupby("axis", sort=False):
        slope = np.polyfit(np.log(part["size"]), np.log(part["ours"]), 1)[0]
        said[f"{axis}_exponent"] = float(slope)
    whole = found[(found["axis"] == "rows") & (found["size"] == ROWS)].iloc[0]
    most = found[(found["axis"] == "targets")].sort_values("size")
    said["over_floor"] = float(whole["ours"] / whole["floor"])
    said["seconds_per_further_target"] = float(
        (most["ours"].iloc[-1] - most["ours"].iloc[0]) / (most["size"].iloc[-1] - most["size"].iloc[0])
    )
    said["seconds_for_one_target"] = float(most["ours"].iloc[0])
    return said


def growth_figure(found: pd.DataFrame) -> go.Figure:
    """Seconds over rows, targets and width, each on two logarithmic axes, one curve for each contestant."""
    from plotly.subplots import make_subplots

    from interp.runtime import palette

    figure = make_subplots(cols=3, rows=1, shared_yaxes=True, horizontal_spacing=0.03)
    marks = dict(zip(COLUMNS, (palette.BLUE, palette.VERMILLION, palette.GREY), strict=True))
    for column, axis in enumerate(GRID, start=1):
        part = found[found["axis"] == axis].sort_values("size")
        for name, label in COLUMNS.items():
            figure.add_scatter(
                x=part["size"],
                y=part[name],
                name=label,
                legendgroup=name,
                showlegend=column == 1,
                line={"color": marks[name], "dash": "dot" if name == "floor" else "solid"},
                row=1,
                col=column,
            )
        figure.update_xaxes(type="log", title=axis, row=1, col=column)
    figure.update_yaxes(type="log").update_yaxes(title="seconds", col=1)
    title = f"Time of {TARGETS} binary targets on {ROWS:,} rows of width {WIDTH}, one of the three changed at a time"
    return figure.update_layout(
        title=title, template="plotly_white", height=430, legend={"orientation": "h", "y": -0.25}
    )


def keep_figure(found: pd.DataFrame, out: Path) -> Path:
    """The figure as one HTML file that needs no network."""
    commit(out, growth_figure(found).to_html(include_plotlyjs=True).encode())
    return out
