"""Where the steps of a reasoner's thinking are in its traces."""

from __future__ import annotations

from interp.models.address import Address
from interp.reasoners.config import ReasonerConfig
from interp.traces import Channel, Trace


class Steps:
    """Finds the steps of a thought by the numbers that its positions carry.

    Args:
        config: How the reasoner thinks.
    """

    def __init__(self, config: ReasonerConfig) -> None:
        self.config = config

    @property
    def visible_tokens(self) -> int:
        """The number of visible tokens of each step, where steps are counted."""
        return self.config.thoughts_per_step

    def count(self, trace: Trace) -> int:
        """Return the number of steps that the reasoner thought in a trace; 0 where its thinking has none."""
        return max(trace.step, default=0)

    def location(self, trace: Trace, step: int) -> tuple[Address, int]:
        """Return the address and the position of the state after a step of a trace; step 0 is the question's end."""
        if not step:
            position = max(p for p, channel in enumerate(trace.channel) if channel == Channel.PROMPT)
        elif any(p >= 0 for p in trace.value_positions[:step]):
            position = max(trace.value_positions[:step])  # of the steps so far; this one may be left out
        else:
            position = max(p for p, number in enumerate(trace.step) if number <= step and trace.thought[p])
        return Address("ln_final.hook_out"), position

    def iteration_addresses(self) -> list[Address]:
        """Return the address of the state after each iteration; empty where the reasoner does not iterate layers."""
        return []
