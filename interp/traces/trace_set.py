"""Sets of traces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from interp.problems.base import Problem
from interp.runtime.files import commit
from interp.traces.files import ROW_GROUP, compacted, read_traces, traces_bytes
from interp.traces.trace import Trace


class TraceSet(Sequence[Trace]):
    """Traces of one reasoner, in order. A slice is a `TraceSet`, an index gives a `Trace`."""

    def __init__(self, traces: Sequence[Trace]) -> None:
        self._traces = list(traces)

    def __len__(self) -> int:
        return len(self._traces)

    def __iter__(self) -> Iterator[Trace]:
        return iter(self._traces)

    def __getitem__(self, key):  # type: ignore[no-untyped-def]
        return TraceSet(self._traces[key]) if isinstance(key, slice) else self._traces[key]

    @property
    def accuracy(self) -> float:
        """Share of traces with a right answer; NaN for an empty set."""
        return float(np.mean([trace.correct for trace in self])) if self._traces else float("nan")

    @property
    def problems(self) -> list[Problem]:
        """The problem of each trace."""
        return [trace.problem for trace in self]

    def table(self) -> pd.DataFrame:
        """Return the traces as a table.

        Returns:
            One row for each trace. Columns: trace, question, text, answer, gold, correct, n_steps, structure.
        """
        return pd.DataFrame(
            {
                "trace": [trace.id for trace in self],
                "question": [trace.problem.question for trace in self],
                "text": [trace.text for trace in self],
                "answer": [trace.answer for trace in self],
                "gold": [trace.problem.answer for trace in self],
                "correct": [trace.correct for trace in self],
                "n_steps": [trace.problem.n_steps for trace in self],
                "structure": [trace.problem.structure for trace in self],
            }
        )

    def compact(self) -> TraceSet:
        """Return the same traces in a tenth of the memory: their lists are made from columns when they are read."""
        parts = [self._traces[start : start + ROW_GROUP] for start in range(0, len(self), ROW_GROUP)]
        return TraceSet([trace for part in parts for trace in compacted(part)])

    def to_bytes(self) -> bytes:
        """Return the content of a Parquet file of the set."""
        return traces_bytes(self._traces)

    def to_parquet(self, path: Path | str) -> None:
        """Write the set to a Parquet file, atomically.

        Args:
            path: The file to write; one that exists is replaced.

        Raises:
            StoreError: The file cannot be written.
        """
        commit(Path(path), self.to_bytes())

    @classmethod
    def from_parquet(cls, path: Path | str) -> TraceSet:
        """Read a set from a file or URL.

        Args:
            path: A file or fsspec URL that `to_parquet` wrote.

        Returns:
            The traces, in the order of the file.

        Raises:
            StoreError: There is no such file, or it is not a readable trace file.
        """
        return cls(read_traces(path))

    @classmethod
    def part(cls, path: Path | str, first: int, last: int) -> TraceSet:
        """Read some consecutive traces of a file, without holding the others in memory.

        Args:
            path: A file or fsspec URL that `to_parquet` wrote.
            first: Index of the first trace to read.
            last: Index after the last trace to read.

        Returns:
            Traces `first` to `last` - 1.

        Raises:
            StoreError: There is no such file, or it is not a readable trace file.
        """
        return cls(read_traces(path, first, last))
