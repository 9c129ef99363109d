"""The result of a sweep: its table, its views, and its files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interp.activations.store import parquet_bytes
from interp.errors import StoreError, UsageError
from interp.models.address import Address
from interp.runtime.files import commit
from interp.statistics.intervals import first_within_error

if TYPE_CHECKING:
    import plotly.graph_objects as go

_FILE, _NOTES = "sweep.parquet", "sweep.json"


class Sweep:
    """The result of a sweep. `table()` is the whole of it; the rest are views."""

    def __init__(self, frame: pd.DataFrame, notes: dict[str, Any]) -> None:
        self._frame, self.notes = frame, notes

    def table(self) -> pd.DataFrame:
        """One row for each (target, place, address).

        Columns: accuracy (held-out top-1), ci_low, ci_high, val_accuracy, one column for each control, p, q, n
        (structures tested) and n_classes. A control that could not be computed is NaN; `notes["why_not"]` says why, and
        `notes["left_out"]` which cells had too few rows to be probed.
        """
        return self._frame

    def cell(self, target: str, place: str, address: str) -> pd.Series:
        """One row of the table. Raises `UsageError` when the sweep has no such cell."""
        f = self._frame
        found = f[(f["target"] == target) & (f["place"] == place) & (f["address"] == str(Address(address)))]
        if found.empty:
            raise UsageError(
                f"this sweep has no cell ({target}, {place}, {address}). Targets: {', '.join(self.targets)}."
            )
        return found.iloc[0]

    def matched(self) -> pd.DataFrame:
        """Where each step's value is read under one rule for all steps, and how well: one row for each step.

        The rule is an address and an offset: read the value of step k at thought k + offset, with offset 0 or
        -1 (at k + 1 the last step could not be read). Of the rules within one standard error of the best on
        validation, over all steps together, it is the one with offset 0 and the earliest address, because
        the thought itself should hold its value. Test scores play no part.
        """
        cells = self._frame[self._frame["target"].str.fullmatch(r"value_\d+")].copy()
        if cells.empty:
            raise UsageError(
                f"matched places need the targets value_1, value_2, …; this sweep has {', '.join(self.targets)}."
            )
        cells["step"] = cells["target"].str.removeprefix("value_").astype(int)
        thought = cells["place"].str.extract(r"^thought (\d+)$")[0].astype(float)
        cells["offset"] = thought.where(cells["place"] != "begin", 0) - cells["step"]
        rules = []
        for (offset, address), part in cells[cells["offset"].isin([0.0, -1.0])].groupby(["offset", "address"]):
            if part["step"].nunique() == cells["step"].nunique():
                score = np.average(part["val_accuracy"], weights=part["n_val"])
                rules.append((-offset, part["depth"].iloc[0], score, part["n_val"].sum(), offset, address))
        if not rules:
            raise UsageError(
                "no place was swept at which every step could be read; sweep the thoughts and the begin marker."
            )
        rules.sort()
        at = first_within_error([rule[2] for rule in rules], [rule[3] for rule in rules])
        chosen = cells[(cells["offset"] == rules[at][4]) & (cells["address"] == rules[at][5])]
        return chosen.sort_values("step").reset_index(drop=True)

    @property
    def targets(self) -> list[str]:
        return list(dict.fromkeys(self._frame["target"]))

    def heatmap(self, target: str | None = None) -> go.Figure:
        from probes.sweeps.figures import sweep_heatmap

        return sweep_heatmap(self._frame, target or self.targets[0])

    def save(self, folder: Path | str) -> None:
        commit(Path(folder) / _FILE, parquet_bytes(self._frame))
        commit(Path(folder) / _NOTES, (json.dumps(self.notes, indent=2) + "\n").encode())

    @classmethod
    def load(cls, folder: Path | str) -> Sweep:
        folder = Path(folder)
        try:
            return cls(pd.read_parquet(folder / _FILE), json.loads((folder / _NOTES).read_text()))
        except (OSError, ValueError) as error:
            raise StoreError(
                f"no readable probe sweep in {folder} ({error}). Make one: `cotlens probe sweep`."
            ) from None
