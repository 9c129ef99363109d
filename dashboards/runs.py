"""Read a run folder. The report and every page of the dashboard are made from it."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from pyarrow import parquet

from dashboards.describe import run_command, study_of
from dashboards.headline import headline
from dashboards.record import RUN_FILE
from dashboards.run_info import read_info
from interp.activations import Store
from interp.causal.interchanges.results import with_current_names
from interp.errors import StoreError
from interp.traces import TraceSet
from probes.sweeps.results import Sweep

# Columns of the tables that pages and report read, for runs without them.
_COLUMNS = {
    "readouts": (
        *("method", "trace", "step", "position", "address", "split", "structure", "gold", "text", "right", "top_k"),
        *("scores", "confidence", "offers", "other_problem"),
    ),
    "scores": ("method", "step", "site", "top1", "ci_low", "ci_high", "topk", "other_problem", "chance", "n"),
    "interchange": (
        *("trace", "step", "donor", "edit", "value", "donor_value", "predicted", "answer_before", "answer_after"),
        *("followed", "changed"),
    ),
}
TABLES = tuple(_COLUMNS)
# Tables of a run, and the stage that writes each.
_STAGES = {"sweep": "probe sweep", "readouts": "decoders", "scores": "decoders", "interchange": "interchange"}


class Run:
    """A finished run on disk.

    Args:
        path: Folder that `cotlens study` or `cotlens demo` wrote.

    Attributes:
        path: The folder.
        info: The content of its `run.json`. Runs of version 0.1 get the fields of this version.

    Raises:
        StoreError: The run is missing, unfinished or damaged, or the path is a store or a file of traces.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        try:
            info = read_info(self.path)
        except FileNotFoundError:
            info = _compared(self.path) or {}
        if not info:
            raise StoreError(_no_run(self.path))
        if not info.get("complete"):
            raise StoreError(f"the run at {self.path} is not finished. Resume it: `{run_command(self.path, info)}`.")
        self.info: dict[str, Any] = info
        if "headline" not in info:
            self.info = self._with_current_fields(info)

    def skipped(self, table: str) -> str | None:
        """Return why the run has no such table (`sweep`, `readouts`, `scores`, `interchange`); None where it has one."""
        skipped = {entry["stage"]: entry["why"] for entry in self.info.get("skipped", [])}
        return skipped.get(_STAGES[table])

    def _with_current_fields(self, info: dict[str, Any]) -> dict[str, Any]:
        """Return the content of an older `run.json` in the form of this version.

        Its steps named the cells of the probe sweep, which reads at one thought a step, whatever the decoders found. The
        probe's own score and place stand in their stead; the sweep's controls were measured elsewhere and are left out.
        """
        scores = self.scores
        probe = scores[scores["method"] == "probe"].set_index("step").to_dict("index") if len(scores) else {}
        steps = []
        for old in info.get("steps", []):
            row = probe.get(old["step"])
            if row is None:
                steps.append(old)
                continue
            kept = {key: value for key, value in old.items() if key.endswith(("_top1", "_ci")) or key == "step"}
            now = {"where": row["site"], "layer": row["site"].partition(", ")[0], "address": old["address"]}
            now |= {
                "position": old["position"] if row["site"].endswith("thought k") else row["site"].partition(", ")[2]
            }
            now |= {"probe_top1": row["top1"], "ci": [row["ci_low"], row["ci_high"]], "n": int(row["n"])}
            now |= {"chance": row["chance"], "other_problem": row["other_problem"], "q": None}
            steps.append(kept | now)
        controls = {
            "controls": {"other_problem": info.get("controls", {}).get("controls", {}).get("other_problem", "")},
            "why_not": {},
        }
        current = {"comparisons": [], "measures": [], "interchange": None, "sae": None, "skipped": []} | info
        current |= {"steps": steps, "controls": controls if steps else info.get("controls", {})}
        return current | {"headline": headline(current)}

    @property
    def traces_file(self) -> Path:
        """The file of its traces, which in runs of version 0.1 is part of the store."""
        path = self.path / "traces.parquet"
        return path if path.exists() else self.path / "store" / "traces.parquet"

    @cached_property
    def traces(self) -> TraceSet:
        """What the model thought."""
        return TraceSet.from_parquet(self.traces_file)

    @cached_property
    def store(self) -> Store:
        """Activations of the traces."""
        return Store(self.path / "store")

    @cached_property
    def sweep(self) -> Sweep:
        """The probe sweep with its controls.

        Raises:
            StoreError: It is lost, or the run has none (`skipped("sweep")` says why).
        """
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
        """One row for each edit of the interchange, with the column names of this version; none without edits."""
        return with_current_names(self._table("interchange"))

    @property
    def methods(self) -> list[str]:
        """The decoders of the run, in the order of the scores."""
        return list(dict.fromkeys(self.scores["method"])) if len(self.scores) else []

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
        """Read one of the run's Parquet tables; a table without rows where its stage was skipped."""
        if self.skipped(name) is not None:
            empty = pd.DataFrame(columns=_COLUMNS[name])
            return empty.astype({column: "int64" for column in ("trace", "step") if column in empty})
        try:
            return pd.read_parquet(self.path / f"{name}.parquet")
        except (OSError, ValueError) as error:
            raise self._damaged(name, error) from None

    def check_table(self, name: str) -> None:
        """Raise `StoreError` where a table of the run is missing, or is no Parquet file; its rows are not read."""
        if self.skipped(name) is None:
            try:
                parquet.read_metadata(self.path / f"{name}.parquet")
            except (OSError, ValueError) as error:
                raise self._damaged(name, error) from None

    def _damaged(self, name: str, error: Exception) -> StoreError:
        return StoreError(
            f"{self.path / name}.parquet cannot be read ({error}). Run it again: `{run_command(self.path, self.info)}`."
        )


def _compared(path: Path) -> dict[str, Any] | None:
    """Return what the run around says of an organism that it was compared with; None where `path` is no such folder."""
    if path.parent.name != "comparisons":
        return None
    try:
        around = read_info(path.parent.parent)
    except (FileNotFoundError, StoreError):
        return None
    entry = next((entry for entry in around.get("comparisons", []) if entry.get("organism") == path.name), None)
    if entry is None or "steps" not in entry:
        return None
    same = ("task", "n_problems", "seed", "chance", "versions", "split", "complete")
    info: dict[str, Any] = {
        "controls": {},
        "comparisons": [],
        "measures": [],
        "sae": None,
        "compared_with": around.get("organism"),
    }
    info |= {key: around[key] for key in same if key in around} | entry
    return info | {"headline": headline(info)}


def _no_run(path: Path) -> str:
    """Return the error for a path without a run: what is there instead, and the command that makes a run of it."""
    command = study_of(path)
    if command is not None:
        what = "a file of traces" if path.is_file() else "an activation store"
        return f"expected a run, got {what} at {path}. Make a run of its model: `{command}`."
    return f"no run at {path}. Make one: `cotlens study MODEL --out {path}`, or `cotlens demo --out {path}`."


def newest_run(root: Path = Path("runs")) -> Path:
    """Return the finished run below `root` that was written last.

    Raises:
        StoreError: There is none.
    """
    finished = [path.parent for path in root.glob(f"*/{RUN_FILE}") if _is_finished(path.parent)]
    if not finished:
        raise StoreError(f"no finished run below {root}/. Make one: `cotlens study MODEL`, or `cotlens demo`.")
    return max(finished, key=lambda run: (run / RUN_FILE).stat().st_mtime)


def _is_finished(folder: Path) -> bool:
    try:
        Run(folder)
    except StoreError:
        return False
    return True
