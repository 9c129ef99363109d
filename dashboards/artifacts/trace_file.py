"""A file of traces, read lazily: one row of facts for each trace, a search through all text, and single traces."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from interp.errors import StoreError
from interp.traces import Trace, TraceSet

if TYPE_CHECKING:
    from interp.problems.base import Problem

# Columns that the list of traces is made of. Token lists are left on disk: they are most of the file.
_FACTS = ("id", "reasoner", "problem", "text", "answer", "correct")


class TraceFile:
    """A file of traces whose tokens stay on disk.

    Args:
        path: A Parquet file that `cotlens think` wrote.

    Raises:
        StoreError: There is no such file, or it is not a readable trace file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows = self._read(["id"]).num_rows
        self._channels: dict[str, np.ndarray] = {}

    def __len__(self) -> int:
        return self._rows

    @cached_property
    def _first(self) -> dict[str, Any]:
        first = self._file().iter_batches(batch_size=1, columns=["reasoner", "problem"])
        batch = next(first, None)
        if batch is None or not batch.num_rows:
            raise StoreError(f"{self.path} holds no traces.")
        return {name: batch.column(name)[0].as_py() for name in ("reasoner", "problem")}

    @cached_property
    def ids(self) -> np.ndarray:
        """Number of each trace, in the order of the file."""
        return self._read(["id"]).column("id").to_numpy()

    def problems(self, rows: np.ndarray) -> list[Problem]:
        """Return the problems of some rows of the file."""
        from interp.problems.base import Problem

        texts = self._read(["problem"]).column("problem").take(rows).to_pylist()
        return [Problem.from_json(text) for text in texts]

    def row_of_problem(self, problem: Problem) -> int | None:
        """Return the first row with the same problem; None where there is none."""
        import pyarrow.compute as pc

        row = pc.index(self._read(["problem"]).column("problem"), problem.to_json()).as_py()
        return None if row < 0 else int(row)

    def answers(self, rows: np.ndarray) -> list[str]:
        """Return the answers in some rows of the file."""
        return self._read(["answer"]).column("answer").take(rows).to_pylist()

    @property
    def steps(self) -> int:
        """Gold steps of the first trace's problem."""
        from interp.problems.base import Problem

        return Problem.from_json(self._first["problem"]).n_steps

    @property
    def reasoner(self) -> str:
        """Name of the reasoner of the first trace."""
        return str(self._first["reasoner"])

    @property
    def task(self) -> str:
        """Task of the first trace's problem."""
        from interp.problems.base import Problem

        return Problem.from_json(self._first["problem"]).task

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row for each trace.

        Columns: trace, question, wrote (all that the model wrote), answer, gold, correct, task, n_steps, tokens (of the
        whole trace), thoughts, entropy (mean in nats over what the model wrote).
        """
        from interp.problems.base import Problem

        facts = self._read(list(_FACTS)).to_pandas()
        problems = [Problem.from_json(text) for text in facts["problem"]]
        wrote = [
            f"{text} {answer}" if answer not in text else text
            for text, answer in zip(facts["text"], facts["answer"], strict=True)
        ]
        table = pd.DataFrame(
            {
                "trace": facts["id"],
                "question": [problem.readable for problem in problems],
                "wrote": wrote,
                "answer": facts["answer"],
                "gold": [problem.answer for problem in problems],
                "correct": facts["correct"].astype(bool),
                "task": [problem.task for problem in problems],
                "n_steps": [problem.n_steps for problem in problems],
            }
        )
        return table.assign(**self._lengths())

    def _lengths(self) -> dict[str, np.ndarray]:
        """Return tokens, thoughts and mean entropy of each trace, a part of the file at a time."""
        import pyarrow.compute as pc

        tokens, thoughts, entropies = [], [], []
        for batch in self._file().iter_batches(batch_size=2048, columns=["thought", "entropy"]):
            thought, entropy = batch.column("thought"), batch.column("entropy")
            tokens.append(pc.list_value_length(thought).to_numpy(zero_copy_only=False))
            flat = entropy.flatten().to_numpy(zero_copy_only=False).astype(float)
            thinks = thought.flatten().to_numpy(zero_copy_only=False) > 0
            rows = np.repeat(np.arange(len(batch)), tokens[-1])
            thoughts.append(np.bincount(rows, thinks, len(batch)).astype(int))
            known = np.isfinite(flat)
            sums, counts = (np.bincount(rows[known], w, len(batch)) for w in (flat[known], None))
            entropies.append(np.divide(sums, counts, out=np.full(len(batch), np.nan), where=counts > 0))
        joined = [np.concatenate(parts) if parts else np.zeros(0) for parts in (tokens, thoughts, entropies)]
        return dict(zip(("tokens", "thoughts", "entropy"), joined, strict=True))

    @cached_property
    def _texts(self) -> Any:
        """All text of each trace in lower case, as one Arrow column, so that a search takes milliseconds."""
        import pyarrow as pa

        table = self.table
        joined = (table["question"] + "\n" + table["wrote"] + "\n" + table["answer"]).str.lower()
        return pa.array(joined.to_numpy(object), pa.large_string())

    @cached_property
    def scripts(self) -> list[frozenset[str]]:
        """The scripts of the letters that the model wrote in each trace, such as LATIN and HAN."""
        from interp.text.languages import scripts

        return [frozenset(scripts("".join(set(text)))) - {"DIGIT"} for text in self.table["wrote"]]

    def search(self, text: str) -> np.ndarray:
        """Return which traces hold a text, in any case, in the question or in what the model wrote.

        Args:
            text: The words to look for, as they are; no pattern.
        """
        import pyarrow.compute as pc

        return pc.match_substring(self._texts, text.lower()).to_numpy(zero_copy_only=False).astype(bool)

    def has_channel(self, channel: str) -> np.ndarray:
        """Return which traces have a position of a channel. It is read when it is first asked for.

        Args:
            channel: Name of a channel, such as `latent`.
        """
        if channel not in self._channels:
            import pyarrow.compute as pc

            parts = []
            for batch in self._file().iter_batches(batch_size=2048, columns=["channel"]):
                lists = batch.column("channel")
                rows = np.repeat(np.arange(len(batch)), pc.list_value_length(lists).to_numpy(zero_copy_only=False))
                held = pc.equal(lists.flatten(), channel).to_numpy(zero_copy_only=False)
                parts.append(np.bincount(rows[held], minlength=len(batch)) > 0)
            self._channels[channel] = np.concatenate(parts) if parts else np.zeros(0, bool)
        return self._channels[channel]

    def trace(self, row: int) -> Trace:
        """Return the trace in a row of the file, reading only the part of the file that holds it."""
        return TraceSet.part(self.path, row, row + 1)[0]

    def _file(self) -> Any:
        import pyarrow.parquet as pq

        try:
            return pq.ParquetFile(self.path)
        except FileNotFoundError:
            raise StoreError(f"no traces at {self.path}. Make some with `cotlens think`, or check the path.") from None
        except (OSError, ValueError) as error:
            raise StoreError(f"{self.path} is not a readable trace file ({error}).") from None

    def _read(self, columns: list[str]) -> Any:
        file = self._file()
        missing = set(columns) - set(file.schema_arrow.names)
        if missing:
            raise StoreError(f"{self.path} is not a trace file of this project: it lacks {', '.join(sorted(missing))}.")
        try:
            return file.read(columns=columns)
        except (OSError, ValueError) as error:
            raise StoreError(f"{self.path} is not a readable trace file ({error}).") from None
