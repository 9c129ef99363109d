"""What the parts of `bench causal` share: the organisms of every training seed that is there, tables, notes, figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from benchmarks.papers.base import Organisms
from interp.errors import CotlensError
from interp.statistics.estimates import Estimate

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

SEED = 131
_FURTHER = 0.5  # of the sample sizes, for organisms of further training seeds


class Run:
    """The shipped organisms, and with `folder` those of every seed that are in it as `NAME-seedN`."""

    def __init__(self, folder: Path | None, scale: float) -> None:
        self.folder, self.scale = folder, scale
        self.tables: dict[str, pd.DataFrame] = {}
        self.notes: list[str] = []

    def size(self, n: int, training_seed: int = 0) -> int:
        """Return the sample size for `n` at this scale; other training seeds get a smaller one."""
        return max(20, round(n * self.scale * (1 if training_seed == 0 else _FURTHER)))

    def each(self, names: Sequence[str]) -> Iterator[tuple[str, str, int, Reasoner]]:
        """(label, name, training seed, reasoner) of all that are there; what is not is noted. One is held at a time."""
        for name in names:
            for of_seed in [Organisms(self.folder), *Organisms(self.folder).other_seeds([name])]:
                try:
                    reasoner = of_seed.load(name)
                except CotlensError as error:
                    self.notes.append(f"{name} of seed {of_seed.seed} was not measured: {error}")
                    continue
                yield name if of_seed.seed == 0 else f"{name}-seed{of_seed.seed}", name, of_seed.seed, reasoner


def mean(frame: pd.DataFrame, column: str) -> dict[str, Any]:
    """The mean of a column with its interval over problem structures."""
    return measured(Estimate.of_mean(frame[column].to_numpy(float), frame["structure"].to_numpy()))


def measured(estimate: Estimate) -> dict[str, Any]:
    """Return value, ci and n; None where nothing was measured."""
    return estimate.measure() if estimate.n else {"value": None, "ci": None, "n": 0}


def above_chance(table: pd.DataFrame, edit: str) -> dict[str, Any]:
    """How much oftener than by luck the answer follows the step's value after an edit elsewhere."""
    part = table[table["edit"] == edit]
    above = part["followed"].to_numpy(float) - part["chance"].to_numpy()
    return measured(Estimate.of_difference(above, part["structure"].to_numpy()))


def worst(found: list[tuple[Any, dict[str, Any]]], choose: Any, note: str) -> dict[str, Any]:
    """The worst figure of all rows; its note has that of every organism."""
    known = [(row, each) for row, each in found if each["value"] is not None]
    if not known:
        return {"value": None, "note": f"no organism gave one; {note}"}
    row, each = choose(known, key=lambda pair: pair[1]["value"])
    values: dict[str, list[float]] = {}
    for other, figure in known:
        values.setdefault(other["organism"], []).append(figure["value"])
    told = ", ".join(f"{name} {choose(of):.3f}" for name, of in values.items())
    return {**each, "note": f"the worst is {row['organism']}: {told}; {note}"}
