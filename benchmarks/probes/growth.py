"""Growth of the batched solver's time with rows, targets and width, beside scikit-learn and beside a lower bound.

scikit-learn's loop is timed on a few targets and extrapolated.
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
from benchmarks.probes.floor import TARGETS, floor
from interp.runtime.files import commit
from interp.runtime.progress import Progress
from probes.solvers.logistic import InMemory, binary, fit_logistic

if TYPE_CHECKING:
    import plotly.graph_objects as go

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
    """Return the shortest time in seconds at each size. Columns: axis, size, ours, sklearn, floor."""
    sizes = [(axis, size) for axis, values in GRID.items() for size in values]
    rows = []
    for number, (axis, size) in enumerate(sizes):
        chosen = {"rows": ROWS, "targets": TARGETS, "width": WIDTH} | {axis: size}
        rows.append({"axis": axis, "size": size, **timed(**chosen, repetitions=repetitions)})
        progress(number + 1, len(sizes))
    return pd.DataFrame(rows)


def timed(rows: int, targets: int, width: int, repetitions: int) -> dict[str, float]:
    """Return seconds of our solver, of the loop (extrapolated from two targets) and of the lower bound, on the same data."""
    x, y = labelled(rows, targets, width, seed=0)
    held = x[:1]
    data = torch.from_numpy(x)
    n_timed = min(targets, TIMED_TARGETS)
    return {
        "ours": least(lambda: fit_logistic(InMemory(data), binary(y, 1 / SCALED_C), tolerance=BINARY_TOL), repetitions),
        "sklearn": least(lambda: scaled_lbfgs(x, y[:, :n_timed], held, SCALED_C), 1) * targets / n_timed,
        "floor": least(lambda: floor(data, torch.from_numpy(y)), repetitions),
    }


def least(run: Callable[[], Any], repetitions: int) -> float:
    """Return the seconds of the shortest of `repetitions` runs, which other load disturbs least."""
    seconds = []
    for _ in range(repetitions):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return min(seconds)


def summary(times: pd.DataFrame) -> dict[str, float]:
    """Return the exponent of each axis (seconds ~ size ** exponent), and the time relative to the lower bound."""
    result = {}
    for axis, part in times.groupby("axis", sort=False):
        slope = np.polyfit(np.log(part["size"]), np.log(part["ours"]), 1)[0]
        result[f"{axis}_exponent"] = float(slope)
    reference = times[(times["axis"] == "rows") & (times["size"] == ROWS)].iloc[0]
    by_targets = times[(times["axis"] == "targets")].sort_values("size")
    result["over_floor"] = float(reference["ours"] / reference["floor"])
    result["seconds_per_further_target"] = float(
        (by_targets["ours"].iloc[-1] - by_targets["ours"].iloc[0])
        / (by_targets["size"].iloc[-1] - by_targets["size"].iloc[0])
    )
    result["seconds_for_one_target"] = float(by_targets["ours"].iloc[0])
    return result


def growth_figure(times: pd.DataFrame) -> go.Figure:
    """Return the plot of seconds over rows, targets and width, with one curve for each solver."""
    from plotly.subplots import make_subplots

    from interp.runtime import palette

    figure = make_subplots(cols=3, rows=1, shared_yaxes=True, horizontal_spacing=0.03)
    colors = dict(zip(COLUMNS, (palette.BLUE, palette.VERMILLION, palette.GREY), strict=True))
    for column, axis in enumerate(GRID, start=1):
        part = times[times["axis"] == axis].sort_values("size")
        for name, label in COLUMNS.items():
            figure.add_scatter(
                x=part["size"],
                y=part[name],
                name=label,
                legendgroup=name,
                showlegend=column == 1,
                line={"color": colors[name], "dash": "dot" if name == "floor" else "solid"},
                row=1,
                col=column,
            )
        figure.update_xaxes(type="log", title=axis, row=1, col=column)
    figure.update_yaxes(type="log").update_yaxes(title="seconds", col=1)
    title = f"Time of {TARGETS} binary targets on {ROWS:,} rows of width {WIDTH}, one of the three changed at a time"
    return figure.update_layout(
        title=title, template="plotly_white", height=430, legend={"orientation": "h", "y": -0.25}
    )


def keep_figure(times: pd.DataFrame, out: Path) -> Path:
    """Write the plot as one HTML file that needs no network; return its path."""
    commit(out, growth_figure(times).to_html(include_plotlyjs=True).encode())
    return out
