"""Directions of values: mean states that steering adds to a thought."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from interp.causal.patching.patch import INPUT, addresses_of, thoughts_of_steps
from interp.causal.patching.states import contents
from interp.errors import UsageError, unknown
from interp.traces import TraceSet

if TYPE_CHECKING:
    from interp.reasoners import Reasoner

StepOfMany = tuple[int, int]  # a step, and the number of steps of its problem


class Directions:
    """Mean states of values at one address, separately for each (step, number of steps).

    A thought also holds which step it is and how many are left. Directions that pool steps would mislead. What the
    position embedding adds is left out, so that questions of any length can be pooled.

    Attributes:
        values: Names of the values.
        means: For each (step, number of steps) the mean state of each value, shape (values, d_model).
        centres: For each (step, number of steps) the mean over values, shape (d_model,).
        address: Hook name.
        offset: Thoughts after the step's last one.
    """

    def __init__(
        self, values: list[str], means: dict[StepOfMany, Float[Tensor, "values d"]], address: str, offset: int
    ) -> None:
        self.values, self.means, self.address, self.offset = values, means, address, offset
        self.centres = {step: of_step.mean(dim=0) for step, of_step in means.items()}

    def of(self, value: str, step: StepOfMany) -> Float[Tensor, " d"]:
        """Return the direction of `value` at `step`, from the mean over all values.

        Raises:
            UsageError: The value or the step has no direction.
        """
        if value not in self.values:
            raise unknown("value with a steering direction", value, self.values)
        if step not in self.means:
            raise unknown("(step, steps) with steering directions", step, self.means)
        return self.means[step][self.values.index(value)] - self.centres[step]

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
        values_at: dict[StepOfMany, set[str]] = {}
        for step, n_steps, value in gold:
            values_at.setdefault((step, n_steps), set()).add(value)
        most = max(map(len, values_at.values()), default=0)
        steps = sorted(step for step, values in values_at.items() if len(values) > most / 2)
        values = sorted(set.intersection(*(values_at[step] for step in steps))) if steps else []
        if len(values) < 2 and most > 1:  # few problems: the steps with most values that share two of them
            steps, shared = [], set().union(*values_at.values())
            for place in sorted(values_at, key=lambda place: (-len(values_at[place]), place)):
                if len(shared & values_at[place]) > 1:
                    steps, shared = sorted([*steps, place]), shared & values_at[place]
            values = sorted(shared)
        if len(values) < 2:
            raise UsageError(
                f"expected thoughts of at least two values at offset {offset} of {reasoner.name}, got {len(values)}; "
                "take more problems, or another offset."
            )
        acts = contents(reasoner, traces, canonical, rows)

        def mean(step: StepOfMany, value: str) -> Tensor:
            return acts[[key == (*step, value) for key in gold]].mean(dim=0)

        if torch.isclose(acts, acts[:1], rtol=1e-4, atol=1e-6).all():
            raise UsageError(
                f"expected states that differ between values at {canonical} of {reasoner.name}, got the same one for "
                "all: a fixed token is fed there; choose a later address, such as blocks.0.hook_out."
            )
        means = {step: torch.stack([mean(step, value) for value in values]) for step in steps}
        return cls(values, means, address, offset)
