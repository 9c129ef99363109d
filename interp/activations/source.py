"""The reading interface that stores on disk, recordings in memory and views of them share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float32

from interp.errors import UsageError, unknown
from interp.models.address import Address
from interp.traces import THINKING, Channel, TraceSet

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

NO_SENTENCES = "no trace here is divided into sentences (a text reasoner with `steps: text` does that)."


class ActivationSource(ABC):
    """Activations of finished traces: one row for each kept position, the same rows at every address.

    Decoders, sweeps and sparse autoencoders read from any source. `Store` keeps one on disk, `Recording` in memory.

    Attributes:
        meta: Description of the capture: reasoner, addresses, dtype, channels, `d_model`, `config_hash`.
        addresses: The captured addresses.
    """

    meta: dict[str, Any]
    addresses: list[Address]

    @property
    @abstractmethod
    def name(self) -> str:
        """What error messages and results call this source: the path of a store."""

    @property
    @abstractmethod
    def index(self) -> pd.DataFrame:
        """One row for each kept position, in the order of traces and positions.

        Columns: trace, position, token_id, token, channel, step, thought, sentence, place, shard, row. `sentence`
        numbers the sentences of a visible thought from 1; it is 0 elsewhere and where a reasoner does not divide its
        text.
        """

    @property
    @abstractmethod
    def traces(self) -> TraceSet:
        """The traces that the rows belong to."""

    @abstractmethod
    def load_reasoner(self) -> Reasoner:
        """Return the reasoner whose activations these are."""

    @abstractmethod
    def _read(
        self, address: Address, rows: slice | np.ndarray, out: np.ndarray | None
    ) -> Float32[np.ndarray, "rows d_model"]:
        """Return the rows of these numbers at a captured address, in `out` where it is given.

        `rows` is a slice `first:last` or an array of numbers; all of them exist and there is at least one.
        """

    @property
    def places(self) -> list[str]:
        """The places of the kept positions, in the order in which they are thought."""
        order = self.index.groupby("place", sort=False)["position"].mean()
        return sorted(order.index, key=lambda place: place_key(place))

    def rows(
        self,
        *,
        channel: str | Sequence[str] | None = None,
        place: str | None = None,
        sentence: int | Sequence[int] | None = None,
    ) -> pd.DataFrame:
        """Return the rows of the index that match all given conditions.

        Args:
            channel: One channel or several.
            place: A place, such as `thought 2`.
            sentence: Sentences of a visible thought, counted from 1.

        Returns:
            The matching part of `index`.

        Raises:
            UsageError: On a channel, place or sentence that does not occur.
        """
        rows = self.index
        if channel is not None:
            channels = [channel] if isinstance(channel, str) else list(channel)
            for name in channels:
                if name not in set(Channel):
                    raise unknown("channel", name, [c.value for c in Channel])
            rows = rows[rows["channel"].isin(channels)]
        if place is not None:
            rows = rows[rows["place"] == place]
            if rows.empty and not (self.index["place"] == place).any():
                raise unknown("place in this store", place, self.places)
        if sentence is not None:
            sentences = [sentence] if isinstance(sentence, int) else list(sentence)
            last = int(self.index["sentence"].max())
            if not all(1 <= number <= last for number in sentences):
                raise UsageError(
                    f"expected sentences from 1 to {last}, got {sentences}; choose among those."
                    if last
                    else NO_SENTENCES
                )
            rows = rows[rows["sentence"].isin(sentences)]
        return rows

    @property
    def thought_rows(self) -> pd.DataFrame:
        """The rows of thoughts, visible or latent."""
        return self.rows(channel=THINKING)

    def address(self, name: Address | str) -> Address:
        """Return the captured address of that name.

        Raises:
            UsageError: When it was not captured.
        """
        address = Address(str(name))
        if address not in self.addresses:
            raise unknown("address in this store", address, self.addresses)
        return address

    def acts(
        self,
        address: Address | str,
        rows: pd.DataFrame | np.ndarray | None = None,
        *,
        out: Float32[np.ndarray, "rows d_model"] | None = None,
    ) -> Float32[np.ndarray, "rows d_model"]:
        """Return the activations of `rows` at `address`, in float32.

        Args:
            address: A captured address.
            rows: A part of `index`, or row numbers or a mask over it, which is faster for random rows. All rows by
                default.
            out: Array to write into, shape (rows, d_model). It saves an allocation for each batch.

        Returns:
            Activations in the order of `rows`, shape (rows, d_model).

        Raises:
            UsageError: On an unknown address, or an `out` of another shape or dtype.
            IndexError: On row numbers outside the index.
        """
        captured, total = self.address(address), len(self.index)
        numbers = None if rows is None else self._row_numbers(rows)
        if not (total if numbers is None else len(numbers)):
            return np.empty((0, self.meta["d_model"]), np.float32)
        first, last = (0, total - 1) if numbers is None else (int(numbers.min()), int(numbers.max()))
        if first < 0 or last >= total:
            raise IndexError(f"expected row numbers from 0 to {total - 1}, got {first} to {last}")
        if numbers is None or (last - first == len(numbers) - 1 and (np.diff(numbers) == 1).all()):
            return self._read(captured, slice(first, last + 1), out)
        return self._read(captured, numbers, out)

    def trace_acts(self, trace: int) -> dict[Address, Float32[np.ndarray, "rows d_model"]]:
        """Return all kept rows of one trace, in order, at every address.

        Args:
            trace: Number of the trace, from 0.

        Returns:
            Activations by address, shape (rows, d_model) each.

        Raises:
            UsageError: When there is no such trace.
        """
        first, last = self._trace_rows(trace)
        return {address: self.acts(address, np.arange(first, last)) for address in self.addresses}

    def _trace_rows(self, trace: int) -> tuple[int, int]:
        """Return the number of a trace's first row, and of its last row + 1."""
        if not 0 <= trace < len(self._bounds) - 1:
            raise UsageError(f"expected a trace from 0 to {len(self._bounds) - 2}, got {trace}.")
        return int(self._bounds[trace]), int(self._bounds[trace + 1])

    @cached_property
    def _bounds(self) -> np.ndarray:
        """The number of each trace's first row, and the number of rows."""
        return np.searchsorted(self.index["trace"].to_numpy(), np.arange(self.meta["n_traces"] + 1))

    @cached_property
    def _starts(self) -> np.ndarray:
        """The number of each shard's first row, and the number of rows.

        The index is sorted by shard and row, so a binary search in this short array finds a row's shard without
        reading a column as long as the store.
        """
        shards = self.index["shard"].to_numpy()
        return np.searchsorted(shards, np.arange(shards[-1] + 2 if len(shards) else 1))

    def _row_numbers(self, rows: pd.DataFrame | np.ndarray) -> np.ndarray:
        """Return the numbers in the index of a part of it, or of a mask over it."""
        if isinstance(rows, np.ndarray):
            return np.flatnonzero(rows) if rows.dtype == bool else rows
        return self._starts[rows["shard"].to_numpy()] + rows["row"].to_numpy()


def place_key(place: str) -> tuple[int, int]:
    """Return a sort key that puts places in the order in which they are thought.

    Args:
        place: Name of a place, such as "thought 3".

    Returns:
        A pair of integers; unknown places come last.
    """
    name, _, number = place.rpartition(" ") if place[-1].isdigit() else (place, "", "0")
    order = (
        "question",
        "question end",
        "begin marker",
        "begin",
        "thought",
        "step",
        "sentence",
        "end marker",
        "end",
        "answer",
    )
    return order.index(name) if name in order else len(order), int(number)
