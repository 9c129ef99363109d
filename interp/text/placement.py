"""How many gold steps have a place in the visible thoughts of a set of traces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from interp.errors import UsageError
from interp.text.limits import MAX_UNPLACED
from interp.traces import LEFT_OUT, UNPLACED, Trace


@dataclass(frozen=True)
class StepPlacement:
    """Where the gold steps of visible thoughts are.

    Attributes:
        placed: Steps whose value has a position.
        left_out: Steps that are not written: nothing stands where they belong, or the answer is wrong. Reasoning that
            left its gold steps is no fault of the placement.
        unplaced: Steps of traces with a right answer that have no place, though something is written there.
    """

    placed: int
    left_out: int
    unplaced: int

    @property
    def unplaced_share(self) -> float:
        """The share of steps that have no place, among those that are not left out."""
        return self.unplaced / max(1, self.placed + self.unplaced)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts and the share as JSON values."""
        return {**asdict(self), "unplaced_share": self.unplaced_share}

    def __str__(self) -> str:
        """Return "steps: 980 placed, 12 left out, 8 could not be placed (0.8 %)"."""
        return (
            f"steps: {self.placed} placed, {self.left_out} left out, {self.unplaced} could not be placed "
            f"({self.unplaced_share:.1%})"
        )


def step_placement(traces: Sequence[Trace]) -> StepPlacement | None:
    """Return how many gold steps have a place.

    Args:
        traces: The traces.

    Returns:
        The counts; None for latent thoughts, for problems without steps, and for files that do not record it.
    """
    positions = [position for trace in traces for position in trace.value_positions]
    if not positions:
        return None
    left_out, unplaced = positions.count(LEFT_OUT), positions.count(UNPLACED)
    return StepPlacement(len(positions) - left_out - unplaced, left_out, unplaced)


def require_placed(traces: Sequence[Trace], max_unplaced: float = MAX_UNPLACED) -> StepPlacement | None:
    """Return how many gold steps have a place.

    Args:
        traces: The traces.
        max_unplaced: Largest share of steps that may have none.

    Raises:
        UsageError: More have none: labels at the places of the others would say little about the thoughts.
    """
    if not 0.0 <= max_unplaced <= 1.0:
        raise UsageError(f"expected max_unplaced to be a share from 0 to 1, got {max_unplaced}.")
    placement = step_placement(traces)
    if placement is not None and placement.unplaced_share > max_unplaced:
        trace, step = next((t, k) for t in traces for k, p in enumerate(t.value_positions) if p == UNPLACED)
        gold = trace.problem.steps[step]
        raise UsageError(
            f"expected at most {max_unplaced:.0%} of the steps without a place in the text, got "
            f"{placement.unplaced_share:.1%} ({placement.unplaced} of {placement.placed + placement.unplaced}). The first "
            f"is step {step + 1} of trace {trace.id}, {gold.text[:60]!r} with value {gold.value[:30]!r}, in "
            f"{trace.text[:120]!r}. Give the steps as the model writes them, or read the other steps alone with "
            f"--max-unplaced {min(1.0, placement.unplaced_share + 0.01):.2f}."
        )
    return placement
