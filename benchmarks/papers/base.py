"""What one system of the papers' table reports."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from interp.errors import CotlensError, StoreError

if TYPE_CHECKING:
    from interp.reasoners import Reasoner


@dataclass(frozen=True)
class PaperFigure:
    """A figure that a paper reports, to stand beside ours: never a target, the scale differs."""

    what: str
    figure: str
    source: str


@dataclass
class Section:
    """One system: tables by caption, measures by id (as `benchmarks.measures.report` takes them), the paper's figures.

    `notes` say what the numbers above them show; they are written from the numbers, not beforehand.
    """

    name: str
    title: str
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    measures: dict[str, dict[str, Any]] = field(default_factory=dict)
    paper: list[PaperFigure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Organisms:
    """The organisms of one training seed: those in `folder` named `NAME-seedN`, and of seed 0 also the shipped ones.

    `missing` are those that were asked for and are not there.
    """

    def __init__(self, folder: Path | None = None, seed: int = 0) -> None:
        self.folder, self.seed = folder, seed
        self.missing: list[str] = []
        self._loaded: dict[str, Reasoner] = {}

    def load(self, name: str) -> Reasoner:
        """The reasoner called `name`, loaded once."""
        if name not in self._loaded:
            try:
                self._loaded[name] = self._read(name)
            except StoreError:
                self.missing.append(name)
                raise
        return self._loaded[name]

    def _read(self, name: str) -> Reasoner:
        from interp.loading.load import load

        of_seed = f"{name}-seed{self.seed}"
        if self.folder is not None and (self.folder / of_seed).is_dir():
            return load(self.folder / of_seed)
        if self.seed == 0:
            return load(name)
        raise StoreError(
            f"{of_seed} is not in the folder of organisms. Train it: `cotlens organisms train {name} "
            f"--training-seed {self.seed} --out FOLDER/{of_seed}`."
        )

    def other_seeds(self, names: Iterable[str]) -> list[Organisms]:
        """Those of each further seed of which all of `names` are in the folder."""
        if self.folder is None or not self.folder.is_dir():
            return []
        found = [
            {
                int(seed)
                for each in self.folder.glob(f"{name}-seed*")
                if (seed := each.name.rpartition("-seed")[2]).isdigit()
            }
            for name in names
        ]
        return [Organisms(self.folder, seed) for seed in sorted(set.intersection(*found) - {self.seed})]

    def load_or_note(self, name: str, section: Section) -> Reasoner | None:
        """The reasoner, or None with a note in the section where it is not there: a missing control stops nothing."""
        try:
            return self.load(name)
        except CotlensError as error:
            note = f"{name} was not measured: {error}"
            if note not in section.notes:
                section.notes.append(note)
            return None
