"""What a rollout keeps of earlier positions: keys and values, or the inputs of models that keep no cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jaxtyping import Int
from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer


class PreallocatedLayer(DynamicLayer):
    """Keys and values of one layer, in buffers that double when they are full.

    Hugging Face's own layer copies all of its content for every new position.

    Args:
        capacity: Number of positions that the first buffers hold.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self._capacity, self._length = capacity, 0
        self._buffers: list[Tensor] = []

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Append new keys and values, and return all of them."""
        new = key_states.shape[-2]
        first, last = self._length, self._length + new
        if not self._buffers or last > self._capacity:
            self._grow(key_states, value_states, last)
        keys, values = self._buffers
        keys.narrow(-2, first, new).copy_(key_states)
        values.narrow(-2, first, new).copy_(value_states)
        self._length = last
        self.keys, self.values = keys.narrow(-2, 0, last), values.narrow(-2, 0, last)
        return self.keys, self.values

    def get_seq_length(self) -> int:
        """Return the number of positions."""
        return self._length

    def gather_columns(self, columns: Int[Tensor, "batch kept"]) -> None:
        """Put the columns with these numbers in place of the first `kept` columns of each row."""
        for buffer in self._buffers:
            index = columns[:, None, :, None].expand(-1, buffer.shape[1], -1, buffer.shape[3])
            buffer.narrow(-2, 0, columns.shape[1]).copy_(buffer.gather(2, index))

    def widen(self, n: int) -> None:
        """Append `n` columns of zeros to every row, to be masked."""
        zeros = [buffer.new_zeros(*buffer.shape[:2], n, buffer.shape[3]) for buffer in self._buffers]
        if zeros:
            self.update(*zeros)

    def replace_rows(self, rows: Int[Tensor, " rows"], other: PreallocatedLayer) -> None:
        """Make the last columns of some rows those of another layer, which has as many rows and no more columns."""
        first, n = self._length - other._length, other._length
        for buffer, new in zip(self._buffers, other._buffers, strict=True):
            buffer[rows, :, first : self._length] = new.narrow(-2, 0, n)

    def keep_rows(self, rows: Sequence[int]) -> None:
        """Keep only these rows, which ascend. They move up in place, so that no second cache is in memory."""
        for buffer in self._buffers:
            for new, old in enumerate(rows):
                if new != old:
                    buffer[new, :, : self._length].copy_(buffer[old, :, : self._length])
        self._buffers = [buffer.narrow(0, 0, len(rows)) for buffer in self._buffers]

    def drop_first(self, n: int) -> None:
        """Remove the first `n` columns of every row."""
        kept = self._length - n
        for buffer in self._buffers:
            buffer.narrow(-2, 0, kept).copy_(buffer.narrow(-2, n, kept).clone())
        self._length = kept

    def copies(self, n: int, capacity: int) -> PreallocatedLayer:
        """Return a layer of `n` rows with the content of this one, which has one row, and room for `capacity` positions."""
        copied = PreallocatedLayer(max(capacity, self._length))
        if self._buffers:
            keys, values = (buffer[..., : self._length, :] for buffer in self._buffers)
            copied.update(keys.expand(n, -1, -1, -1), values.expand(n, -1, -1, -1))
        return copied

    def _grow(self, keys: Tensor, values: Tensor, needed: int) -> None:
        self._capacity = max(self._capacity, needed, 2 * self._length)
        grown = [new.new_empty(*new.shape[:-2], self._capacity, new.shape[-1]) for new in (keys, values)]
        for buffer, old in zip(grown, self._buffers, strict=False):
            buffer[..., : self._length, :] = old[..., : self._length, :]
        self._buffers = grown
        self.dtype, self.device, self.is_initialized = keys.dtype, keys.device, True


class InputCache(DynamicCache):
    """The inputs of all positions so far, for models that forget what they have read: every pass reads them again.

    The one layer holds the embeddings as keys and the position ids as values, so that columns are moved as those of
    any cache.

    Args:
        capacity: Number of positions that fit before the buffers grow.
    """

    def __init__(self, capacity: int) -> None:
        super().__init__()
        self._inputs = PreallocatedLayer(capacity)
        self.layers = [self._inputs]

    def extend(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Append the inputs of new positions, and return those of all positions.

        Args:
            inputs: `inputs_embeds` (batch, new, d_model) and `position_ids` (batch, new); what else there is stays.
        """
        embeds, ids = inputs["inputs_embeds"], inputs["position_ids"]
        embeds, ids = self._inputs.update(embeds[:, None], ids[:, None, :, None])
        return {**inputs, "inputs_embeds": embeds[:, 0], "position_ids": ids[:, 0, :, 0]}
