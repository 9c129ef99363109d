"""Read a run folder. The report and every page of the dashboard are made from it."""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from interp.activations import Store
from interp.causal.interchange_result import with_current_names
from interp.errors import StoreError
from interp.traces import TraceSet
from probes.sweeps.results import Sweep

RUN_FILE = "run.json"


class Run:
    """A finished run on disk.

    Args:
        path: Folder that `cotlens demo` wrote.

    Raises:
        StoreError: The run is missing, unfinished or damaged.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            self.info: dict[str, Any] = json.loads((self.path / RUN_FILE).read_text(encoding="utf-8"))
        except (FileNotFoundError, NotADirectoryError):
            raise StoreError(f"no run at {self.path}. Make one: `cotlens demo --out {self.path}`.") from None
        except (OSError, ValueError) as error:
            raise StoreError(f"{self.path / RUN_FILE} cannot be read ({error}).") from None
        if not isinstance(self.info, dict) or "organism" not in self.info:
            raise StoreError(f"{self.path / RUN_FILE} does not describe a run. Make one: `cotlens demo`.")
        if not self.info.get("complete"):
            options = {"organism": "organism", "n": "n_problems", "seed": "seed"}
            again = " ".join(f"--{option} {self.info.get(key)}" for option, key in options.items())
            raise StoreError(
                f"the run at {self.path} is not finished. Resume it: `cotlens demo --out {self.path} {again}`."
            )

    @cached_property
    def traces(self) -> TraceSet:
        """What the organism thought."""
        return TraceSet.from_parquet(self.path / "store" / "traces.parquet")

    @cached_property
    def store(self) -> Store:
        """Activations of the traces."""
        return Store(self.path / "store")

    @cached_property
    def sweep(self) -> Sweep:
        """The probe sweep with its controls."""
        return Sweep.load(self.path / "sweep")

    @cached_property
    def readouts(self) -> pd.DataFrame:
        """One row for each decoder and thought: what it reads there."""
        return self._table("readouts")

    @cached_property
    def scores(self) -> pd.DataFrame:
        """One row for each decoder and step: held-out scores and controls."""
        return self._table("scores")

    @cached_property
    def interchange(self) -> pd.DataFrame:
        """One row for each edit of the interchange, with the column names of this version."""
        return with_current_names(self._table("interchange"))

    @property
    def methods(self) -> list[str]:
        """The decoders of the run, in the order of the scores."""
        return list(dict.fromkeys(self.scores["method"]))

    def thoughts(self, method: str = "probe") -> pd.DataFrame:
        """One row for each silent thought that was read and edited, held-out problems only.

        Columns: trace, step, gold, text, confidence, right, top_k, other_problem, donor_value, predicted,
        answer_after, followed; the last four describe the other-value edit (NaN where no donor was found).
        """
        read = self.readouts
        read = read[(read["method"] == method) & (read["split"] == "test")]
        edits = self.interchange
        edits = edits[edits["edit"] == "other value"]
        wanted = ["trace", "step", "donor_value", "predicted", "answer_after", "followed"]
        return read.merge(edits[wanted], on=["trace", "step"], how="left").reset_index(drop=True)

    def _table(self, name: str) -> pd.DataFrame:
        """Read one of the run's Parquet tables."""
        try:
            return pd.read_parquet(self.path / f"{name}.parquet")
        except (OSError, ValueError) as error:
            raise StoreError(f"{self.path / name}.parquet cannot be read ({error}). Run the demo again.") from None


def newest_run(root: Path = Path("runs")) -> Path:
    """Return the finished run below `root` that was written last.

    Raises:
        StoreError: There is none.
    """
    finished = [path.parent for path in root.glob(f"*/{RUN_FILE}") if _is_finished(path.parent)]
    if not finished:
        raise StoreError(f"no finished run below {root}/. Make one: `cotlens demo`.")
    return max(finished, key=lambda run: (run / RUN_FILE).stat().st_mtime)


def _is_finished(folder: Path) -> bool:
    try:
        Run(folder)
    except StoreError:
        return False
    return True
