"""Entropies, log-probabilities and thoughts of a batch, kept on the device until the batch is done."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.reasoners.rollouts.batch import Row

_CHECKED_AT_ONCE = 16  # passes whose sums are looked at together
_PASSES_AT_ONCE = 64  # passes whose postponed entropies are computed together


class NonFiniteError(Exception):
    """What the model computed for a position is not finite. `Thinker` turns it into a message.

    Attributes:
        row: The batch row.
        position: The position in its trace whose state or logits they are.
        last: The last position of the same pass. Attention spreads NaN to earlier positions of a pass, because a masked
            weight of 0 times NaN is NaN.
    """

    def __init__(self, row: int, position: int, last: int) -> None:
        super().__init__(f"row {row}, position {position}")
        self.row, self.position, self.last = row, position, last


class FiniteCheck:
    """Collects sums of states and logits, which are finite only where all of their numbers are.

    The sums stay on the device until they are looked at, because a pass must not wait for it.
    """

    def __init__(self) -> None:
        self._pending: list[tuple[Tensor, Int[np.ndarray, "batch new"]]] = []

    def add(self, values: Float[Tensor, "batch new d"], positions: Int[np.ndarray, "batch new"]) -> None:
        """Note the values of some cells; position -1 is padding, whose values do not matter."""
        self._pending.append((values.sum(-1, dtype=torch.float32), positions))

    def settle_sometimes(self) -> None:
        """Look at what was noted once there is enough of it, so that a broken batch does not run to its end."""
        if len(self._pending) >= _CHECKED_AT_ONCE:
            self.settle()

    def settle(self) -> None:
        """Look at everything that was noted since the last time. Raises `NonFiniteError`."""
        pending, self._pending = self._pending, []
        if not pending or bool(torch.cat([sums.flatten() for sums, _ in pending]).isfinite().all()):
            return
        for sums, positions in pending:
            bad = ~sums.isfinite().cpu().numpy() & (positions >= 0)
            if bad.any():
                row = int(np.flatnonzero(bad.any(axis=1))[0])
                raise NonFiniteError(row, int(positions[row][bad[row]].min()), int(positions[row].max()))


class Measures:
    """What is measured while a batch is thought. Nothing of it steers the loop, which must not wait for the device.

    Args:
        unembed: The unembedding, from final-norm states to logits.
    """

    def __init__(self, unembed: Callable[[Tensor], Tensor]) -> None:
        self._unembed = unembed
        self._measured: list[tuple[Tensor, list[tuple[Row, int, int, bool]]]] = []
        self._postponed: list[tuple[Tensor, list[tuple[Row, int]], list[int]]] = []
        self._thoughts: list[tuple[Tensor, list[tuple[Row, int]]]] = []

    def measure(
        self,
        logits: Float[Tensor, "batch vocab"],
        ids: Int[Tensor, " batch"],
        cells: list[tuple[Row, int, int, bool]],
    ) -> None:
        """Measure the next token's entropy and the log-probability of `ids`.

        Args:
            logits: Logits before the tokens.
            ids: The tokens, on the device.
            cells: (row, position, batch row, whether the token was sampled) of each token. Only sampled tokens get a
                log-probability.
        """
        log_p = torch.log_softmax(logits, dim=-1)
        entropy = -(log_p.exp() * log_p).sum(-1)
        self._measured.append((torch.stack([entropy, log_p.gather(1, ids[:, None])[:, 0]]), cells))

    def postpone(
        self, states: Float[Tensor, "batch d_model"], cells: list[tuple[Row, int]], members: list[int]
    ) -> None:
        """Measure forced tokens later.

        Args:
            states: Final-norm states before the tokens.
            cells: (row, position) of each token.
            members: The batch row of each cell.
        """
        self._postponed.append((states, cells, members))

    def keep_thoughts(self, embeds: Float[Tensor, "batch d_model"], cells: list[tuple[Row, int]]) -> None:
        """Keep continuous thoughts; `cells` are (row, batch row)."""
        self._thoughts.append((embeds.detach(), cells))

    @torch.no_grad()
    def settle(self) -> None:
        """Bring everything to the CPU and write it into the rows.

        Raises:
            NonFiniteError: The logits before a forced token are not finite.
        """
        self.settle_thoughts()
        measured, self._measured = self._measured, []
        measures = torch.stack([values for values, _ in measured]).tolist() if measured else ()
        for (entropy, logprob), (_, measured_cells) in zip(measures, measured, strict=True):
            for row, position, k, sampled in measured_cells:
                row.entropy[position] = entropy[k]
                if sampled:
                    row.logprob[position] = logprob[k]
        self._settle_postponed()

    @torch.no_grad()
    def settle_thoughts(self) -> None:
        """Bring the continuous thoughts to the CPU and write them into the rows."""
        kept, self._thoughts = self._thoughts, []
        thoughts = torch.stack([embeds for embeds, _ in kept]).float().cpu() if kept else ()
        for values, (_, cells) in zip(thoughts, kept, strict=True):
            for row, k in cells:
                row.latents.append(values[k])

    def _settle_postponed(self) -> None:
        postponed, self._postponed = self._postponed, []
        for start in range(0, len(postponed), _PASSES_AT_ONCE):
            part = postponed[start : start + _PASSES_AT_ONCE]
            states = torch.cat([states[members] for states, _, members in part])
            log_p = torch.log_softmax(self._unembed(states).float(), -1)
            entropies = iter((-(log_p.exp() * log_p).sum(-1)).tolist())
            for _, cells, members in part:
                for (row, position), member in zip(cells, members, strict=True):
                    row.entropy[position] = next(entropies)
                    if row.entropy[position] != row.entropy[position]:
                        raise NonFiniteError(member, position - 1, position - 1)
