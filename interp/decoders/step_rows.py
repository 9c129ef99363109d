"""The rows at which steps are read, with their gold labels, structures and split, computed once for a store."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pandas as pd

from interp.activations import ActivationSource
from interp.activations.splits import trace_parts
from interp.activations.step_positions import step_positions
from interp.activations.targets import labels
from interp.decoders.base import STEP_VALUE, Output
from interp.errors import StoreError
from interp.problems import task as make_task
from interp.statistics.splits import Masks, masks_of
from interp.traces import THINKING


@dataclass(frozen=True)
class StepRows:
    """Rows at which steps are read, one for each step of a trace.

    Attributes:
        rows: Rows of the store's index; `step` and `read_step` are the step that is read.
        values: The gold value of each step, strings of shape (rows,).
        texts: The gold text of each step, strings of shape (rows,).
        structures: The structure of each row's problem, shape (rows,).
        parts: "train", "val" or "test", shape (rows,).
        split_seed: Seed of the split.
    """

    rows: pd.DataFrame
    values: np.ndarray
    texts: np.ndarray
    structures: np.ndarray
    parts: np.ndarray
    split_seed: int

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def steps(self) -> np.ndarray:
        """The step of each row, shape (rows,)."""
        return self.rows["read_step"].to_numpy()

    def gold(self, output: Output) -> np.ndarray:
        """Return the gold text of each row for a decoder with this output."""
        return self.values if output == STEP_VALUE else self.texts

    def select(self, mask: np.ndarray) -> StepRows:
        """Return the rows where a boolean mask is true."""
        return StepRows(
            self.rows[mask],
            self.values[mask],
            self.texts[mask],
            self.structures[mask],
            self.parts[mask],
            self.split_seed,
        )

    def split(self) -> Masks:
        """Return the train, validation and test rows as masks.

        Raises:
            UsageError: One of the three parts is empty.
        """
        return masks_of(self.parts, self.structures)


@dataclass(frozen=True)
class DecodeInputs:
    """What `decode` looks up in a store, each of it once: rows, gold labels, structures and the split.

    Attributes:
        store: The activations.
        split_seed: Seed of the split of problem structures into train, validation and test.
    """

    store: ActivationSource
    split_seed: int
    _by_offset: dict[int, StepRows] = field(default_factory=dict, init=False, repr=False, compare=False)

    def step_rows(self, offset: int) -> StepRows:
        """Return the rows at which steps are read `offset` positions from their last thought."""
        if offset not in self._by_offset:
            rows, values = _rows_and_values(self.store, self.readable, self._last_thoughts, offset)
            traces = rows["trace"].to_numpy()
            self._by_offset[offset] = StepRows(
                rows, values, _texts(self.store, rows), self.structures[traces], self._parts[traces], self.split_seed
            )
        return self._by_offset[offset]

    @cached_property
    def structures(self) -> np.ndarray:
        """The structure of each trace's problem, shape (traces,)."""
        return np.array([trace.problem.structure for trace in self.store.traces])

    @cached_property
    def offers(self) -> list[tuple[tuple[str, ...], ...]]:
        """The sets of words that each trace's question offers for its steps; empty where the task offers none."""
        task = make_task(self.store.traces[0].problem.task)
        return [task.guess_sets(trace.problem) for trace in self.store.traces]

    @cached_property
    def readable(self) -> pd.DataFrame:
        """Where a decoder could read a step: all thoughts, and the markers or the question's end beside them."""
        return _readable(self.store)

    @cached_property
    def _last_thoughts(self) -> pd.DataFrame:
        return step_positions(self.store)

    @cached_property
    def _parts(self) -> np.ndarray:
        """The part of each trace, shape (traces,)."""
        return trace_parts(self.store, self.split_seed)


def step_rows(store: ActivationSource, offset: int, output: Output = STEP_VALUE) -> tuple[pd.DataFrame, np.ndarray]:
    """Return the row at which each step of each trace is read, and its gold label.

    A step is left out where its position was not captured, or is no thought and not right beside one.

    Args:
        store: The activations.
        offset: Positions from the step's last thought.
        output: Whether labels are values or texts of steps.

    Returns:
        Rows of the store's index with columns `step` and `read_step`, and strings of shape (rows,).
    """
    rows, values = _rows_and_values(store, _readable(store), step_positions(store), offset)
    return (rows, values) if output == STEP_VALUE else (rows, _texts(store, rows))


def rows_before(store: ActivationSource, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the row one position earlier of each row.

    Raises:
        StoreError: It was not captured.
    """
    index = store.index
    captured = pd.MultiIndex.from_arrays([index["trace"], index["position"]])
    numbers = captured.get_indexer(pd.MultiIndex.from_arrays([rows["trace"], rows["position"] - 1]))
    if (numbers < 0).any():
        missing = rows.iloc[int(np.flatnonzero(numbers < 0)[0])]
        raise StoreError(
            f"expected the position before each thought, but position {missing['position'] - 1} of trace "
            f"{missing['trace']} is not in {store.name}; capture the channels latent, thought and special."
        )
    return index.iloc[numbers]


def _readable(store: ActivationSource) -> pd.DataFrame:
    """Return thoughts, markers, and where no marker begins a thought the question's end, right before the thought."""
    index = store.index
    thinking = index["channel"].isin(THINKING)
    before_first = index[thinking].groupby("trace")["position"].min() - 1
    begins = (index["place"] == "question end") & (index["trace"].map(before_first) == index["position"])
    return index[thinking | begins | index["place"].isin(["begin", "end"])]


def _rows_and_values(
    store: ActivationSource, readable: pd.DataFrame, last_thoughts: pd.DataFrame, offset: int
) -> tuple[pd.DataFrame, np.ndarray]:
    captured = pd.MultiIndex.from_arrays([readable["trace"], readable["position"]])
    wanted = pd.MultiIndex.from_arrays([last_thoughts["trace"], last_thoughts["position"] + offset])
    numbers = captured.get_indexer(wanted)
    rows = readable.iloc[numbers[numbers >= 0]].copy()
    rows["read_step"] = rows["step"] = last_thoughts["step"].to_numpy()[numbers >= 0]
    gold = labels(store, rows, STEP_VALUE)
    labelled = np.array([label is not None for label in gold], dtype=bool)
    return rows[labelled], gold[labelled].astype(str)


def _texts(store: ActivationSource, rows: pd.DataFrame) -> np.ndarray:
    pairs = zip(rows["trace"], rows["read_step"], strict=True)
    return np.array([store.traces[t].problem.steps[s - 1].text for t, s in pairs], dtype=object)
