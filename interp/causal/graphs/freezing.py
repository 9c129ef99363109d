"""Norms and attention with what makes them curved frozen: scales and patterns."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

_ATTENTION = "cotlens_frozen"
_LARGE = 1e3  # input to a norm at which its epsilon does not count
TOLERANCE = 1e-3  # of the largest value, in float32


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


@dataclass(frozen=True)
class FrozenNorm:
    """A norm with the scale that it had for one input.

    Attributes:
        gain: Its weights, shape (d,).
        bias: Its output for zeros, shape (d,).
        centres: Whether it takes the mean off.
        inverse_scale: One over the frozen scale of each row, shape (..., 1).
    """

    gain: Tensor
    bias: Tensor
    centres: bool
    inverse_scale: Tensor

    @classmethod
    def measure(cls, norm: Any, inputs: Tensor, outputs: Tensor) -> FrozenNorm:
        """Find out what a norm does from what it gives, so that every kind of norm is read in one way.

        Args:
            norm: The module.
            inputs: The inputs whose scale is frozen, shape (..., d).
            outputs: Its outputs for them.

        Raises:
            ValueError: It is not weights times inputs over one scale for each row.
        """
        d = inputs.shape[-1]
        probe = torch.linspace(0.5, 1.5, d, dtype=inputs.dtype, device=inputs.device)
        probe[::2] *= -1
        probe = probe - probe.mean()
        probe = probe / probe.square().mean().sqrt()
        bias = norm.forward(torch.zeros_like(probe)[None])[0]
        gain = (norm.forward(_LARGE * probe[None])[0] - bias) / probe
        level = norm.forward(torch.full_like(probe, _LARGE)[None])[0] - bias
        frozen = cls(gain, bias, bool(level.abs().max() < 0.1 * gain.abs().max()), torch.ones_like(inputs[..., :1]))
        unscaled, wanted = frozen(inputs) - bias, outputs - bias
        scale = (unscaled * wanted).sum(-1, keepdim=True) / unscaled.square().sum(-1, keepdim=True).clamp(min=1e-30)
        frozen = cls(gain, bias, frozen.centres, scale)
        if not close(frozen(inputs), outputs):
            raise ValueError(f"{type(norm).__name__} is not a norm with one scale for each position")
        return frozen

    def __call__(self, inputs: Tensor) -> Tensor:
        """Apply the norm with its frozen scale."""
        centred = inputs - inputs.mean(dim=-1, keepdim=True) if self.centres else inputs
        return centred * self.inverse_scale * self.gain + self.bias


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


def close(values: Tensor, expected: Tensor, tolerance: float = TOLERANCE) -> bool:
    """Return whether values are as expected, relative to the largest of them."""
    gap = (values - expected).abs().max() if np.prod(values.shape) else torch.zeros(())
    return bool(gap <= tolerance * expected.abs().max().clamp(min=1e-6))
