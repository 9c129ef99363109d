"""The result of a sweep: its table, views of it, and its files."""

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
# Sweeps up to version 0.1 describe `question_only` like this: it used the state at the question's end too.
_OLD_QUESTION_ONLY = "the same probe on the state before any thinking"


class Sweep:
    """The result of a sweep.

    Args:
        frame: The table.
        notes: Splits, estimators, controls with their descriptions, reasons for missing controls, cells that were
            left out, and the store.
    """

    def __init__(self, frame: pd.DataFrame, notes: dict[str, Any]) -> None:
        self._frame, self.notes = frame, notes

    def table(self) -> pd.DataFrame:
        """Return one row for each target, place, address and estimator.

        Returns:
            Columns `accuracy` (held-out top-1), `ci_low`, `ci_high`, `val_accuracy`, one column for each control, `p`,
            `q`, `n` (structures tested), `n_classes` and further scores. Logistic cells have `unconverged`: how many of
            their fits, shuffled copies and other controls among them, did not converge. A control that could not be computed is NaN:
            `notes["why_not"]` has the reason. `notes["left_out"]` lists the cells with too few rows.
        """
        return self._frame

    def cell(self, target: str, place: str, address: str) -> pd.Series:
        """Return one row of the table.

        Args:
            target: Name of the target.
            place: Name of the place.
            address: Address, or an alias of it.

        Returns:
            The first row of this cell; a sweep of several estimators has one for each.

        Raises:
            UsageError: The sweep has no such cell.
        """
        f = self._frame
        cells = f[(f["target"] == target) & (f["place"] == place) & (f["address"] == str(Address(address)))]
        if cells.empty:
            raise UsageError(
                f"expected a cell of this sweep, got ({target}, {place}, {address}). Targets: {', '.join(self.targets)}."
            )
        return cells.iloc[0]

    def matched(self) -> pd.DataFrame:
        """Return the cells where each step's value is read by one rule for all steps, one row for each step.

        A rule is an address and an offset: read the value of step k at thought k + offset. The offset is 0 or -1,
        because at k + 1 the last step cannot be read. Where steps are written in several tokens, thought k is no step's,
        and each is read at `step k`, where its value is complete, with offset 0. Among the rules within one standard error of the best on
        validation, over all steps together, the rule with offset 0 and then the earliest address is chosen. Test
        scores are not used.

        Returns:
            Rows of `table()` with the columns `step` and `offset`, in the order of the steps.

        Raises:
            UsageError: The sweep has no step values, or no place at which every step can be read.
        """
        cells = self._frame[self._frame["target"].str.fullmatch(r"value_\d+")].copy()
        if cells.empty:
            raise UsageError(
                f"expected a sweep of the targets value_1, value_2, …, got {', '.join(self.targets)}; sweep them too."
            )
        cells["step"] = cells["target"].str.removeprefix("value_").astype(int)
        is_written = bool(self.notes.get("step_places"))
        name = "step" if is_written else "thought"
        thought = cells["place"].str.extract(rf"^{name} (\d+)$")[0].astype(float)
        # Without a begin marker, the question's end is the position before the first thought.
        before_first = "begin" if (cells["place"] == "begin").any() else "question end"
        if not is_written:
            thought = thought.where(cells["place"] != before_first, 0)
        cells["offset"] = thought - cells["step"]
        rules = []
        for (offset, address), part in cells[cells["offset"].isin([0.0] if is_written else [0.0, -1.0])].groupby(
            ["offset", "address"]
        ):
            if part["step"].nunique() == cells["step"].nunique():
                score = np.average(part["val_accuracy"], weights=part["n_val"])
                rules.append((-offset, part["depth"].iloc[0], score, part["n_val"].sum(), offset, address))
        if not rules:
            raise UsageError(
                "expected a place at which every step can be read, got none; sweep "
                f"{'the places step 1, step 2, …' if is_written else 'the thoughts and the begin marker'}."
            )
        rules.sort()
        best = rules[first_within_error([rule[2] for rule in rules], [rule[3] for rule in rules])]
        chosen = cells[(cells["offset"] == best[4]) & (cells["address"] == best[5])]
        return chosen.sort_values("step").reset_index(drop=True)

    @property
    def targets(self) -> list[str]:
        """The targets that were swept, in the order of the table."""
        return list(dict.fromkeys(self._frame["target"]))

    def heatmap(self, target: str | None = None) -> go.Figure:
        """Return a Plotly heatmap of held-out accuracy over places and addresses.

        Args:
            target: Name of the target; the first by default.

        Returns:
            The figure.
        """
        from probes.sweeps.figures import sweep_heatmap

        return sweep_heatmap(self._frame, target or self.targets[0])

    def save(self, folder: Path | str) -> None:
        """Write the table as Parquet and the notes as JSON into a folder.

        Args:
            folder: The folder to write; it is made where it does not exist.

        Raises:
            StoreError: The folder cannot be written.
        """
        commit(Path(folder) / _FILE, parquet_bytes(self._frame))
        commit(Path(folder) / _NOTES, (json.dumps(self.notes, indent=2) + "\n").encode())

    @classmethod
    def load(cls, folder: Path | str) -> Sweep:
        """Read a sweep that was saved.

        In sweeps of version 0.1 the control `question_only` also used the state at the question's end. It is read as
        `before_thinking`.

        Args:
            folder: The folder that `save` wrote.

        Returns:
            The sweep.

        Raises:
            StoreError: The folder holds no sweep that can be read.
        """
        folder = Path(folder)
        try:
            notes = json.loads((folder / _NOTES).read_text(encoding="utf-8"))
            return cls(*_with_current_names(pd.read_parquet(folder / _FILE), notes))
        except (OSError, ValueError) as error:
            raise StoreError(
                f"expected a probe sweep in {folder}, got an error ({error}); run `cotlens probe sweep`."
            ) from None


def _with_current_names(frame: pd.DataFrame, notes: dict[str, Any]) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Rename the old control `question_only` to `before_thinking` in the table and the notes."""
    controls = notes.get("controls", {})
    if not controls.get("question_only", "").startswith(_OLD_QUESTION_ONLY):
        return frame, notes
    names = {"question_only": "before_thinking"}
    renamed = {
        key: {names.get(name, name): text for name, text in notes[key].items()}
        for key in ("controls", "why_not")
        if key in notes
    }
    return frame.rename(columns=names), notes | renamed
