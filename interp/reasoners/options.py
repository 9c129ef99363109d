"""The options of `think`: as keyword arguments, and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypedDict

from jaxtyping import Float
from torch import Tensor

from interp.errors import UsageError, checked_count
from interp.reasoners.interventions import Intervention
from interp.reasoners.monitor import Monitor
from interp.reasoners.rollouts.batch import BatchState
from interp.reasoners.rollouts.sampling import Sampler

#: Sees the activations of the new positions while thinking, and which trace and position each cell is.
LoopHook = Callable[[Float[Tensor, "batch new d"], BatchState], None]


class ThinkOptions(TypedDict, total=False):
    """Keyword arguments of `think` and `thinking`.

    Attributes:
        batch_size: Problems that are thought about at once.
        seed: Seed of sampling.
        temperature: 0 takes the likeliest token, more draws at this temperature.
        top_p: Share of the probability that tokens are drawn from.
        interventions: Edits of activations. They name traces by their index among the problems.
        hooks: Hook name to a function that sees the activations and cannot change them.
        monitors: Monitors; each watches every trace on its own. They act before interventions at the same address.
        padding_side: Side on which shorter prompts are padded.
    """

    batch_size: int
    seed: int
    temperature: float
    top_p: float
    interventions: Sequence[Intervention]
    hooks: Mapping[str, LoopHook] | None
    monitors: Sequence[Monitor]
    padding_side: Literal["left", "right"]


@dataclass(frozen=True)
class CheckedThinkOptions:
    """`ThinkOptions` with defaults.

    Raises:
        UsageError: A value is out of range.
    """

    batch_size: int = 64
    seed: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    interventions: Sequence[Intervention] = ()
    hooks: Mapping[str, LoopHook] | None = None
    monitors: Sequence[Monitor] = ()
    padding_side: Literal["left", "right"] = "left"

    def __post_init__(self) -> None:
        checked_count("batch_size", self.batch_size)
        _ = self.sampler
        if self.padding_side not in ("left", "right"):
            raise UsageError(f"expected padding_side to be 'left' or 'right', got {self.padding_side!r}.")

    @property
    def sampler(self) -> Sampler:
        """The sampler with these options."""
        return Sampler(self.seed, self.temperature, self.top_p)
