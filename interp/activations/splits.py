"""Which rows of a store are fitted on, selected on and held out.

Where the problems have splits of the user's own (field `split` of a questions file), these are taken. Otherwise a seed
and the structure of the problem decide.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from interp.activations.targets import HasTraces
from interp.problems.questions.own_splits import has_own_splits
from interp.statistics.splits import SHARES, Masks, masks_of, split_parts

_VAL_SHARE = SHARES["val"] / (SHARES["train"] + SHARES["val"])


def trace_parts(source: HasTraces, seed: int) -> np.ndarray:
    """Return "train", "val" or "test" for each trace of a store.

    A file whose own splits have no validation part lends some structures of its training part to it, by the seed.

    Args:
        source: The store.
        seed: Seed of the split; it decides nothing where the user did.

    Returns:
        The part of each trace, shape (traces,).
    """
    problems = [trace.problem for trace in source.traces]
    groups = np.array([problem.structure for problem in problems])
    if not split_is_own(source):
        return split_parts(groups, seed)
    parts = np.array([problem.split for problem in problems])
    if not (parts == "val").any():
        lent = split_parts(groups, seed, shares={"train": 1 - _VAL_SHARE, "val": _VAL_SHARE})
        parts = np.where((parts == "train") & (lent == "val"), "val", parts)
    return parts


def split_rows(source: HasTraces, rows: pd.DataFrame, seed: int) -> Masks:
    """Return the train, validation and test rows of a store.

    Args:
        source: The store.
        rows: Part of its index, with the column `trace`.
        seed: Seed of the split.

    Raises:
        UsageError: One of the three parts is empty.
    """
    parts = trace_parts(source, seed)[rows["trace"].to_numpy()]
    groups = np.array([trace.problem.structure for trace in source.traces])[rows["trace"].to_numpy()]
    return masks_of(parts, groups)


def split_is_own(source: HasTraces) -> bool:
    """Return whether a store is split as the user's file says, which needs traces to fit on and traces to test."""
    problems = [trace.problem for trace in source.traces]
    return {"train", "test"} <= {problem.split for problem in problems} and has_own_splits(problems)


def seeds_of_splits(source: HasTraces, seeds: list[int]) -> list[int]:
    """Return the seeds of different splits: all of `seeds`, or the first where the user's file has the only split."""
    return seeds[:1] if split_is_own(source) else seeds


def describe_split(source: HasTraces, seed: int = 0) -> dict[str, Any]:
    """Return who decided the split of a store, `structure` or `file`, and by `file` the number of traces in each part.

    Where the file has splits of its own that leave nothing to fit on or to test, `unused` says so.
    """
    if split_is_own(source):
        parts = trace_parts(source, seed)
        return {"by": "file", **{part: int((parts == part).sum()) for part in SHARES}}
    problems = [trace.problem for trace in source.traces]
    if not has_own_splits(problems):
        return {"by": "structure"}
    given = ", ".join(sorted({problem.split for problem in problems}))
    return {"by": "structure", "unused": f"the questions file's own splits are not used, for all are {given}"}


def split_sentence(described: dict[str, Any]) -> str:
    """Return what `describe_split` says in a sentence; empty where the user decided nothing."""
    if described["by"] != "file":
        return described.get("unused", "")
    return (
        f"split of the questions file: {described['train']} traces to fit on, {described['val']} to select on, "
        f"{described['test']} to test"
    )
