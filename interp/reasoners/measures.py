"""Entropies, log-probabilities and thoughts of a batch, kept on the device until the batch is done."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

from interp.reasoners.batch import Row

_PASSES_AT_ONCE = 64  # passes whose postponed entropies are computed together


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
        """Bring everything to the CPU and write it into the rows."""
        kept, self._thoughts = self._thoughts, []
        thoughts = torch.stack([embeds for embeds, _ in kept]).float().cpu() if kept else ()
        for values, (_, cells) in zip(thoughts, kept, strict=True):
            for row, k in cells:
                row.latents.append(values[k])
        measured, self._measured = self._measured, []
        measures = torch.stack([values for values, _ in measured]).tolist() if measured else ()
        for (entropy, logprob), (_, measured_cells) in zip(measures, measured, strict=True):
            for row, position, k, sampled in measured_cells:
                row.entropy[position] = entropy[k]
                if sampled:
                    row.logprob[position] = logprob[k]
        self._settle_postponed()

    def _settle_postponed(self) -> None:
        postponed, self._postponed = self._postponed, []
        for start in range(0, len(postponed), _PASSES_AT_ONCE):
            part = postponed[start : start + _PASSES_AT_ONCE]
            states = torch.cat([states[members] for states, _, members in part])
            log_p = torch.log_softmax(self._unembed(states).float(), -1)
            entropies = iter((-(log_p.exp() * log_p).sum(-1)).tolist())
            for _, cells, _ in part:
                for row, position in cells:
                    row.entropy[position] = next(entropies)
