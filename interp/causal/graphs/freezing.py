"""Attention with its patterns frozen, and the tape of what is frozen in a pass."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

_ATTENTION = "cotlens_frozen"


@dataclass
class Tape:
    """What is frozen in a pass, in the order in which the pass needs it."""

    recording: bool = True
    values: list[Any] = field(default_factory=list)
    next: int = 0

    def take(self, measure: Callable[[], Any]) -> Any:
        """Measure and keep a value while recording; give it again afterwards."""
        if self.recording:
            self.values.append(measure())
        self.next += 1
        return self.values[self.next - 1]


def frozen_attention() -> str:
    """Name frozen attention to transformers, and return the name."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import eager_mask

    AttentionInterface.register(_ATTENTION, _attend)
    AttentionMaskInterface.register(_ATTENTION, eager_mask)
    return _ATTENTION


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, Tensor]:
    """Mix values by the recorded pattern; record it by the architecture's own eager attention."""

    def pattern() -> Tensor:
        eager = sys.modules[type(module).__module__].eager_attention_forward  # type: ignore[attr-defined]
        return eager(module, query, key, value, attention_mask, **options)[1].detach()

    weights = module.cotlens_tape.take(pattern)
    values = value.repeat_interleave(weights.shape[1] // value.shape[1], dim=1)
    return (weights @ values).transpose(1, 2).contiguous(), weights
