"""The picture "readable is not used" of the front page: `python -m benchmarks.readable`.

One thought of `chain-coconut` is read and then swapped at two places: where it is fed back, and one block later. A
probe reads the value at both. Only at the first does a donor of the same value leave the answer as it is.
The figures go to `benchmarks/results/readable.json`, the picture to `docs/readable.png` (needs Chromium).
"""

from __future__ import annotations

import json
import platform
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from interp.runtime import palette
from interp.runtime.files import commit

if TYPE_CHECKING:
    import plotly.graph_objects as go

ROOT = Path(__file__).parent.parent
RESULT = ROOT / "benchmarks" / "results" / "readable.json"
PICTURE = ROOT / "docs" / "readable.png"
ORGANISM, N_PROBLEMS, SEED = "chain-coconut", 1000, 7
PLACES = {
    "blocks.0.hook_in": "the thought as it is fed back",
    "blocks.0.hook_out": "the same position, one block later",
}


def measure() -> dict[str, Any]:
    """Read and swap the thoughts at both places.

    Returns:
        The kept result: for each place the worst step's held-out accuracy, and how often each edit changes the answer.
    """
    import cotlens

    reasoner = cotlens.load(ORGANISM)
    traces = reasoner.think(cotlens.task("chain").generate(N_PROBLEMS, seed=SEED, split="test"))
    recording = cotlens.record(reasoner, traces, sites="resid", channels=["latent", "answer"])
    rows = []
    for address, words in PLACES.items():
        readouts = cotlens.decode(recording, methods=["probe"], addresses=[address], offsets=[0])
        scores = readouts.scores()
        worst = scores.loc[scores["top1"].idxmin()]
        edits = cotlens.interchange(reasoner, traces, readouts).summary().query("step == 0").set_index("edit")
        rows.append(
            {
                "address": address,
                "place": words,
                "read": _rate(worst, "top1", "ci_low", "ci_high"),
                "same_value_changes": _rate(edits.loc["same value"], "change_rate", "change_low", "change_high"),
                "other_value_follows": _rate(edits.loc["other value"], "follow_rate", "ci_low", "ci_high"),
            }
        )
    return {
        "schema_version": 1,
        "name": "readable",
        "machine": f"{platform.machine()}, python {platform.python_version()}",
        "versions": {"torch": torch.__version__},
        "organism": ORGANISM,
        "problems": N_PROBLEMS,
        "seed": SEED,
        "places": rows,
    }


def _rate(row: Any, value: str, low: str, high: str) -> dict[str, float]:
    """Return a rate with its interval and its number of cases."""
    return {"value": float(row[value]), "low": float(row[low]), "high": float(row[high]), "n": int(row["n"])}


def figure(result: dict[str, Any]) -> go.Figure:
    """Return the bar chart of a kept result: for each place, what is read and what a same-value donor changes."""
    import plotly.graph_objects as go

    plot = go.Figure()
    bars = [
        ("read", "value read by a linear probe, worst step", palette.BLUE),
        ("same_value_changes", "answers changed by a donor with the same value", palette.VERMILLION),
    ]
    names = [place["place"] for place in result["places"]]
    for key, label, color in bars:
        rates = [place[key] for place in result["places"]]
        plot.add_bar(
            x=names,
            y=[rate["value"] for rate in rates],
            name=label,
            marker_color=color,
            text=[f"{rate['value']:.2f}" for rate in rates],
            textposition="outside",
            error_y={
                "type": "data",
                "symmetric": False,
                "array": [rate["high"] - rate["value"] for rate in rates],
                "arrayminus": [rate["value"] - rate["low"] for rate in rates],
                "thickness": 1,
            },
        )
    plot.update_yaxes(range=[0, 1.15], tickvals=[0, 0.5, 1], title="share")
    return plot.update_layout(
        template="plotly_white",
        barmode="group",
        font={"size": 16},
        height=380,
        width=940,
        margin={"t": 20, "b": 40, "l": 70, "r": 20},
        legend={"orientation": "h", "y": 1.16, "x": 0},
    )


def main() -> None:
    """Measure, keep the result and draw the picture."""
    from notebooks.execute import picture

    result = measure()
    commit(RESULT, (json.dumps(result, indent=2) + "\n").encode())
    png = picture(json.loads(figure(result).to_json()), width=940)
    if png is None:
        raise SystemExit("expected Chromium to draw the picture, got none; install it and run this again.")
    commit(PICTURE, png)


if __name__ == "__main__":
    main()
