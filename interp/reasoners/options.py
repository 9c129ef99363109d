"""How a reasoner is let think: what `think` and `thinking` take beside the problems."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from interp.errors import UsageError, checked_count
from interp.problems.base import checked_seed
from interp.reasoners.interventions import BatchState, Intervention
from interp.reasoners.monitor import Monitor
from interp.reasoners.sampling import checked_sampling

# What sees activations while thinking: those of the new positions, and which trace and position each cell is.
LoopHook = Callable[[Float[Tensor, "batch new d"], BatchState], None]


@dataclass(frozen=True)
class ThinkOptions:
    """Greedy where `temperature` is 0, else sampled at `temperature` and `top_p` with `seed`.

    Interventions name traces by their place among the problems; monitors watch each trace and may inject a text or a
    vector, before any intervention at the same address; `hooks` see what passes each address. Raises `UsageError` on
    values that cannot be.
    """

    batch_size: int = 64
    seed: int = 0
    temperature: float = 0.0
    top_p: float = 1.0
    interventions: Sequence[Intervention] = ()
    hooks: Mapping[str, LoopHook] | None = None
    monitors: Sequence[Monitor] = ()
    padding_side: str = "left"

    def __post_init__(self) -> None:
        checked_count("batch_size", self.batch_size)
        checked_seed(self.seed)
        checked_sampling(self.temperature, self.top_p)
        if self.padding_side not in ("left", "right"):
            raise UsageError(f"padding_side must be 'left' or 'right', but {self.padding_side!r} came.")
