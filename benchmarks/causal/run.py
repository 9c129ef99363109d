"""What the parts of `cotlens bench causal` share: organisms, sample sizes, tables, notes and estimates."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from benchmarks.papers.base import Organisms
from interp.errors import CotlensError
from interp.statistics.estimates import Estimate, Measure

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

SEED = 131
_FURTHER = 0.5  # factor on sample sizes for organisms of further training seeds


class Run:
    """The organisms, sample sizes, tables and notes of one run.

    Organisms are the shipped ones and, with a folder, those in it as `NAME-seedN`.
    """

    def __init__(self, folder: Path | None, scale: float) -> None:
        self.folder, self.scale = folder, scale
        self.tables: dict[str, pd.DataFrame] = {}
        self.notes: list[str] = []

    def size(self, n: int, training_seed: int = 0) -> int:
        """Return the sample size that this run uses in place of `n`, at least 20."""
        return max(20, round(n * self.scale * (1 if training_seed == 0 else _FURTHER)))

    def each(self, names: Sequence[str]) -> Iterator[tuple[str, str, int, Reasoner]]:
        """Yield (label, name, training seed, reasoner) of each organism, loaded one at a time; missing ones are noted."""
        for name in names:
            for of_seed in [Organisms(self.folder), *Organisms(self.folder).other_seeds([name])]:
                try:
                    reasoner = of_seed.load(name)
                except CotlensError as error:
                    self.notes.append(f"{name} of seed {of_seed.seed} was not measured: {error}")
                    continue
                yield name if of_seed.seed == 0 else f"{name}-seed{of_seed.seed}", name, of_seed.seed, reasoner


def mean(frame: pd.DataFrame, column: str) -> Measure:
    """Return the mean of a column with its interval over structures."""
    return Estimate.of_mean(frame[column].to_numpy(float), frame["structure"].to_numpy()).measure_or_none()


def above_chance(table: pd.DataFrame, edit: str) -> Measure:
    """Return how often the answer follows the step's value after an edit elsewhere, minus chance."""
    part = table[table["edit"] == edit]
    above = part["followed"].to_numpy(float) - part["chance"].to_numpy()
    return Estimate.of_difference(above, part["structure"].to_numpy()).measure_or_none()


def worst(figures: list[tuple[Any, Any]], choose: Any, note: str) -> dict[str, Any]:
    """Return the worst figure, with the figures of all organisms in its note.

    Args:
        figures: (row with column `organism`, its figure).
        choose: `min` or `max`, whichever is worse.
        note: Appended to the note.
    """
    known = [(row, figure) for row, figure in figures if figure["value"] is not None]
    if not known:
        return {"value": None, "note": f"no organism gave one; {note}"}
    row, chosen = choose(known, key=lambda pair: pair[1]["value"])
    values: dict[str, list[float]] = {}
    for other, figure in known:
        values.setdefault(other["organism"], []).append(figure["value"])
    by_organism = ", ".join(f"{name} {choose(of):.3f}" for name, of in values.items())
    return {**chosen, "note": f"the worst is {row['organism']}: {by_organism}; {note}"}
