"""The columns of a batch that is being thought, and which of them are masked in which row."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from interp.models.cache import close_gaps
from interp.models.devices import to_device


class Columns:
    """The mask over the columns of a batch, in step with its cache.

    Args:
        n_rows: Rows of the batch.
        n_expected: Columns that the buffer has at first. It grows where there are more.
        device: The device of the mask.
        masks_by_key: Whether the model takes a mask over keys alone.
        always: Whether the model takes a mask also where nothing is masked.

    Attributes:
        n: The number of columns in use.
        mask: Which cells are real, on `device`; columns from `n` on are not in use.
        trailing: The number of masked columns at each row's end, kept by `close_gaps`.
    """

    def __init__(
        self, n_rows: int, n_expected: int, device: torch.device, *, masks_by_key: bool = False, always: bool = False
    ) -> None:
        self.n = 0
        self.mask: Bool[Tensor, "batch allocated"] = torch.zeros(n_rows, n_expected, dtype=torch.bool, device=device)
        self.trailing: Int[np.ndarray, " batch"] = np.zeros(n_rows, np.int64)
        self._masks_by_key = masks_by_key
        self._always = always
        self._has_gaps = False  # whether anything is masked

    def fill(self, n: int) -> None:
        """Put `n` columns at the front that are real in every row."""
        self.mask[:, :n], self.n = True, n

    def extend(self, real: Bool[np.ndarray, "batch new"], all_real: bool) -> Tensor | None:
        """Append columns, and return the mask in the form that the model takes; None where it masks nothing."""
        first, self.n = self.n, self.n + real.shape[1]
        if self.n > self.mask.shape[1]:
            self.mask = torch.nn.functional.pad(self.mask, (0, self.n))
        self.mask[:, first : self.n] = 1 if all_real else to_device(real, self.mask.device)
        self._has_gaps = self._has_gaps or not all_real
        mask = self.mask.narrow(1, 0, self.n)
        if self._masks_by_key and real.shape[1] == 1:
            return mask[:, None, None] if self._has_gaps else None
        return mask if self._has_gaps or self._always else None

    def positions(self) -> Int[np.ndarray, "batch n"]:
        """Return the position in its trace that each cell is; -1 where it is masked."""
        real = self.mask[:, : self.n].cpu().numpy()
        return np.where(real, np.cumsum(real, axis=1) - 1, -1)

    def close_gaps(self, cache: Any, real: Bool[np.ndarray, "batch new"]) -> None:
        """Move the masked columns at the end of each row that goes on to its front, before new ones are appended.

        Args:
            cache: The key-value cache, whose columns move along.
            real: The cells of the new columns. Those that are masked at a row's end are counted in `trailing`.
        """
        goes_on = real.any(axis=1)
        gaps = np.where(goes_on, self.trailing, 0)
        if gaps.any():
            columns = close_gaps(cache, to_device(gaps, self.mask.device))
            self.mask[:, : self.n] = self.mask[:, : self.n].gather(1, columns)
        after = real[:, ::-1].argmax(axis=1)
        self.trailing = np.where(goes_on, after, self.trailing + real.shape[1])

    def replace_rows(self, rows: list[int], mask: Bool[Tensor, "rows width"]) -> int:
        """Put other texts in place of some rows, at the end of the columns.

        Args:
            rows: The rows that are replaced.
            mask: The real cells of their new texts.

        Returns:
            The number of columns that had to be appended, because the new texts are longer than anything so far.
        """
        missing = max(0, mask.shape[1] - self.n)
        if missing:
            self.extend(np.zeros((len(self.mask), missing), bool), all_real=False)
            self.trailing += missing
        self.mask[rows, : self.n] = False
        self.mask[rows, self.n - mask.shape[1] : self.n] = mask
        self.trailing[rows] = 0
        self._has_gaps = True
        return missing

    def keep_rows(self, rows: list[int]) -> None:
        """Keep only these rows."""
        self.mask, self.trailing = self.mask[rows], self.trailing[rows]

    def drop_unused(self, share: float = 0.5) -> int:
        """Remove the first columns once a share of all are masked in every row, and return how many were removed."""
        used = self.mask[:, : self.n].any(dim=0)
        first = int(used.int().argmax())
        if first == 0 or first < share * self.n:
            return 0
        kept = self.n - first
        self.mask[:, :kept] = self.mask[:, first : self.n].clone()
        self.mask[:, kept:] = False
        self.n = kept
        return first
