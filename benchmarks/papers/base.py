"""A section of the papers' table, and the organisms that it is measured on."""

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
    """A figure that a paper reports, shown beside ours. It is never a target, because the models differ in size."""

    what: str
    figure: str
    source: str


@dataclass
class Section:
    """The results of one system.

    Attributes:
        name: Name of the module that measured it.
        title: Heading on the page.
        tables: Tables by caption.
        measures: Measures by id, as `benchmarks.measures.report` takes them.
        paper: What the paper reports.
        notes: What the numbers show. They are derived from the numbers, never written beforehand.
    """

    name: str
    title: str
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    measures: dict[str, dict[str, Any]] = field(default_factory=dict)
    paper: list[PaperFigure] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Organisms:
    """The organisms of one training seed.

    They are read from `folder`, where they are named `NAME-seedN`. For seed 0 the shipped organisms stand in.

    Attributes:
        folder: Folder of further trained organisms, or None.
        seed: Training seed.
        missing: Names of the organisms that could not be loaded.
    """

    def __init__(self, folder: Path | None = None, seed: int = 0) -> None:
        self.folder, self.seed = folder, seed
        self.missing: list[str] = []
        self._loaded: dict[str, Reasoner] = {}

    def load(self, name: str) -> Reasoner:
        """Return the reasoner called `name`; it is loaded once.

        Raises:
            StoreError: The organism is neither in the folder nor shipped; its name is added to `missing`.
        """
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
        """Return the organisms of every other seed for which the folder holds all of `names`."""
        if self.folder is None or not self.folder.is_dir():
            return []
        seeds_by_name = [
            {
                int(seed)
                for path in self.folder.glob(f"{name}-seed*")
                if (seed := path.name.rpartition("-seed")[2]).isdigit()
            }
            for name in names
        ]
        return [Organisms(self.folder, seed) for seed in sorted(set.intersection(*seeds_by_name) - {self.seed})]

    def load_or_note(self, name: str, section: Section) -> Reasoner | None:
        """Return the reasoner. Where it is missing, note that in the section and return None, so that the rest goes on."""
        try:
            return self.load(name)
        except CotlensError as error:
            note = f"{name} was not measured: {error}"
            if note not in section.notes:
                section.notes.append(note)
            return None
