"""Directions of values: mean states that steering adds to a thought."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from interp.causal.patching.patch import INPUT, addresses_of, thoughts_of_steps
from interp.causal.patching.states import contents
from interp.causal.patching.widths import widths_of_steps
from interp.errors import UsageError, unknown
from interp.traces import TraceSet

if TYPE_CHECKING:
    from interp.reasoners import Reasoner


class ValueToken(NamedTuple):
    """One of the tokens that write a step's value. A thought that is not text counts as one token.

    Attributes:
        step: Number of the step, from 1.
        n_steps: Number of steps of its problem.
        width: How many tokens write the value.
        back: How many tokens before the last one.
    """

    step: int
    n_steps: int
    width: int = 1
    back: int = 0


class Directions:
    """Mean states of values at one address, separately for each step, number of steps, and token of the value.

    A thought also holds which step it is and how many are left. Directions that pool steps would mislead. What the
    position embedding adds is left out, so that questions of any length can be pooled. Values that are written in
    different numbers of tokens are never pooled, because none of them can take the place of another.

    Attributes:
        values: For each number of tokens, the names of the values that are written in so many.
        means: For each token of a value the mean state of each of these values, shape (values, d_model).
        centres: For each token the mean over values, shape (d_model,).
        address: Hook name.
        offset: Thoughts after the step's last one.
    """

    def __init__(
        self,
        values: Mapping[int, list[str]],
        means: Mapping[ValueToken, Float[Tensor, "values d"]],
        address: str,
        offset: int,
    ) -> None:
        self.values, self.means, self.address, self.offset = values, means, address, offset
        self.centres = {token: of_token.mean(dim=0) for token, of_token in means.items()}

    def of(self, value: str, token: ValueToken) -> Float[Tensor, " d"]:
        """Return the direction of `value` at one of its tokens, from the mean over all values of as many tokens.

        Raises:
            UsageError: The value or the token has no direction.
        """
        values = self.values.get(token.width, [])
        if value not in values:
            raise unknown("value with a steering direction", value, values)
        if token not in self.means:
            raise unknown("token of a step with steering directions", token, self.means)
        return self.means[token][values.index(value)] - self.centres[token]

    @classmethod
    def fit(cls, reasoner: Reasoner, traces: TraceSet, *, address: str = INPUT, offset: int = 0) -> Directions:
        """Fit directions on the thoughts of correctly answered traces.

        Args:
            reasoner: The reasoner of the traces.
            traces: Traces to fit on, which should not be those that are steered.
            address: A hook name.
            offset: Thoughts after the step's last one.

        Returns:
            Directions of the steps at which most values occur, and of the values that occur at each of them.

        Raises:
            UsageError: Fewer than two values occur, or they have the same state.
        """
        (canonical,) = addresses_of(reasoner, address)
        rows, gold = thoughts_of_steps(traces, offset, only_right=True)
        width_of = widths_of_steps(reasoner, traces, offset)
        widths = [width_of(trace, step) for (trace, _), (step, *_) in zip(rows.tolist(), gold, strict=True)]
        where: list[tuple[int, int]] = []
        held: list[tuple[ValueToken, str]] = []
        values: dict[int, list[str]] = {}
        for width in sorted(set(widths)):
            values_at: dict[tuple[int, int], set[str]] = {}
            of_width = [k for k, other in enumerate(widths) if other == width]
            for step, n_steps, value in (gold[k] for k in of_width):
                values_at.setdefault((step, n_steps), set()).add(value)
            steps, shared = _steps_that_share_values(values_at)
            if len(shared) < 2:
                continue
            values[width] = shared
            for k in of_width:
                step, n_steps, value = gold[k]
                if (step, n_steps) in steps and value in shared:
                    where += [(rows[k, 0], rows[k, 1] - back) for back in range(width)]
                    held += [(ValueToken(step, n_steps, width, back), value) for back in range(width)]
        if not values:
            raise UsageError(
                f"expected thoughts of at least two values at offset {offset} of {reasoner.name}, got "
                f"{len({value for *_, value in gold})}, and no two that stand for each other at a step; take more "
                "problems, or another offset."
            )
        acts = contents(reasoner, traces, canonical, np.array(where))
        if torch.isclose(acts, acts[:1], rtol=1e-4, atol=1e-6).all():
            raise UsageError(
                f"expected states that differ between values at {canonical} of {reasoner.name}, got the same one for "
                "all: a fixed token is fed there; choose a later address, such as blocks.0.hook_out."
            )
        rows_of: dict[tuple[ValueToken, str], list[int]] = {}
        for row, key in enumerate(held):
            rows_of.setdefault(key, []).append(row)
        means = {
            token: torch.stack([acts[rows_of[token, value]].mean(dim=0) for value in values[token.width]])
            for token in sorted({token for token, _ in held})
        }
        return cls(values, means, address, offset)


def _steps_that_share_values(
    values_at: Mapping[tuple[int, int], Collection[str]],
) -> tuple[list[tuple[int, int]], list[str]]:
    """Return the steps at which most values occur, and the values that occur at each of them, which may be fewer than two.

    Args:
        values_at: The values that occur at each (step, number of steps).
    """
    most = max(map(len, values_at.values()), default=0)
    steps = sorted(step for step, values in values_at.items() if len(values) > most / 2)
    shared = set.intersection(*(set(values_at[step]) for step in steps)) if steps else set()
    if len(shared) < 2 and most > 1:  # few problems: the steps with most values that share two of them
        steps, shared = [], set().union(*values_at.values())
        for step in sorted(values_at, key=lambda step: (-len(values_at[step]), step)):
            if len(shared & set(values_at[step])) > 1:
                steps, shared = sorted([*steps, step]), shared & set(values_at[step])
    return steps, sorted(shared)
